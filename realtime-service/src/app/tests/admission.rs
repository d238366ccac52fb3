//! Sessions on their way to the admission: what their clients hear first, and which deadlines they get.

use tokio::sync::mpsc::unbounded_channel;
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use super::*;
use crate::session::SessionContext;

/// A log that sends an event to every session at each line: a moment at which an application could.
struct EmittingLog(Arc<SessionContext>);

impl Subscriber for EmittingLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        for session in self.0.sessions.all() {
            session.emit("early", &1);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_connect_comes_before_everything_that_is_sent_at_the_same_time() {
    for start in [on_engine, on_socketioxide] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = settings(&directory);
        let (state, gate) = start(&config);
        let client = Client::opened(&gate).await;
        let log = tracing::subscriber::set_default(EmittingLog(state.sessions.clone()));
        let exp = unix_secs(wall_now()) + LIFETIME_SECS;
        client.connect(&token(&config, "alice", exp)).await;
        let mut packets = Vec::new();
        while !packets.iter().any(|one: &String| one.contains("early")) {
            let (_, polled) = client.poll().await;
            packets.extend(polled.split(SEPARATOR).map(str::to_owned));
        }
        drop(log);
        let first = packets.iter().find(|packet| *packet != "2");
        let first = first.expect("a packet that is no ping");
        assert!(first.starts_with("40{"), "{packets:?}");
    }
}

/// A gateway whose application runs `work` in a middleware. From now on the wall clock runs with the
/// clock of timers, which is paused.
fn with_middleware<Done>(
    config: &Config,
    work: impl FnOnce(SessionRef) -> Done + Clone + Send + Sync + 'static,
) -> Gate
where
    Done: Future<Output = ()> + Send + 'static,
{
    let app = app(config);
    let register = async move |session: SessionRef| {
        work(session).await;
        Ok::<(), Infallible>(())
    };
    app.io().ns("/", guard(async || {}).with(register));
    let (state, gate) = serving(app);
    let sessions = state.sessions.clone();
    tokio::spawn(async move { sessions.follow_wall_clock().await });
    for_test::jump(Duration::ZERO);
    gate
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_middleware_renews_counts_from_the_admission_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(&directory);
    let now = unix_secs(wall_now());
    let first = token(&config, "alice", now + LIFETIME_SECS);
    let later = token(&config, "alice", now + 2 * LIFETIME_SECS);
    let (note, mut noted) = unbounded_channel();
    let gate = with_middleware(&config, async move |session: SessionRef| {
        session.renew(&later).await.expect("the same principal");
        note.send(session.emit("early", &1))
            .expect("a test that listens");
    });
    let begun = Instant::now();
    let client = Client::admitted(&gate, &first).await;
    assert_eq!(noted.recv().await, Some(false), "it is not admitted yet");
    let (at, heard) = client.ended().await;
    assert!(heard.contains("token_expired"), "{heard}");
    let took = (at - begun).as_secs();
    let end = 2 * LIFETIME_SECS;
    assert!((end - 2..=end + 1).contains(&took), "after {took} s");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_during_a_middleware_ends_by_the_timers_when_it_is_admitted() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(&directory);
    let now = unix_secs(wall_now());
    let short = token(&config, "alice", now + 3);
    let gate = with_middleware(&config, async move |session: SessionRef| {
        session.renew(&short).await.expect("the same principal");
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    let client = Client::opened(&gate).await;
    client
        .connect(&token(&config, "alice", now + LIFETIME_SECS))
        .await;
    let (_, heard) = client.ended().await;
    let answer = heard.find("40{").expect("an answer to CONNECT");
    let told = heard.find("token_expired").expect("the end of the token");
    assert!(answer < told, "{heard}");
}

/// The jump of the wall clock during a middleware.
const JUMP: Duration = Duration::from_secs(2 * LIFETIME_SECS);

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_during_a_middleware_ends_the_token_at_the_admission() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(&directory);
    let gate = with_middleware(&config, async |_: SessionRef| {
        for_test::jump(JUMP);
        // The session is not admitted yet when the jump is noticed.
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    let exp = unix_secs(wall_now()) + 4 * LIFETIME_SECS;
    let lasting = Client::admitted(&gate, &token(&config, "lasting", exp)).await;
    let lasting = tokio::spawn(lasting.ended());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!lasting.is_finished(), "its token has not ended");
    let exp = unix_secs(wall_now()) + LIFETIME_SECS;
    let client = Client::opened(&gate).await;
    client.connect(&token(&config, "expiring", exp)).await;
    let connected = Instant::now();
    let (at, heard) = client.ended().await;
    assert!(heard.contains("token_expired"), "{heard}");
    let took = at - connected;
    assert!(took <= Duration::from_secs(2), "after {took:?}");
}
