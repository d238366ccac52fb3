//! Handlers of an application that block their thread.

use tokio::{sync::mpsc::unbounded_channel, task::yield_now};

use super::*;

/// Time for which the handler blocks, by the wall clock: beyond the end of the token.
const BLOCKED: Duration = Duration::from_secs(2 * LIFETIME_SECS);

#[tokio::test(start_paused = true)]
async fn a_handler_that_blocks_its_thread_sends_nothing_after_the_end_of_its_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(&directory);
    let app = app(&config);
    let (note, mut noted) = unbounded_channel();
    let register = async move |socket: SocketRef, session: SessionRef| {
        session.on(&socket, "block", move |session, _| {
            let note = note.clone();
            async move {
                // From now on the handler runs in a task of its own.
                yield_now().await;
                let is_sent = session.emit("in time", &1);
                for_test::jump(BLOCKED);
                let sent = (is_sent, session.emit("too late", &1));
                note.send(sent).expect("a test that listens");
            }
        });
        Ok::<(), Infallible>(())
    };
    app.io().ns("/", guard(async || {}).with(register));
    let (_state, gate) = serving(app);
    for_test::jump(Duration::ZERO);
    let exp = unix_secs(wall_now()) + LIFETIME_SECS;
    let client = Client::admitted(&gate, &token(&config, "alice", exp)).await;
    client.send(Method::POST, "42[\"block\"]".to_owned()).await;
    assert_eq!(noted.recv().await, Some((true, false)));
    let heard = client.poll().await.1;
    assert!(
        heard.contains("in time") && !heard.contains("too late"),
        "{heard}"
    );
}
