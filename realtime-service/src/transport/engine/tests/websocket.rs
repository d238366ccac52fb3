//! Sessions on WebSockets.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::SinkExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    super::{CloseCode, CloseReason, EngineSettings, TransportKind, Violation},
    server::{Server, path, settings},
};
use crate::transport::Packet;

#[tokio::test]
async fn messages_and_pings_are_answered() {
    let mut server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    client.send("4h\u{f6}llo").await;
    assert_eq!(client.text().await, "4h\u{f6}llo");
    for message in [
        Message::binary(vec![1, 2, 3]),
        Message::binary(Vec::new()),
        Message::binary(vec![7; 900]),
    ] {
        client.0.send(message.clone()).await.expect("sent");
        assert_eq!(client.receive().await, Some(message));
    }
    let ping = Message::Ping(vec![9; 125].into());
    client.0.send(ping).await.expect("sent");
    let pong = Message::Pong(vec![9; 125].into());
    assert_eq!(client.receive().await, Some(pong));
    let session = server.session().await;
    assert_eq!(session.transport(), TransportKind::WebSocket);
}

#[tokio::test]
async fn a_client_that_closes_gets_its_close_frame_back() {
    let mut server = Server::start(settings()).await;
    for by_packet in [true, false] {
        let mut client = server.websocket().await;
        match by_packet {
            true => client.send("1").await,
            false => client.0.send(Message::Close(None)).await.expect("sent"),
        }
        assert_eq!(client.close_code().await, Some(1000));
        assert_eq!(client.receive().await, None);
        let reason = server.close_reason().await;
        assert_eq!(reason, CloseReason::ClosedByClient);
    }
}

#[tokio::test]
async fn a_violation_is_answered_by_its_close_code() {
    let mut server = Server::start(settings()).await;
    let invalid_text = [0x81, 0x81, 0, 0, 0, 0, 0xFF];
    let unmasked = [0x81, 0x01, b'3'];
    let too_large = [0x82, 0xFE, 0x10, 0];
    let raw: [(&[u8], u16); 3] = [(&invalid_text, 1007), (&unmasked, 1002), (&too_large, 1009)];
    for (bytes, code) in raw {
        let mut client = server.websocket().await;
        client.0.get_mut().write_all(bytes).await.expect("sent");
        assert_eq!(client.close_code().await, Some(code));
        let CloseReason::Violated(violation) = server.close_reason().await else {
            panic!("no violation");
        };
        assert_eq!(violation.close_code() as u16, code);
    }
    for packet in ["", "abc", "0", "2", "2probe", "5", "33", "4invalid"] {
        let mut client = server.websocket().await;
        client.send(packet).await;
        assert_eq!(client.close_code().await, Some(1002), "{packet}");
        let reason = CloseReason::Violated(Violation::Protocol);
        assert_eq!(server.close_reason().await, reason);
    }
}

#[tokio::test]
async fn a_message_is_bounded_by_what_the_session_may_cost() {
    let mut server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    let message = format!("4{}", "x".repeat(50_000));
    client.send("4admit").await;
    client.send(&message).await;
    assert_eq!(client.text().await, message);
    let mut other = server.websocket().await;
    other.send(&message).await;
    assert_eq!(other.close_code().await, Some(1009));
    let reason = CloseReason::Violated(Violation::TooLarge);
    assert_eq!(server.close_reason().await, reason);
}

#[tokio::test]
async fn the_last_packets_leave_before_the_close_frame_and_nothing_after_a_kill() {
    let mut server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    client.send("4close").await;
    assert_eq!(client.text().await, "4last");
    assert_eq!(client.close_code().await, Some(1000));
    let requested = CloseReason::Requested(CloseCode::Normal);
    assert_eq!(server.close_reason().await, requested);
    let mut client = server.websocket().await;
    client.send("4kill").await;
    assert_eq!(client.receive().await, None);
    assert_eq!(server.close_reason().await, CloseReason::Killed);
}

#[tokio::test]
async fn a_handler_that_panics_ends_one_session() {
    let mut server = Server::start(settings()).await;
    let mut other = server.websocket().await;
    let mut client = server.websocket().await;
    client.send("4panic").await;
    assert_eq!(client.close_code().await, Some(1011));
    let failed = CloseReason::Requested(CloseCode::InternalError);
    assert_eq!(server.close_reason().await, failed);
    other.send("4hello").await;
    assert_eq!(other.text().await, "4hello");
}

#[tokio::test]
async fn a_connection_that_ends_without_a_close_is_lost() {
    let mut server = Server::start(settings()).await;
    drop(server.websocket().await);
    assert_eq!(server.close_reason().await, CloseReason::ConnectionLost);
    assert!(server.has_no_other_end());
}

/// Opens a WebSocket, and sends messages until the client, which reads none, takes no more.
async fn blocked(server: &mut Server) -> (TcpStream, super::server::TestSession) {
    let mut tcp = server.connect().await;
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        path("websocket", "")
    );
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let session = server.session().await;
    let mut first = [0; 1];
    tcp.read_exact(&mut first).await.expect("a response");
    let packet = Packet::engine(&"x".repeat(1 << 20));
    while !session.is_blocked() {
        assert!(session.send(packet.clone()));
        tokio::task::yield_now().await;
    }
    (tcp, session)
}

/// Reads to the end, and returns whether the connection was reset.
async fn is_reset(tcp: &mut TcpStream) -> bool {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match tcp.read(&mut buffer).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
}

#[tokio::test]
async fn a_blocked_session_is_killed_at_once_with_all_that_waits() {
    let mut server = Server::start(settings()).await;
    let (mut tcp, session) = blocked(&mut server).await;
    // A close would have to wait for the client, so it is a kill.
    session.close(CloseCode::Normal);
    assert_eq!(session.queue().waiting().bytes, 0);
    let requested = CloseReason::Requested(CloseCode::Normal);
    assert_eq!(server.close_reason().await, requested);
    assert!(is_reset(&mut tcp).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_closed_after_the_write_stall() {
    let settings = EngineSettings {
        write_stall: Duration::from_secs(3),
        ..settings()
    };
    let mut server = Server::start(settings).await;
    let (_tcp, session) = blocked(&mut server).await;
    let since = tokio::time::Instant::now();
    assert_eq!(server.close_reason().await, CloseReason::WriteStalled);
    let elapsed = since.elapsed();
    assert!(elapsed >= Duration::from_secs(2) && elapsed < Duration::from_secs(4));
    assert_eq!(session.queue().waiting().bytes, 0);
}

#[tokio::test]
async fn a_client_that_reads_again_gets_everything() {
    let mut server = Server::start(settings()).await;
    let (mut tcp, session) = blocked(&mut server).await;
    session.send(Packet::engine("4the end"));
    let mut tail = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !tail.ends_with(b"4the end") {
        let read = tcp.read(&mut buffer).await.expect("more");
        assert!(read > 0);
        tail.extend_from_slice(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(100));
    }
    while session.is_blocked() {
        tokio::task::yield_now().await;
    }
    assert_eq!(session.queue().waiting().bytes, 0);
}

#[tokio::test]
async fn a_shutdown_closes_all_sessions_and_those_that_come_later() {
    let mut server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    let sid = server.poll_session().await;
    let engine = server.engine.clone();
    let (_, code) = tokio::join!(engine.shut_down(CloseCode::GoingAway), client.close_code());
    assert_eq!(code, Some(1001));
    assert_eq!(client.receive().await, None);
    assert_eq!(server.get(&sid).await, (200, "1".to_owned()));
    let mut late = server.websocket().await;
    assert_eq!(late.close_code().await, Some(1001));
    assert_eq!(late.receive().await, None);
    let requested = CloseReason::Requested(CloseCode::GoingAway);
    for _ in 0..3 {
        assert_eq!(server.close_reason().await, requested);
    }
    while server.engine.websockets() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn frames_that_come_with_the_request_are_read() {
    let mut server = Server::start(settings()).await;
    let mut tcp = server.connect().await;
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        path("websocket", "")
    );
    let frame = b"\x81\x83\0\0\0\x004hi";
    tcp.write_all(&[head.as_bytes(), frame].concat())
        .await
        .expect("sent");
    let mut received = Vec::new();
    while !received.ends_with(b"\x81\x034hi") {
        assert!(tcp.read_buf(&mut received).await.expect("more") > 0);
    }
    assert!(server.session().await.is_open());
}

/// Each idle WebSocket holds one session and one task.
#[test]
fn a_session_and_its_task_are_small() {
    use super::{super::websocket::WebSocketTask, server::TestHandler};
    assert!(size_of::<super::super::Session<()>>() <= 224);
    assert!(size_of::<WebSocketTask<TestHandler>>() <= 96);
}

#[tokio::test]
async fn a_session_ends_if_its_client_hangs_up_right_behind_the_handshake() {
    let mut server = Server::start(settings()).await;
    for hangs_up in [true, false] {
        let mut client = server.begin_websocket("", hangs_up).await;
        let session = server.session().await;
        let mut status = [0; 12];
        let read = client
            .read(&mut status)
            .await
            .expect("an answer or the end");
        // hyper does not poll the answer to a client that has gone.
        assert_eq!(read == 0, hangs_up);
        assert_eq!(session.is_open(), !hangs_up);
        drop(client);
        assert_eq!(server.close_reason().await, CloseReason::ConnectionLost);
        assert!(server.has_no_other_end());
    }
}

/// A text message of the client, masked with zeros (RFC 6455, section 5.3).
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let [high, low] = length.to_be_bytes();
    [&[0x81, 0xFE, high, low, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Sends whole frames without waiting, as many as the connection takes, and returns their number.
fn try_send(tcp: &TcpStream, frame: &[u8], most: usize) -> usize {
    let mut sent = 0;
    while sent < most {
        match tcp.try_write(frame) {
            Ok(written) if written == frame.len() => sent += 1,
            Ok(_) => panic!("a frame in part"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[tokio::test]
async fn a_client_that_floods_does_not_hold_up_another() {
    let mut server = Server::start(settings()).await;
    let mut flooding = server.websocket().await;
    let session = server.session().await;
    let mut other = server.websocket().await;
    flooding.send("4admit").await;
    let frame = frame(&format!("4{}", "x".repeat(900)));
    let handled = |server: &Server| server.engine.handler().texts.load(Ordering::Relaxed);
    let mut sent = 1;
    // The operating system holds more for a connection on which much has come.
    for is_warm in [false, true] {
        sent += try_send(flooding.0.get_ref(), &frame, 400);
        other.send("4count").await;
        let count = other.text().await;
        let count: usize = count[1..].parse().expect("a number");
        assert!(
            !is_warm || sent - count > 200,
            "{count} of {sent} came first"
        );
        sent += 1;
        while handled(&server) < sent {
            tokio::task::yield_now().await;
        }
    }
    assert!(session.is_open());
}

/// Sends a command that closes the session, with the start of another frame behind it, and the rest of that frame
/// and `more` after 100 ms. Returns the time until the connection ends.
async fn closed_after(more: &[u8]) -> Duration {
    let server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    let next = frame(&"x".repeat(200));
    let (start, rest) = next.split_at(100);
    let since = tokio::time::Instant::now();
    let tcp = client.0.get_mut();
    let first = [&frame("4close"), start].concat();
    tcp.write_all(&first).await.expect("sent");
    assert_eq!(client.text().await, "4last");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let tcp = client.0.get_mut();
    tcp.write_all(&[rest, more].concat()).await.expect("sent");
    while tcp.read(&mut [0; 100]).await.expect("no reset") > 0 {}
    since.elapsed()
}

#[tokio::test(start_paused = true)]
async fn frames_keep_their_places_after_the_session_was_closed() {
    // The client has 250 ms to answer the close frame.
    let without = closed_after(&[]).await;
    assert!(without >= Duration::from_millis(250), "{without:?}");
    let close_frame = [0x88, 0x80, 0, 0, 0, 0];
    let with = closed_after(&close_frame).await;
    assert!(with < Duration::from_millis(200), "{with:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_has_its_time_for_the_close_frame_once_the_last_packets_have_left() {
    let mut server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    let session = server.session().await;
    crate::transport::turn::scope(|| {
        // More than a connection takes at once.
        for _ in 0..16 {
            session.send(Packet::engine(&"x".repeat(1 << 20)));
        }
        session.close(CloseCode::Normal);
    });
    let tcp = client.0.get_mut();
    let mut buffer = vec![0; 1 << 16];
    let mut tail = Vec::new();
    while !tail.ends_with(&[0x88, 2, 3, 232]) {
        let read = tcp.read(&mut buffer).await.expect("more");
        assert!(read > 0, "closed before the last packets");
        tail = buffer[read.saturating_sub(4)..read].to_vec();
    }
    let since = tokio::time::Instant::now();
    assert_eq!(tcp.read(&mut buffer).await.expect("the end"), 0);
    let elapsed = since.elapsed();
    assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_websockets_and_not_for_ever() {
    let server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    let since = tokio::time::Instant::now();
    // The client answers the close frame late, within its time.
    let answer = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.close_code().await
    };
    let (_, code) = tokio::join!(server.engine.shut_down(CloseCode::GoingAway), answer);
    let elapsed = since.elapsed();
    assert_eq!((code, server.engine.websockets()), (Some(1001), 0));
    assert!((100..=300).contains(&elapsed.as_millis()), "{elapsed:?}");
}
