//! Request bodies and their deadline, on a clock that stands still until a task waits.

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use super::*;

/// The deadline of a body.
const BODY_READ: Duration = Duration::from_secs(15);

/// A connection that is open for longer is never closed.
const PATIENCE: Duration = Duration::from_secs(600);

const BODY_BYTES: usize = 10;

/// Serves one connection that has an endpoint which reads its body, one which ignores an error of its
/// body, two which do not read it, and one which switches protocols by itself. Returns the other end of
/// the connection.
fn connected() -> DuplexStream {
    let router = Router::new()
        .route("/refuse", post(StatusCode::PAYLOAD_TOO_LARGE))
        .route(
            "/refuse-later",
            post(async |body: Body| {
                drop(body);
                yield_now().await;
                StatusCode::PAYLOAD_TOO_LARGE
            }),
        )
        .route("/switch", get(StatusCode::SWITCHING_PROTOCOLS))
        .route("/read", post(async |body: Bytes| body.len().to_string()))
        .route(
            "/ignore",
            post(async |body: Body| {
                let read = http_body_util::BodyExt::collect(body).await;
                read.map_or(0, |body| body.to_bytes().len()).to_string()
            }),
        );
    let limits = Limits::default();
    let quota = Quota::new(1, 1);
    let terms = Terms::new(&limits, quota, Arc::default());
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let switch = KillSwitch::default();
    let connection = Connection::new(peer, Arc::default(), switch);
    let (client, server) = duplex(4096);
    tokio::spawn(async move { serve_connection(server, router, connection, &terms).await });
    client
}

/// Posts the headers of a request to `path`, and then one byte of the body after each `pause`, until
/// the body is complete or the connection is closed. Returns the answer and the time after which it began.
async fn drip(path: &str, pause: Duration) -> (String, Duration) {
    let answered = timeout(PATIENCE, drip_until_answered(path, pause)).await;
    answered.expect("an answer")
}

async fn drip_until_answered(path: &str, pause: Duration) -> (String, Duration) {
    let mut client = connected();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("sent");
    let begun = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(client);
    let writing = tokio::spawn(async move {
        for _ in 0..BODY_BYTES {
            sleep(pause).await;
            if writer.write_all(b"x").await.is_err() {
                break;
            }
        }
    });
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    let mut took = None;
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        took.get_or_insert_with(|| begun.elapsed());
        answer.extend_from_slice(&buffer[..count]);
        if answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
    writing.abort();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer, took.expect("an answer"))
}

#[tokio::test(start_paused = true)]
async fn a_silent_or_dripping_body_is_answered_408_and_closed_on_every_path() {
    for path in ["/read", "/ignore"] {
        // The first byte comes after the deadline, or the last one does.
        for pause in [Duration::from_secs(60), Duration::from_secs(2)] {
            let (answer, took) = drip(path, pause).await;
            assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
            assert_eq!(took, BODY_READ, "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_that_is_complete_in_time_is_served() {
    for path in ["/read", "/ignore"] {
        let (answer, took) = drip(path, Duration::from_millis(1_400)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(answer.ends_with(&BODY_BYTES.to_string()), "{answer}");
        assert!(took < BODY_READ, "{took:?}");
    }
}

/// Posts a body of `length` bytes to an endpoint that does not read it, after the answer has come, and
/// a second request behind it. Returns the two answers; the second is empty if the connection ends.
async fn post_unread(length: usize) -> [String; 2] {
    let mut client = connected();
    let head =
        format!("POST /refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("sent");
    let mut buffer = [0; 1024];
    let count = client.read(&mut buffer).await.expect("the first answer");
    let first = String::from_utf8_lossy(&buffer[..count]).into_owned();
    let next = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let body = vec![b'x'; length];
    let is_taken = client.write_all(&body).await.is_ok() && client.write_all(next).await.is_ok();
    let count = match is_taken {
        true => client.read(&mut buffer).await.unwrap_or_default(),
        false => 0,
    };
    [
        first,
        String::from_utf8_lossy(&buffer[..count]).into_owned(),
    ]
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_in_the_middle_of_a_body_is_answered_and_goes_on() {
    let [first, second] = post_unread(2_000_000).await;
    assert!(first.starts_with("HTTP/1.1 413"), "{first}");
    assert!(second.starts_with("HTTP/1.1 200"), "{second}");
    // A body without end is cut.
    let [first, second] = post_unread(20_000_000).await;
    assert!(first.starts_with("HTTP/1.1 413"), "{first}");
    assert_eq!(second, "");
}

/// Sends a request without its body, and returns what is answered first.
async fn answer_to(head: &str) -> String {
    let mut client = connected();
    client.write_all(head.as_bytes()).await.expect("sent");
    let mut buffer = [0; 1024];
    let count = client.read(&mut buffer).await.expect("an answer");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test(start_paused = true)]
async fn who_asks_before_sending_a_body_is_refused_without_being_told_to_send_it() {
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
             Content-Length: 10\r\n\r\n"
        )
    };
    let refused = answer_to(&head("/refuse-later")).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    let told = answer_to(&head("/read")).await;
    assert!(told.starts_with("HTTP/1.1 100"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_the_engine_does_not_send_is_not_kept() {
    let head =
        "GET /switch HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n";
    let switched = answer_to(head).await;
    assert!(switched.starts_with("HTTP/1.1 101"), "{switched}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_could_mean_two_requests_is_refused_and_the_connection_closed() {
    const HOST: &str = "Host: localhost";
    let refused = [
        "X: no host",
        "Host: localhost\r\nHost: localhost",
        "Host: localhost\r\nHost: other",
        "Host:",
        "Host: a b",
        "Host: user@localhost",
        "Host: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "Host: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        "Host: localhost\r\nTransfer-Encoding: chunked, chunked",
        "Host: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Host: localhost\r\nTransfer-Encoding: gzip, chunked",
        "Host: localhost\r\nTransfer-Encoding: identity",
        "Host: localhost\r\nTransfer-Encoding: xchunked",
        "Host: localhost\r\nTransfer-Encoding:",
        "Host: localhost\r\nContent-Length: 5, 5",
        "Host: localhost\r\nContent-Length: 5\r\nContent-Length: 6",
        "Host: localhost\r\nContent-Length: +5",
        "Host : localhost",
        "Host: localhost\r\nX: a\r\n b",
    ];
    let admitted = [
        HOST,
        "Host: localhost:80",
        "Host: [::1]:80",
        "Host: localhost\r\nContent-Length: 5",
        "Host: localhost\r\nTransfer-Encoding: Chunked",
    ];
    // A second request waits behind the first one's body, or is its body.
    let behind = "5\r\nhello\r\n0\r\n\r\nPOST /read HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answers = async |head: &str, version: &str| {
        let mut client = connected();
        let request = format!("POST /read {version}\r\n{head}\r\n\r\n{behind}");
        client.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, client.read_to_end(&mut answer)).await;
        let is_closed = matches!(read, Ok(Ok(_)));
        (String::from_utf8_lossy(&answer).into_owned(), is_closed)
    };
    for head in refused {
        let (answer, is_closed) = answers(head, "HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head}: {answer}");
        assert!(is_closed, "{head}: {answer}");
    }
    for head in admitted {
        let (answer, _) = answers(head, "HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{head}: {answer}");
    }
    let (answer, _) = answers("X: no host", "HTTP/1.0").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}
