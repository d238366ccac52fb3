//! Answers of a server, and their effect on calls, deliveries and the circuit.

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{backends::EventType, config::Limits, limits::Quotas};

/// Starts a server that answers every request with `answer`, and closes the connection.
async fn back_end(answer: &'static str, bytes: usize) -> Arc<BackEnd> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                assert!(stream.read_buf(&mut request).await.expect("bytes") > 0);
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    back_end_at(&url, bytes, &Metrics::new())
}

fn back_end_at(url: &str, bytes: usize, metrics: &Metrics) -> Arc<BackEnd> {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
    let settings = json!({ "name": "shop", "url": url, "secret_file": secret, "bytes": bytes });
    let settings = serde_json::from_value(settings).expect("settings");
    BackEnd::new(&settings, (&[], 65_536), metrics).expect("a back end")
}

async fn call(back_end: &BackEnd) -> Result<Vec<u8>, CallError> {
    let post = Post {
        id: "1",
        body: b"{}".to_vec(),
        sender: None,
        bytes: 0,
        media_type: MEDIA_TYPE,
        is_answer_read: true,
    };
    back_end.send(post, |answer| Ok(answer.to_vec())).await
}

#[tokio::test]
async fn a_delivery_ends_with_the_status_and_a_call_with_the_answer() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let back_end = back_end(broken, 65_536).await;
    assert_eq!(back_end.deliver(&[("1", b"{}")]).await, Ok(()));
    let error = call(&back_end).await.expect_err("half an answer");
    assert_eq!(error.failure, Failure::Failed);
    assert!(error.is_answer_begun, "it may be a refusal");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_no_call_that_was_not_carried_out() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[\"text\"] \n";
    let fits = back_end(answer, 12).await;
    assert!(call(&fits).await.is_ok());
    let error = call(&*back_end(answer, 11).await).await;
    let error = error.expect_err("no room for the answer");
    assert_eq!((error.failure, error.retry_after), (Failure::Failed, None));
    // The event itself never fits: then nothing was sent, and nothing will be.
    let error = call(&*back_end(answer, 1).await).await;
    assert_eq!(error, Err(CallError::too_large()));
    // It does not fit now.
    let _others = fits.capacity.load(None, 11).expect("room");
    let error = call(&fits).await.expect_err("no room for the event");
    assert_eq!((error.failure, error.was_sent), (Failure::Busy, false));
    assert!(error.retry_after.is_some());
}

/// An answer with this status and further header lines.
fn refusal(status: u16, lines: &str) -> String {
    format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n{lines}\r\n")
}

#[tokio::test]
async fn unavailable_without_a_pause_opens_the_circuit_and_a_pause_that_is_asked_for_does_not() {
    for (answer, is_open, pause) in [
        (refusal(503, ""), true, 1),
        (refusal(503, "retry-after: 7\r\n"), false, 7),
        (refusal(429, ""), false, 1),
    ] {
        let answer: &'static str = answer.leak();
        let back_end = back_end(answer, 65_536).await;
        for _ in 0..10 {
            assert_ne!(back_end.openings(), 0);
            let error = call(&back_end).await.expect_err(answer);
            assert!(error.was_sent && !error.is_answer_begun, "{answer}");
            assert_eq!(
                (error.failure, error.retry_after),
                (Failure::Busy, Some(Duration::from_secs(pause)))
            );
        }
        assert_eq!(back_end.openings() == 0, is_open, "{answer}");
    }
}

#[tokio::test]
async fn a_probe_that_is_answered_with_a_request_for_a_pause_closes_the_circuit() {
    for (answer, is_closed) in [
        (refusal(429, ""), true),
        (refusal(503, "retry-after: 7\r\n"), true),
        (refusal(503, ""), false),
    ] {
        let answer: &'static str = answer.leak();
        let back_end = back_end(answer, 65_536).await;
        back_end.open_for_probe();
        assert_eq!(back_end.openings(), 1);
        call(&back_end).await.expect_err(answer);
        assert_eq!(back_end.openings() > 1, is_closed, "{answer}");
    }
}

#[tokio::test]
async fn a_long_pause_is_for_deliveries_and_a_client_is_told_a_minute() {
    let answer: &'static str = refusal(429, "retry-after: 1800\r\n").leak();
    let back_end = back_end(answer, 65_536).await;
    let error = back_end.deliver(&[("1", b"{}")]).await.expect_err("a 429");
    assert_eq!(error.retry_after, Some(Duration::from_secs(1800)));
    let event = CloudEvent::new(EventType::ClientEvent, ("1", wall_now()), "/", Value::Null);
    let error = back_end.call(&event, ("alice", 0)).await;
    let error = error.err().expect("a 429");
    assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_call_that_is_given_up_is_counted() {
    // The system accepts connections, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let metrics = Metrics::new();
    let back_end = back_end_at(&url, 65_536, &metrics);
    let event = CloudEvent::new(EventType::ClientEvent, ("1", wall_now()), "/", Value::Null);
    let mut call = Box::pin(back_end.call(&event, ("alice", 0)));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    let text = metrics.render(&Quotas::new(&Limits::default()));
    let counted = r#"backend_calls_total{backend="shop",outcome="given_up"} 1"#;
    assert!(text.expect("text").contains(counted));
}
