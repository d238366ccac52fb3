//! Clients of Engine.IO 3, in paused time where time matters.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::SinkExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    super::{CloseReason, Violation},
    server::{Server, WebSocket, settings},
};
use crate::transport::{Opcode, Packet, Payload};

fn path(transport: &str, rest: &str) -> String {
    format!("/engine.io/?EIO=3&transport={transport}{rest}")
}

/// Opens a session by polling, and returns the parameter that names the session.
async fn poll_session(server: &Server) -> String {
    let (_, body) = request(server, "GET", "", "text/plain", b"").await;
    let body = String::from_utf8(body).expect("text");
    let (length, packet) = body.split_once(':').expect("a length");
    assert_eq!(length.parse(), Ok(packet.len()));
    let handshake: serde_json::Value = serde_json::from_str(&packet[1..]).expect("JSON");
    assert_eq!(handshake.get("maxPayload"), None);
    format!("&sid={}", handshake["sid"].as_str().expect("a sid"))
}

/// Sends a request by polling, and returns the status and the content type, and the body.
async fn request(
    server: &Server,
    method: &str,
    rest: &str,
    content_type: &str,
    body: &[u8],
) -> (String, Vec<u8>) {
    let mut tcp = server.connect().await;
    let head = format!(
        "{method} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        path("polling", rest),
        body.len(),
    );
    let request = [head.as_bytes(), body].concat();
    tcp.write_all(&request).await.expect("sent");
    let mut response = Vec::new();
    tcp.read_to_end(&mut response).await.expect("a response");
    let end = response.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = response.split_at(end.expect("a head") + 4);
    let head = String::from_utf8(head.to_vec()).expect("text");
    let content_type = head.lines().find(|line| line.starts_with("content-type"));
    let answer = format!("{} {}", &head[9..12], content_type.unwrap_or_default());
    (answer, body.to_vec())
}

const TEXT: &str = "200 content-type: text/plain; charset=UTF-8";
const BINARY: &str = "200 content-type: application/octet-stream";

async fn open_websocket(server: &Server) -> WebSocket<TcpStream> {
    let stream = server.connect().await;
    let mut websocket = WebSocket::open_at(stream, &path("websocket", "")).await;
    websocket.read_handshake().await;
    websocket
}

#[tokio::test]
async fn a_polling_session_exchanges_packets_behind_their_lengths() {
    let server = Server::start(settings()).await;
    let session = poll_session(&server).await;
    let posted = "6:4h\u{e9}\u{1F600}x2:4y".as_bytes();
    let (answer, body) = request(&server, "POST", &session, "text/plain", posted).await;
    assert_eq!((answer.as_str(), &body[..]), (TEXT, &b"ok"[..]));
    let (answer, body) = request(&server, "GET", &session, "text/plain", b"").await;
    assert_eq!((answer.as_str(), &body[..]), (TEXT, posted));
    let invalid = request(&server, "POST", &session, "text/plain", b"9:4h").await;
    assert!(invalid.0.starts_with("400"), "{}", invalid.0);
}

#[tokio::test]
async fn binary_data_comes_and_goes_by_polling() {
    let mut server = Server::start(settings()).await;
    let parameter = poll_session(&server).await;
    let session = server.session().await;
    let posted = b"\x01\x03\xff\x04\x07\xff\x00\x02\xff4x";
    let content_type = "application/octet-stream";
    let (answer, _) = request(&server, "POST", &parameter, content_type, posted).await;
    assert_eq!(answer, TEXT);
    let first = session.queue().first().expect("the echo");
    let payloads: Vec<_> = first.packet().payloads().collect();
    assert_eq!(payloads, [Payload::Binary(&[7, 0xFF])]);
    session.send(Packet::control(Opcode::Binary, &[4, 1]));
    let (answer, body) = request(&server, "GET", &parameter, "text/plain", b"").await;
    assert_eq!(answer, BINARY);
    assert_eq!(
        body,
        b"\x01\x02\xff\x07\xff\x00\x02\xff4x\x01\x02\xff\x04\x01"
    );
    let base64 = request(&server, "POST", &parameter, "text/plain", b"6:b4AQI=").await;
    assert_eq!(base64.0, TEXT);
    let rewritten = "Application/Octet-Stream; charset=x";
    let (answer, _) = request(&server, "POST", &parameter, rewritten, posted).await;
    assert_eq!(answer, TEXT);
    let untyped = request(
        &server,
        "POST",
        &parameter,
        content_type,
        b"\x01\x01\xff\x01",
    )
    .await;
    assert!(untyped.0.starts_with("400"), "{}", untyped.0);
}

#[tokio::test]
async fn a_websocket_takes_binary_data_behind_the_type_and_as_base64() {
    let mut server = Server::start(settings()).await;
    let mut client = open_websocket(&server).await;
    for (sent, data) in [
        (Message::binary(&b"\x04\x01\x02"[..]), &b"\x01\x02"[..]),
        (Message::text("b4AwQ="), b"\x03\x04"),
    ] {
        client.0.send(sent).await.expect("sent");
        assert_eq!(client.receive().await, Some(Message::binary(data.to_vec())));
    }
    client
        .0
        .send(Message::binary(&b"\x01"[..]))
        .await
        .expect("sent");
    assert_eq!(
        server.close_reason().await,
        CloseReason::Violated(Violation::Protocol)
    );
}

#[tokio::test]
async fn an_upgrade_goes_by_the_noop_of_the_version() {
    let mut server = Server::start(settings()).await;
    let parameter = poll_session(&server).await;
    let session = server.session().await;
    let upgrade = async {
        while !session.state().is_polling() {
            tokio::task::yield_now().await;
        }
        let stream = server.connect().await;
        let mut websocket = WebSocket::open_at(stream, &path("websocket", &parameter)).await;
        websocket.send("2probe").await;
        assert_eq!(websocket.text().await, "3probe");
        websocket.send("5").await;
        websocket.send("4hello").await;
        assert_eq!(websocket.text().await, "4hello");
    };
    let poll = request(&server, "GET", &parameter, "text/plain", b"");
    let ((_, body), ()) = tokio::join!(poll, upgrade);
    assert_eq!(body, b"1:6");
}

#[tokio::test(start_paused = true)]
async fn the_client_pings_and_is_closed_when_it_does_not() {
    let mut server = Server::start(settings()).await;
    let mut client = open_websocket(&server).await;
    for _ in 0..3 {
        sleep(Duration::from_secs(40)).await;
        client.send("2").await;
        assert_eq!(client.text().await, "3");
    }
    let since = Instant::now();
    // Other packets are no ping, and nobody but the client sends any.
    client.send("4hello").await;
    assert_eq!(client.text().await, "4hello");
    assert_eq!(client.close_code().await, Some(1008));
    assert_eq!(since.elapsed().as_secs(), 45);
    assert_eq!(server.close_reason().await, CloseReason::PingTimeout);
}

#[tokio::test]
async fn each_version_has_heartbeats_of_its_own() {
    let mut server = Server::start(settings()).await;
    let mut old = open_websocket(&server).await;
    old.send("3").await;
    assert_eq!(old.close_code().await, Some(1002));
    let mut new = server.websocket().await;
    new.send("2").await;
    assert_eq!(new.close_code().await, Some(1002));
    for _ in 0..2 {
        let violation = Violation::Protocol;
        let reason = server.close_reason().await;
        assert_eq!(reason, CloseReason::Violated(violation));
    }
}

#[tokio::test]
async fn a_ping_is_answered_behind_whatever_waits() {
    let mut server = Server::start(settings()).await;
    let parameter = poll_session(&server).await;
    let session = server.session().await;
    session.send(Packet::engine(&"4".repeat(5000)));
    // The second one comes too soon to be a heartbeat.
    session.expires_ms.fetch_sub(20_000, Ordering::AcqRel);
    for _ in 0..2 {
        let (answer, _) = request(&server, "POST", &parameter, "text/plain", b"1:2").await;
        assert_eq!(answer, TEXT);
    }
    let (_, body) = request(&server, "GET", &parameter, "text/plain", b"").await;
    assert_eq!(body.len(), "5000:".len() + 5000 + "1:3".len());
    assert!(body.ends_with(b"41:3"));
}

#[tokio::test(start_paused = true)]
async fn a_client_has_its_time_when_it_is_the_server_that_was_late() {
    let mut server = Server::start(settings()).await;
    let mut client = open_websocket(&server).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::task::yield_now().await;
    client.send("2").await;
    assert_eq!(client.text().await, "3");
    assert!(server.session().await.is_open());
    // A twin that has sent no ping by then.
    tokio::time::advance(Duration::from_secs(60)).await;
    let since = Instant::now();
    assert_eq!(client.close_code().await, Some(1008));
    assert_eq!(since.elapsed().as_secs(), 20);
    assert_eq!(server.close_reason().await, CloseReason::PingTimeout);
}
