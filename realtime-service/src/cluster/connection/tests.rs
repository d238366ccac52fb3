//! Tests of a connection against a server of which the test writes each byte.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::stream;
use redis::{FromRedisValue as _, cmd};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex, sink},
    join,
    task::coop::poll_proceed,
};
use tokio_util::{bytes::Bytes, io::StreamReader};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);
const UNREAD_BYTES: usize = 1000;

/// Push messages that were received, and "end" for the end of the connection.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Receiver for Heard {
    fn receive(&self, parts: &[&[u8]]) {
        let text = parts.join(&b" "[..]);
        let text = String::from_utf8(text).expect("a text");
        self.0.lock().expect("a lock").push(text);
    }

    fn end(&self) {
        self.receive(&[b"end"]);
    }
}

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("a lock"))
    }
}

/// Returns a connection, its server, and what the connection hears.
fn connect(wire_bytes: usize) -> (Connection, DuplexStream, Heard) {
    let (near, far) = duplex(wire_bytes);
    let heard = Heard::default();
    let limits = Limits {
        timeout: TIMEOUT,
        unread_bytes: UNREAD_BYTES,
    };
    let connection = Connection::spawn(near, heard.clone(), limits);
    (connection, far, heard)
}

async fn ask(connection: &Connection, name: &str) -> RedisResult<String> {
    let answer = connection.send(&cmd(name)).await?.extract_error()?;
    Ok(String::from_redis_value(answer)?)
}

async fn expect(server: &mut DuplexStream, commands: &[&str]) {
    for name in commands {
        let expected = cmd(name).get_packed_command();
        let mut bytes = vec![0; expected.len()];
        server.read_exact(&mut bytes).await.expect("a command");
        assert_eq!(bytes, expected);
    }
}

#[tokio::test]
async fn answers_have_the_order_of_the_requests_and_push_messages_come_between_them() {
    let (connection, mut server, heard) = connect(1024);
    let serving = async {
        expect(&mut server, &["A", "B", "C"]).await;
        let answers =
            "$1\r\na\r\n>3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$2\r\nhi\r\n-ERR b\r\n$1\r\nc\r\n";
        for byte in answers.as_bytes() {
            server.write_all(&[*byte]).await.expect("written");
            tokio::task::yield_now().await;
        }
    };
    let (a, b, c, ()) = join!(
        ask(&connection, "A"),
        ask(&connection, "B"),
        ask(&connection, "C"),
        serving
    );
    assert_eq!((a.expect("a"), c.expect("c")), ("a".into(), "c".into()));
    assert!(b.is_err_and(|error| !error.is_unrecoverable_error()));
    assert_eq!(heard.take(), ["message x hi"]);
}

#[tokio::test]
async fn a_subscription_is_confirmed_by_as_many_push_messages_of_its_own() {
    let (connection, mut server, _) = connect(1024);
    let channels = ["a".into(), "b".into()];
    let is_confirmed = Cell::new(false);
    let subscribing = async {
        let confirmed = connection.change_channels("SUBSCRIBE", &channels).await;
        is_confirmed.set(true);
        confirmed
    };
    let serving = async {
        // An unsolicited push message, and the first confirmation.
        let mut answers = b">3\r\n+unsubscribe\r\n+a\r\n:0\r\n".to_vec();
        answers.extend(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
        server.write_all(&answers).await.expect("written");
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        assert!(!is_confirmed.get(), "one confirmation is missing");
        let rest = b">3\r\n+subscribe\r\n+b\r\n:2\r\n$1\r\nx\r\n";
        server.write_all(rest).await.expect("written");
    };
    let (subscribed, answer, ()) = join!(subscribing, ask(&connection, "X"), serving);
    subscribed.expect("two confirmations");
    assert_eq!(answer.expect("an answer"), "x");
    let refused = connection.change_channels("SSUBSCRIBE", &channels[..1]);
    let (refused, written) = join!(refused, server.write_all(b"-MOVED 1 a:1\r\n"));
    written.expect("written");
    assert!(refused.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_that_of_no_other_request() {
    let (connection, mut server, _) = connect(1024);
    let start = Instant::now();
    let late = ask(&connection, "A").await;
    assert!(late.is_err_and(|error| error.is_timeout()));
    assert_eq!(start.elapsed(), TIMEOUT);
    let serving = async {
        tokio::time::sleep(TIMEOUT / 2).await;
        server.write_all(b"+a\r\n+b\r\n").await.expect("written");
    };
    let (answer, ()) = join!(ask(&connection, "B"), serving);
    assert_eq!(answer.expect("an answer"), "b");
    // The timer of the next request is its own.
    let start = Instant::now();
    assert!(ask(&connection, "C").await.is_err());
    assert_eq!(start.elapsed(), TIMEOUT);
}

#[tokio::test]
async fn the_end_of_the_stream_fails_all_requests() {
    let (connection, mut server, heard) = connect(1024);
    let serving = async {
        server.write_all(b"+a\r\n$5\r\nha").await.expect("written");
        drop(server);
    };
    let (a, b, ()) = join!(ask(&connection, "A"), ask(&connection, "B"), serving);
    assert_eq!(a.expect("an answer"), "a");
    assert!(b.is_err_and(|error| error.is_unrecoverable_error()));
    assert_eq!(heard.take(), ["end"]);
    assert!(ask(&connection, "C").await.is_err());
    // The last clone ends the connection.
    let (connection, mut server, heard) = connect(1024);
    drop(connection.clone());
    drop(connection);
    assert_eq!(server.read(&mut [0]).await.expect("the end"), 0);
    assert_eq!(heard.take(), ["end"]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_the_server_does_not_read_are_bounded() {
    let (connection, mut server, _) = connect(16);
    let long = "x".repeat(UNREAD_BYTES / 4);
    let mut refused = 0;
    for _ in 0..8 {
        let error = ask(&connection, &long).await.expect_err("no answer");
        assert!(is_unanswered(&error) && is_refused(&error) != error.is_timeout());
        refused += usize::from(is_refused(&error));
    }
    assert_eq!(refused, 4);
    let (mut count, mut bytes) = (0, vec![0; 4096]);
    let reading = async {
        loop {
            count += server.read(&mut bytes).await.expect("bytes");
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, reading).await.is_err());
    let most = UNREAD_BYTES + long.len() + 32;
    assert!((UNREAD_BYTES..most).contains(&count), "{count}");
    // The server has read all requests.
    let late = ask(&connection, &long).await;
    assert!(late.is_err_and(|error| error.is_timeout()));
}

/// A server that sends push messages without end, and answers requests if `has_answers`.
struct Flood {
    has_answers: bool,
    is_asked: bool,
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(poll_proceed(context)).made_progress();
        let is_asked = std::mem::take(&mut self.is_asked);
        bytes.put_slice(match is_asked && self.has_answers {
            true => b"+a\r\n",
            false => b">2\r\n+x\r\n+y\r\n",
        });
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(poll_proceed(context)).made_progress();
        self.is_asked = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_flood_of_push_messages_holds_up_neither_requests_nor_their_deadlines() {
    for has_answers in [true, false] {
        let flood = Flood {
            has_answers,
            is_asked: false,
        };
        let limits = Limits {
            timeout: Duration::from_millis(200),
            unread_bytes: UNREAD_BYTES,
        };
        let connection = Connection::spawn(flood, Heard::default(), limits);
        // The flood has begun.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let asking = tokio::time::timeout(TIMEOUT, ask(&connection, "A"));
        match asking.await.expect("an outcome in time") {
            Ok(answer) => assert!(has_answers && answer == "a"),
            Err(error) => assert!(!has_answers && error.is_timeout()),
        }
    }
}

#[tokio::test]
async fn the_error_of_a_connection_that_has_ended_is_the_cause() {
    let unknown = "-ERR unknown command 'HELLO', with args beginning with: '3' 'secret'\r\n";
    for (bytes, cause) in [
        ("", "the server has closed the connection"),
        ("HTTP/1.1 400 Bad Request\r\n", "does not speak RESP3"),
        ("$600000000\r\n", "too large"),
        (
            "-ERR max number of clients reached\r\n",
            "max number of clients reached",
        ),
        ("-READONLY no\r\n", "no"),
        (unknown, "the server has closed the connection"),
    ] {
        let (connection, mut server, heard) = connect(1024);
        server.write_all(bytes.as_bytes()).await.expect("written");
        drop(server);
        while heard.take().is_empty() {
            tokio::task::yield_now().await;
        }
        let error = ask(&connection, "A").await.expect_err("an end");
        assert!(error.to_string().contains(cause), "{error}");
        assert!(error.is_unrecoverable_error() && !error.is_timeout());
        let known = connection.cause().expect("a cause");
        assert_eq!(known.to_string(), error.to_string());
    }
}

#[tokio::test]
async fn an_error_of_the_stream_is_the_cause_whatever_its_kind() {
    for kind in [io::ErrorKind::InvalidData, io::ErrorKind::TimedOut] {
        let failure = Err::<Bytes, _>(io::Error::new(kind, "an alert"));
        let reader = StreamReader::new(stream::iter([failure]));
        let stream = tokio::io::join(reader, sink());
        let limits = Limits {
            timeout: TIMEOUT,
            unread_bytes: UNREAD_BYTES,
        };
        let connection = Connection::spawn(stream, Heard::default(), limits);
        let error = ask(&connection, "A").await.expect_err("an end");
        assert_eq!(error.to_string(), "an alert");
        assert!(error.is_unrecoverable_error() && !error.is_timeout());
    }
}
