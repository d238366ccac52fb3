//! Handlers of sessions that are connected when the gateway shuts down.

use std::{
    future::{pending, ready},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::session::Session;

/// How long handlers have.
const GRACE: Duration = Duration::from_millis(500);

/// A gateway with five connected clients, and their sessions.
async fn connected(directory: &TempDir) -> (Arc<AppState>, Vec<Arc<Session>>) {
    let config = settings(directory);
    let (state, gate) = state(&config);
    let exp = unix_secs(SystemTime::now()) + LIFETIME_SECS;
    for number in 0..5 {
        let token = token(&config, &format!("user-{number}"), exp);
        Client::admitted(&gate, &token).await;
    }
    let sessions = state.sessions.sessions.all();
    assert_eq!(sessions.len(), 5);
    (state, sessions)
}

#[tokio::test(start_paused = true)]
async fn disconnect_handlers_run_to_their_end_at_a_shutdown() {
    let directory = tempfile::tempdir().expect("a directory");
    let (state, sessions) = connected(&directory).await;
    let finished = Arc::new(AtomicUsize::new(0));
    for session in sessions {
        let finished = finished.clone();
        session.on_disconnect(|_| async move {
            tokio::time::sleep(GRACE / 2).await;
            finished.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert!(state.sessions.close_all(GRACE).await, "all have finished");
    assert_eq!(finished.load(Ordering::Relaxed), 5);
    assert_eq!(state.transport.quotas.sockets.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_handler_that_never_ends_delays_a_shutdown_by_the_grace_and_no_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let (state, sessions) = connected(&directory).await;
    sessions[0].on_disconnect(|_| pending());
    sessions[1].on_disconnect(|_| ready(()));
    let begun = Instant::now();
    assert!(!state.sessions.close_all(GRACE).await, "one is still there");
    assert_eq!(begun.elapsed(), GRACE);
}
