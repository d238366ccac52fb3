//! Answers that hyper drops before it polls them, because the client has gone.

use http::header;

use super::*;
use crate::transport::listener::HttpService as _;

/// Waits until no task can go on without time.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_answer_is_dropped_has_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = settings(&directory);
    config.auth.anonymous = true;
    let (state, gate) = on_engine(&config);
    let (quota, sessions) = (&state.transport.quotas.sessions, &state.sessions.sessions);
    let count = || (quota.count(), sessions.count());
    for is_polled in [false, true] {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Connection::new(peer, Arc::default(), KillSwitch::default());
        let connection = Arc::new(connection);
        // A client of Engine.IO 3 joins by its handshake.
        let request = Request::get("/socket.io/?EIO=3&transport=websocket")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let request = request.body(Body::empty()).expect("a request");
        let answer = gate.answer(request, &connection);
        settled().await;
        assert_eq!(count(), (1, 1));
        if is_polled {
            assert_eq!(answer.await.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(count(), (1, 1), "the connection has the task");
        } else {
            drop(answer);
            settled().await;
            assert_eq!(count(), (0, 0));
        }
        drop(connection);
        settled().await;
        assert_eq!(count(), (0, 0));
    }
}
