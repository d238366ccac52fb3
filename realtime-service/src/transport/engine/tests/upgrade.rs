//! Upgrades from polling to a WebSocket.

use std::time::Duration;

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{
    super::{CloseCode, CloseReason, TransportKind},
    server::{Server, TestSession, WebSocket, settings},
};
use crate::transport::Packet;

async fn start() -> (Server, String, TestSession) {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let session = server.session().await;
    (server, sid, session)
}

async fn probe(server: &Server, sid: &str) -> WebSocket<TcpStream> {
    let mut websocket = WebSocket::open(server.connect().await, sid).await;
    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    websocket
}

#[tokio::test]
async fn an_upgrade_loses_no_packet_and_keeps_the_order() {
    let (server, sid, session) = start().await;
    let poll = server.get(&sid);
    let upgrade = async {
        while !session.state().is_polling() {
            tokio::task::yield_now().await;
        }
        probe(&server, &sid).await
    };
    let (polled, mut websocket) = tokio::join!(poll, upgrade);
    assert_eq!(polled, (200, "6".to_owned()));
    session.send(Packet::engine("4by poll"));
    assert_eq!(server.get(&sid).await, (200, "4by poll".to_owned()));
    session.send(Packet::engine("4first"));
    websocket.send("5").await;
    websocket.send("4second").await;
    assert_eq!(websocket.text().await, "4first");
    assert_eq!(websocket.text().await, "4second");
    assert_eq!(session.transport(), TransportKind::WebSocket);
    assert_eq!(server.get(&sid).await.0, 400);
    assert_eq!(server.post(&sid, b"4hello").await.0, 400);
}

#[tokio::test]
async fn packets_behind_the_upgrade_packet_are_read() {
    let (server, sid, _session) = start().await;
    let mut websocket = WebSocket::open(server.connect().await, &sid).await;
    for packet in ["2probe", "5", "4hello"] {
        websocket.send(packet).await;
    }
    assert_eq!(websocket.text().await, "3probe");
    assert_eq!(websocket.text().await, "4hello");
}

#[tokio::test]
async fn a_failed_probe_leaves_the_session_polling() {
    let (mut server, sid, session) = start().await;
    for packets in [&["5"][..], &["4hello"], &["2probe", "2"], &["1"]] {
        let mut websocket = WebSocket::open(server.connect().await, &sid).await;
        for packet in packets {
            websocket.send(packet).await;
        }
        let mut received = websocket.receive().await;
        while received.as_ref().is_some_and(|message| message.is_text()) {
            received = websocket.receive().await;
        }
        assert!(received.is_none_or(|message| message.is_close()));
        while session.state().start_probe().is_err() {
            tokio::task::yield_now().await;
        }
        session.state().fail_probe();
    }
    // A probe whose connection is lost fails too.
    drop(probe(&server, &sid).await);
    assert_eq!(server.post(&sid, b"4still here").await.0, 200);
    while session.state().is_upgrading() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get(&sid).await, (200, "4still here".to_owned()));
    assert!(server.has_no_other_end());
}

#[tokio::test(start_paused = true)]
async fn a_probe_has_a_deadline() {
    let (mut server, sid, session) = start().await;
    let since = tokio::time::Instant::now();
    let mut websocket = probe(&server, &sid).await;
    assert_eq!(websocket.close_code().await, Some(1008));
    assert!(since.elapsed() >= Duration::from_secs(10));
    assert_eq!(session.transport(), TransportKind::Polling);
    assert!(session.is_open() && server.has_no_other_end());
}

#[tokio::test]
async fn a_second_websocket_is_closed_and_the_first_goes_on() {
    let (server, sid, _session) = start().await;
    let mut websocket = probe(&server, &sid).await;
    let mut second = WebSocket::open(server.connect().await, &sid).await;
    assert_eq!(second.close_code().await, Some(1002));
    websocket.send("5").await;
    websocket.send("4hello").await;
    assert_eq!(websocket.text().await, "4hello");
    let mut third = WebSocket::open(server.connect().await, &sid).await;
    assert_eq!(third.close_code().await, Some(1002));
}

#[tokio::test]
async fn a_kill_in_the_middle_of_an_upgrade_closes_the_websocket() {
    let (mut server, sid, session) = start().await;
    let mut websocket = probe(&server, &sid).await;
    session.kill();
    assert_eq!(websocket.receive().await, None);
    assert_eq!(server.close_reason().await, CloseReason::Killed);
    assert_eq!(server.get(&sid).await.0, 400);
}

#[tokio::test]
async fn a_probe_whose_session_ends_has_the_code_of_the_end() {
    let (mut server, sid, session) = start().await;
    let mut websocket = probe(&server, &sid).await;
    session.close(CloseCode::GoingAway);
    assert_eq!(websocket.close_code().await, Some(1001));
    let requested = CloseReason::Requested(CloseCode::GoingAway);
    assert_eq!(server.close_reason().await, requested);
}

#[tokio::test]
async fn a_killed_websocket_forgets_the_session() {
    let (mut server, sid, session) = start().await;
    let mut websocket = probe(&server, &sid).await;
    websocket.send("5").await;
    websocket.send("4hello").await;
    assert_eq!(websocket.text().await, "4hello");
    session.kill();
    assert_eq!(websocket.receive().await, None);
    assert_eq!(server.close_reason().await, CloseReason::Killed);
    assert!(server.engine.session(&sid).is_none());
    assert!(server.has_no_other_end());
}

#[tokio::test]
async fn an_upgrade_fails_if_its_client_hangs_up_right_behind_the_handshake() {
    for hangs_up in [true, false] {
        let (server, sid, _session) = start().await;
        let mut first = server.begin_websocket(&sid, hangs_up).await;
        let mut status = [0; 12];
        let read = first.read(&mut status).await.expect("an answer or the end");
        assert_eq!(read == 0, hangs_up);
        let mut second = WebSocket::open(server.connect().await, &sid).await;
        if hangs_up {
            second.send("2probe").await;
            assert_eq!(second.text().await, "3probe");
        } else {
            assert_eq!(second.close_code().await, Some(1002));
        }
    }
}
