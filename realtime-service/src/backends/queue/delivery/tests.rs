//! When events are sent, how often, and what becomes of them.

use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::{
    backends::{
        CloudEvent, EventType,
        queue::store::{NewEvent, StoredEvent},
    },
    clock::wall_now,
    config::{Limits, WebhookSettings},
    limits::Quotas,
    metrics::Metrics,
};

const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// A queue, a back end, and its server, whose requests are handed over as they come.
struct Fixture {
    directory: tempfile::TempDir,
    queue: Arc<Queue>,
    back_end: Arc<BackEnd>,
    metrics: Metrics,
    requests: mpsc::Receiver<TcpStream>,
}

impl Fixture {
    async fn new(settings: Value) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, requests) = mpsc::channel(2000);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(read_requests(stream, tell.clone()));
            }
        });
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
        let mut all = json!({
            "name": "shop", "url": format!("http://{address}/"), "secret_file": secret,
        });
        for (name, value) in settings.as_object().expect("settings") {
            all[name] = value.clone();
        }
        let metrics = Metrics::new();
        let settings = serde_json::from_value(all).expect("settings");
        let back_end = BackEnd::new(&settings, (&[], 65_536), &metrics).expect("a back end");
        let webhooks = WebhookSettings {
            file: directory.path().join("queue.db"),
            entries: 100_000,
            bytes: 1 << 28,
        };
        let queue = Queue::open_within(&webhooks, Duration::from_millis(20)).expect("a queue");
        Self {
            queue: Arc::new(queue),
            back_end,
            metrics,
            requests,
            directory,
        }
    }

    /// Stores an event of `bytes` bytes for each of so many subjects.
    async fn store(&self, subjects: usize, bytes: usize) {
        let stored = self.queue.run(move |store| {
            (0..subjects).try_for_each(|number| {
                let event = NewEvent {
                    id: number.to_string(),
                    backend: "shop".to_owned(),
                    subject: number.to_string(),
                    body: vec![b'x'; bytes],
                };
                store.append(&event, now())
            })
        });
        stored.await.expect("stored");
    }

    fn deliver(&self) {
        let (queue, back_end) = (self.queue.clone(), self.back_end.clone());
        tokio::spawn(async move { deliver(&queue, &back_end).await });
    }

    async fn request(&mut self) -> TcpStream {
        let request = timeout(Duration::from_secs(10), self.requests.recv()).await;
        request.expect("in time").expect("a request")
    }

    /// Events of the file with a problem, dead letters or not.
    async fn noted(&self, is_dead: bool) -> Vec<StoredEvent> {
        let listed = self.queue.run(move |store| store.list(is_dead, 2000, 0));
        let mut listed = listed.await.expect("events");
        listed.retain(|event| event.problem.is_some());
        listed
    }

    /// Number of calls that were counted, whatever became of them.
    fn counted(&self) -> u64 {
        let quotas = Quotas::new(&Limits::default());
        let text = self.metrics.render(&quotas).expect("text");
        let prefix = "latchkey_realtime_backend_calls_total{";
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        counts.sum()
    }
}

/// Hands the connection over when a request has begun.
async fn read_requests(mut stream: TcpStream, tell: mpsc::Sender<TcpStream>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|part| part == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let _ = tell.send(stream).await;
}

async fn answer(mut request: TcpStream) {
    request.write_all(TAKEN.as_bytes()).await.expect("written");
}

#[tokio::test]
async fn while_a_probe_is_under_way_nothing_else_is_sent_written_or_counted() {
    let mut fixture = Fixture::new(json!({ "timeout_ms": 400 })).await;
    fixture.store(1000, 2).await;
    fixture.back_end.open_for_probe();
    fixture.deliver();
    let _hung = fixture.request().await;
    let noted = timeout(Duration::from_secs(10), async {
        loop {
            let noted = fixture.noted(false).await;
            if noted.iter().any(|event| event.attempts > 0) {
                return noted;
            }
        }
    });
    // The probe alone, whose failure opens the circuit again.
    assert_eq!(noted.await.expect("in time").len(), 1);
    assert_eq!(fixture.counted(), 1);
    assert!(fixture.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_event_that_has_no_place_is_neither_written_nor_counted_and_sent_later() {
    let mut fixture = Fixture::new(json!({ "concurrency": 1, "queue": 0 })).await;
    fixture.store(100, 2).await;
    let back_end = fixture.back_end.clone();
    tokio::spawn(async move {
        let event = CloudEvent::new(EventType::ClientEvent, ("call", wall_now()), "/", 1);
        back_end.call(&event, ("alice", 0)).await
    });
    let call = fixture.request().await;
    fixture.deliver();
    for _ in 0..100 {
        assert!(fixture.noted(false).await.is_empty());
    }
    assert_eq!(fixture.counted(), 0);
    answer(call).await;
    answer(fixture.request().await).await;
}

#[tokio::test]
async fn an_event_that_was_taken_is_sent_once_while_the_file_cannot_be_written() {
    let mut fixture = Fixture::new(json!({})).await;
    fixture.store(1, 2).await;
    fixture.deliver();
    let request = fixture.request().await;
    let path = fixture.directory.path().join("queue.db");
    let other = Connection::open(path).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    answer(request).await;
    // Longer than the deliveries and the writing thread wait in all.
    let again = timeout(POLL_INTERVAL * 3, fixture.requests.recv()).await;
    assert!(again.is_err(), "it is not sent again");
    other.execute_batch("ROLLBACK").expect("released");
    let gone = timeout(Duration::from_secs(10), async {
        let left = |store: &Store| store.levels("shop").map(|levels| levels.queued);
        while fixture.queue.run(left).await != Ok(0) {}
    });
    gone.await.expect("in time");
    assert!(fixture.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_event_that_its_back_end_cannot_be_sent_any_more_is_a_dead_letter() {
    let mut fixture = Fixture::new(json!({ "bytes": 100 })).await;
    fixture.store(1, 99).await;
    fixture.deliver();
    let dead = timeout(Duration::from_secs(10), async {
        while fixture.noted(true).await.is_empty() {}
    });
    dead.await.expect("in time");
    let dead = fixture.noted(true).await.remove(0);
    assert_eq!(
        (dead.attempts, dead.problem.as_deref()),
        (0, Some(TOO_LARGE))
    );
    fixture
        .queue
        .run(|store| store.drop_events(None))
        .await
        .expect("dropped");
    assert!(fixture.requests.try_recv().is_err());
    // One byte less, and it is sent.
    fixture.store(1, 98).await;
    answer(fixture.request().await).await;
}

#[test]
fn pauses_double_up_to_an_hour_and_after_three_days_an_event_is_given_up() {
    let day = 24 * 60 * 60 * 1000;
    let event = |attempts| Due {
        seq: 1,
        id: "a".to_owned(),
        body: Vec::new(),
        created_at: 0,
        attempts,
        is_head: true,
    };
    let failed = CallError::temporary(Failure::Failed, "no");
    let refused = CallError::permanent("422");
    for (attempts, error, jitter, expected) in [
        (0, &failed, 1.0, Next::Retry(1, 1_001)),
        (0, &failed, 0.8, Next::Retry(1, 801)),
        (3, &refused, 1.0, Next::Retry(4, 8_001)),
        (40, &failed, 1.0, Next::Retry(41, 3_600_001)),
    ] {
        assert_eq!(next(&event(attempts), error, 1, jitter), expected);
    }
    // A pause that the back end asks for makes no wait shorter.
    for (attempts, secs, expected) in [
        (3, 1800, 1_800_001),
        (3, 0, 8_001),
        (4, 15, 16_001),
        (3, u64::MAX, 3_600_001),
    ] {
        let busy = CallError::postponed("429", Duration::from_secs(secs));
        let retry = Next::Retry(attempts + 1, expected);
        assert_eq!(next(&event(attempts), &busy, 1, 1.0), retry);
    }
    assert!(matches!(
        next(&event(40), &failed, 3 * day - 1, 1.0),
        Next::Retry(..)
    ));
    assert_eq!(next(&event(40), &failed, 3 * day, 1.0), Next::Bury(41));
    // The gateway was down for three days.
    let retry = Next::Retry(9, 3 * day + 256_000);
    assert_eq!(next(&event(8), &failed, 3 * day, 1.0), retry);
    assert_eq!(next(&event(9), &failed, 3 * day, 1.0), Next::Bury(10));
}
