//! Tests of the greeting and of the choice of an address.

use std::{
    future::{pending, ready},
    sync::Mutex,
    time::Duration,
};

use redis::IntoConnectionInfo as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::*;
use crate::{cluster::Cluster, config::ClusterSettings, metrics::Metrics};

const PASSWORD: &str = "correct-horse";
const LIMIT: Duration = Duration::from_secs(10);

/// Ignores the push messages.
struct Deaf;

impl Receiver for Deaf {
    fn receive(&self, _: &[&[u8]]) {}

    fn end(&self) {}
}

/// Starts a server that gives `answer` to the first three requests of each connection, and returns its address.
async fn serve(answer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answers = answer.replace("PASSWORD", PASSWORD).repeat(3);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answers.as_bytes()).await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    address.to_string()
}

async fn refusal(answer: &str) -> String {
    let url = format!("redis://:{PASSWORD}@{}", serve(answer).await);
    let info = url.into_connection_info().expect("a URL");
    let limits = Limits {
        timeout: LIMIT,
        unread_bytes: 1000,
    };
    let opened = Connection::open(&info, None, Deaf, limits).await;
    let error = opened.err().expect("a refusal");
    let text = format!("{error:#}");
    assert!(!format!("{error:?}").contains(PASSWORD));
    text
}

/// Answers of Redis 5 and Redis 7 to a `HELLO` that they do not know.
const UNKNOWN: [&str; 2] = [
    "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `PASSWORD`, \r\n",
    "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'PASSWORD' \r\n",
];

#[tokio::test]
async fn a_refused_greeting_does_not_repeat_the_password() {
    for answer in UNKNOWN {
        assert_eq!(refusal(answer).await, NO_RESP3);
    }
    for (answer, code) in [
        ("-WRONGPASS no PASSWORD\r\n", "WRONGPASS"),
        ("-NOPERM PASSWORD\r\n", "NOPERM"),
        ("-ERR wrong PASSWORD\r\n", "ERR"),
    ] {
        let expected = format!("the server refused the greeting: {code}");
        assert_eq!(refusal(answer).await, expected);
    }
    let full = refusal("-ERR max number of clients reached\r\n").await;
    assert!(full.contains("maxclients"), "{full}");
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().expect("a lock"), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_of_a_refused_greeting_does_not_have_the_password() {
    for (answer, scheme) in [(UNKNOWN[0], "redis:"), (UNKNOWN[1], "redis+cluster:")] {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let _log = tracing::subscriber::set_default(subscriber);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), PASSWORD).expect("written");
        let address = serve(answer).await;
        let settings = ClusterSettings {
            url: format!("{scheme}//{address}"),
            password_file: file.path().to_owned(),
            ..ClusterSettings::default()
        };
        let cluster = Cluster::new(&settings, &Arc::new(Metrics::new()));
        let cluster = cluster.expect("settings").expect("a cluster");
        let running = timeout(Duration::from_millis(500), cluster.run()).await;
        assert!(running.is_err(), "the gateway tries again");
        let text = String::from_utf8(log.0.lock().expect("a lock").clone()).expect("a text");
        assert!(text.contains(NO_RESP3), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_does_not_hold_up_the_others() {
    let addresses: Vec<SocketAddr> = vec![([192, 0, 2, 1], 1).into(), ([192, 0, 2, 2], 2).into()];
    let silent = async |address: SocketAddr| match address.port() {
        1 => pending().await,
        port => ready(Ok(port)).await,
    };
    let connected = timeout(LIMIT, connect_any(addresses.clone(), silent)).await;
    assert_eq!(connected.expect("in time").expect("a connection"), 2);
    let refused = async |address: SocketAddr| match address.port() {
        1 => Err(io::ErrorKind::ConnectionRefused.into()),
        port => Ok(port),
    };
    let connected = connect_any(addresses.clone(), refused).await;
    assert_eq!(connected.expect("a connection"), 2);
    let none = async |_: SocketAddr| Err::<(), _>(io::ErrorKind::ConnectionRefused.into());
    assert!(connect_any(addresses, none).await.is_err());
    assert!(connect_any(vec![], none).await.is_err());
}
