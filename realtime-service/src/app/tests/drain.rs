//! Clients that are handed over to other gateways, a few at a time.

use super::*;
use crate::session::Session;

/// Time over which the clients are told.
const WINDOW: Duration = Duration::from_secs(20);

/// Number of clients: five are due each second.
const CLIENTS: usize = 100;

/// The most that may come back in one second: 1.5 of an even share.
const MOST_A_SECOND: usize = 7;

/// A gateway, and what each of its clients hears until its end.
struct Drained {
    state: Arc<AppState>,
    gate: Gate,
    config: Config,
    ending: JoinSet<(Instant, String)>,
}

impl Drained {
    async fn with_clients(count: usize, directory: &TempDir) -> Self {
        let config = settings(directory);
        let (state, gate) = on_engine(&config);
        let mut drained = Self {
            state,
            gate,
            config,
            ending: JoinSet::new(),
        };
        for _ in 0..count {
            let client = drained.client().await;
            drained.ending.spawn(client.ended());
        }
        drained
    }

    /// Another client.
    async fn client(&self) -> Client {
        let exp = unix_secs(SystemTime::now()) + LIFETIME_SECS;
        Client::admitted(&self.gate, &token(&self.config, "user", exp)).await
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        self.state.sessions.sessions.all()
    }

    /// The times after `begun` at which the clients were gone, each of which was told before.
    async fn ends(&mut self, begun: Instant) -> Vec<Duration> {
        let mut ends = Vec::new();
        while let Some(ended) = self.ending.join_next().await {
            let (at, heard) = ended.expect("no panic");
            let told = heard.matches(r#"42["rt:drain",{"reconnect_in_ms":1000}]"#);
            assert_eq!(told.count(), 1, "{heard}");
            ends.push(at - begun);
        }
        ends
    }
}

/// Asks for a new session, and returns the status of the answer.
async fn opening(gate: &Gate) -> StatusCode {
    let client = Client {
        gate: gate.clone(),
        uri: "/socket.io/?EIO=4&transport=polling".to_owned(),
    };
    client.send(Method::GET, String::new()).await.0
}

/// Number of `times` in each second of the window.
fn seconds(times: &[Duration], begin: Duration) -> Vec<usize> {
    let mut seconds = vec![0; usize::try_from(WINDOW.as_secs()).expect("a few seconds")];
    for time in times {
        let second = (*time - begin).as_secs();
        seconds[usize::try_from(second).expect("a few seconds")] += 1;
    }
    seconds
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_evenly_over_the_window_and_closed_soon_after() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut drained = Drained::with_clients(CLIENTS, &directory).await;
    let begun = Instant::now();
    let plan = drained.state.start_drain(WINDOW);
    assert_eq!((plan.sockets, plan.window), (CLIENTS, WINDOW));
    let ends = drained.ends(begun).await;
    let per_second = seconds(&ends, drained.config.limits.drain());
    assert!(
        per_second
            .iter()
            .all(|count| (1..=MOST_A_SECOND).contains(count)),
        "{per_second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_window_of_0_tells_all_clients_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut drained = Drained::with_clients(CLIENTS, &directory).await;
    let begun = Instant::now();
    drained.state.start_drain(Duration::ZERO);
    let ends = drained.ends(begun).await;
    let grace = drained.config.limits.drain();
    let soon = grace..grace + Duration::from_millis(10);
    assert!(ends.iter().all(|end| soon.contains(end)), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_told_yet_is_served_and_new_ones_are_refused_until_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut drained = Drained::with_clients(2, &directory).await;
    assert_eq!(opening(&drained.gate).await, StatusCode::OK);
    drained.state.start_drain(WINDOW);
    assert!(drained.state.transport.is_draining());
    // The first one is told at once, and the second one after half of the window.
    tokio::time::sleep(WINDOW / 4).await;
    let [session] = &drained.sessions()[..] else {
        panic!("not one session");
    };
    assert!(session.is_live() && session.emit("still", &json!("there")));
    assert_eq!(
        opening(&drained.gate).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    // A drain that runs already goes on.
    let plan = drained.state.start_drain(Duration::ZERO);
    assert_eq!((plan.sockets, plan.window), (2, WINDOW));
    assert_eq!(drained.sessions().len(), 1);
    let mut heard = Vec::new();
    while let Some(ended) = drained.ending.join_next().await {
        heard.push(ended.expect("no panic").1);
    }
    let still: Vec<_> = heard.iter().filter(|all| all.contains("still")).collect();
    assert_eq!(still.len(), 1, "{heard:?}");
    tokio::time::sleep(drained.config.limits.drain()).await;
    assert!(!drained.state.transport.is_draining());
    assert_eq!(opening(&drained.gate).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_admitted_during_the_drain_is_told_at_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut drained = Drained::with_clients(2, &directory).await;
    // It has a session, and is admitted only after the drain has begun.
    let late = Client::opened(&drained.gate).await;
    let begun = Instant::now();
    drained.state.start_drain(Duration::from_secs(4));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let exp = unix_secs(SystemTime::now()) + LIFETIME_SECS;
    late.connect(&token(&drained.config, "late", exp)).await;
    drained.ending.spawn(late.ended());
    let mut ends = drained.ends(begun).await;
    ends.sort();
    let (first, last) = (ends[0].as_secs(), (ends[1].as_secs(), ends[2].as_secs()));
    assert_eq!((first, last), (0, (2, 2)), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_takes_the_place_of_a_drain_and_tells_nobody_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut drained = Drained::with_clients(CLIENTS, &directory).await;
    let begun = Instant::now();
    drained.state.start_drain(WINDOW);
    tokio::time::sleep(WINDOW / 2).await;
    // Among them are some that were told, and are not closed yet.
    assert!(drained.sessions().len() > CLIENTS / 2 - 1);
    drained.state.drain_for_shutdown(Duration::ZERO).await;
    let grace = drained.config.limits.drain();
    assert_eq!(begun.elapsed(), WINDOW / 2 + grace);
    let ends = drained.ends(begun).await;
    assert_eq!(ends.len(), CLIENTS);
    assert!(drained.sessions().is_empty());
    // The gateway does not come back.
    tokio::time::sleep(WINDOW).await;
    assert_eq!(
        opening(&drained.gate).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_with_the_last_client() {
    let directory = tempfile::tempdir().expect("a directory");
    // One is due every five seconds.
    let drained = Drained::with_clients(4, &directory).await;
    let begun = Instant::now();
    drained.state.start_drain(WINDOW);
    tokio::time::sleep(Duration::from_millis(10)).await;
    for session in drained.sessions() {
        session.disconnect(crate::metrics::Cause::Disconnected);
    }
    tokio::time::sleep(WINDOW / 2).await;
    assert!(!drained.state.transport.is_draining());
    let shutdown = Instant::now();
    drained.state.drain_for_shutdown(WINDOW).await;
    assert_eq!(shutdown.elapsed(), Duration::ZERO);
    assert!(begun.elapsed() < WINDOW);
}
