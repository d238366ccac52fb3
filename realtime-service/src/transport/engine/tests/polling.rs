//! Sessions that poll.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    super::{CloseCode, CloseReason, Violation},
    server::{Server, path, settings},
};
use crate::transport::Packet;

#[tokio::test]
async fn messages_go_both_ways_in_one_payload() {
    let server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let posted = server
        .post(&sid, "4one\x1ebAQID\x1e4tw\u{f6}".as_bytes())
        .await;
    assert_eq!(posted, (200, "ok".to_owned()));
    let polled = server.get(&sid).await;
    assert_eq!(polled, (200, "4one\x1ebAQID\x1e4tw\u{f6}".to_owned()));
}

#[tokio::test]
async fn a_pending_poll_is_answered_as_soon_as_a_packet_is_sent() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let session = server.session().await;
    let sender = async {
        while !session.state().is_polling() {
            tokio::task::yield_now().await;
        }
        assert!(session.send(Packet::engine("4hello")));
    };
    let (polled, ()) = tokio::join!(server.get(&sid), sender);
    assert_eq!(polled, (200, "4hello".to_owned()));
}

#[tokio::test]
async fn a_body_is_bounded_by_what_the_session_may_cost() {
    let server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let message = format!("4{}", "x".repeat(5000));
    assert_eq!(server.post(&sid, message.as_bytes()).await.0, 413);
    assert_eq!(server.post(&sid, b"4admit").await.0, 200);
    assert_eq!(server.post(&sid, message.as_bytes()).await.0, 200);
    assert_eq!(server.get(&sid).await, (200, message));
    let too_large = "x".repeat(100_001);
    assert_eq!(server.post(&sid, too_large.as_bytes()).await.0, 413);
}

#[tokio::test]
async fn a_chunked_body_is_bounded_too() {
    let server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let mut tcp = server.connect().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        path("polling", &sid)
    );
    let chunk = format!("200\r\n4{}\r\n", "x".repeat(511));
    let request = [head.as_str(), &chunk, &chunk].concat();
    tcp.write_all(request.as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    tcp.read_exact(&mut status).await.expect("a response");
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_times_out() {
    let server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let mut tcp = server.connect().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n4",
        path("polling", &sid)
    );
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    tcp.read_exact(&mut status).await.expect("a response");
    assert_eq!(&status, b"HTTP/1.1 408");
    assert_eq!(server.post(&sid, b"4hello").await.0, 200);
}

#[tokio::test]
async fn an_invalid_body_ends_the_session() {
    for (body, violation) in [
        (&b""[..], Violation::Protocol),
        (b"abc", Violation::Protocol),
        (b"0{}", Violation::Protocol),
        (b"2", Violation::Protocol),
        (b"5", Violation::Protocol),
        (b"4ok\x1e", Violation::Protocol),
        (b"bA*==", Violation::Protocol),
        (b"4invalid", Violation::Protocol),
        (b"4\xFF", Violation::InvalidText),
    ] {
        let mut server = Server::start(settings()).await;
        let sid = server.poll_session().await;
        assert_eq!(server.post(&sid, body).await.0, 400, "{body:?}");
        assert_eq!(server.get(&sid).await.0, 400, "{body:?}");
        let reason = CloseReason::Violated(violation);
        assert_eq!(server.close_reason().await, reason, "{body:?}");
    }
}

#[tokio::test]
async fn packets_after_a_close_packet_are_ignored() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    assert_eq!(server.post(&sid, b"4one\x1e1\x1e4two").await.0, 200);
    let polled = server.get(&sid).await;
    assert_eq!(polled, (200, "4one\x1e6".to_owned()));
    assert_eq!(server.get(&sid).await.0, 400);
    assert_eq!(server.close_reason().await, CloseReason::ClosedByClient);
    assert!(server.has_no_other_end());
}

#[tokio::test]
async fn a_second_poll_closes_the_session() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let session = server.session().await;
    let second = async {
        while !session.state().is_polling() {
            tokio::task::yield_now().await;
        }
        server.get(&sid).await.0
    };
    let (first, second) = tokio::join!(server.get(&sid), second);
    assert_eq!((first, second), ((200, "1".to_owned()), 400));
    let reason = server.close_reason().await;
    assert_eq!(reason, CloseReason::OverlappingRequests);
}

#[tokio::test]
async fn a_poll_whose_client_has_gone_does_not_overlap_the_next() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let session = server.session().await;
    let mut tcp = server.connect().await;
    let head = format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", path("polling", &sid));
    tcp.write_all(head.as_bytes()).await.expect("sent");
    while !session.state().is_polling() {
        tokio::task::yield_now().await;
    }
    drop(tcp);
    while session.state().is_polling() {
        tokio::task::yield_now().await;
    }
    session.send(Packet::engine("4kept"));
    assert_eq!(server.get(&sid).await, (200, "4kept".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_last_packets_can_be_fetched_for_a_moment() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let session = server.session().await;
    session.send(Packet::engine("4last"));
    session.close(CloseCode::Normal);
    assert!(!session.send(Packet::engine("4late")));
    let requested = CloseReason::Requested(CloseCode::Normal);
    assert_eq!(server.close_reason().await, requested);
    assert_eq!(server.post(&sid, b"4hello").await.0, 400);
    let polled = server.get(&sid).await;
    assert_eq!(polled, (200, "4last\x1e1".to_owned()));
    assert_eq!(server.get(&sid).await.0, 400);

    let sid = server.poll_session().await;
    let session = server.session().await;
    session.close(CloseCode::Normal);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.get(&sid).await.0, 400);
    assert_eq!(server.close_reason().await, requested);
    assert!(server.has_no_other_end());
}

#[tokio::test]
async fn a_killed_session_sends_nothing_more() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let session = server.session().await;
    session.send(Packet::engine("4never"));
    session.kill();
    assert_eq!(server.get(&sid).await.0, 400);
    assert_eq!(server.close_reason().await, CloseReason::Killed);
}

#[tokio::test]
async fn requests_that_open_no_session_are_refused() {
    let server = Server::start(settings()).await;
    for (method, sid, code) in [
        ("POST", "", 2),
        ("PUT", "", 2),
        ("GET", "unknown", 1),
        ("GET", "AAAAAAAAAAAAAAAAAAAA", 1),
    ] {
        let (status, body) = server.request(method, sid, b"").await;
        assert_eq!(status, 400);
        assert!(body.starts_with(&format!(r#"{{"code":{code},"#)), "{body}");
    }
    let sid = server.poll_session().await;
    assert_eq!(server.request("PUT", &sid, b"").await.0, 400);
}

#[tokio::test]
async fn a_post_of_many_packets_is_handled_to_its_end_though_its_client_hangs_up() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let session = server.session().await;
    session.set_admitted();
    // More turns than the runtime takes before it looks at connections.
    let packets = 20_000;
    let body = vec!["4x"; packets].join("\x1e");
    let mut tcp = server.connect().await;
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
        path("polling", &sid),
        body.len()
    );
    tcp.write_all(request.as_bytes()).await.expect("a request");
    drop(tcp);
    let texts = || server.engine.handler().texts.load(Ordering::Relaxed);
    let handled = async {
        while texts() < packets {
            tokio::task::yield_now().await;
        }
    };
    let handled = tokio::time::timeout(Duration::from_secs(10), handled).await;
    assert!(handled.is_ok(), "{} packets", texts());
    assert_eq!(server.post(&sid, b"4last").await.0, 200);
    assert_eq!(texts(), packets + 1);
}

#[tokio::test]
async fn a_handler_that_panics_in_a_post_ends_its_session() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    let mut tcp = server.connect().await;
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n4panic",
        path("polling", &sid)
    );
    tcp.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    // The connection of the request ends with it.
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    let reason = CloseReason::Requested(CloseCode::InternalError);
    assert_eq!(server.close_reason().await, reason);
    assert_eq!(server.post(&sid, b"4hello").await.0, 400);
}
