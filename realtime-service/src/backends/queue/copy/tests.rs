//! The copy of a queue, and what becomes of it when its gateway is lost.

mod adoption;
mod away;
mod progress;

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use redis::cmd;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::{
    backends::queue::{
        CLOSING_BYTES, Share,
        journal::Stored,
        now,
        store::{BatchLimits, NewBook, NewEvent, Opening, Place, StoredEvent},
    },
    cluster::testing as redis_server,
    config::ClusterSettings,
};

/// Time in which everything has happened.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits until something holds.
async fn eventually(text: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "{text}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A gateway with a queue and its copy.
struct Gateway {
    copy: Arc<QueueCopy>,
    running: JoinHandle<()>,
}

impl Gateway {
    /// Starts a gateway with the file in `directory`, and waits until the queue has a copy.
    async fn start(settings: &ClusterSettings, directory: &Path) -> Self {
        let cluster = redis_server::connected(settings).await;
        let webhooks = WebhookSettings {
            file: directory.join("queue.db"),
            ..WebhookSettings::default()
        };
        // The process before ends its thread a moment after it has ended.
        let mut opened = None;
        eventually("the file is free", async || {
            opened = QueueCopy::open(&webhooks, &cluster, &Arc::new(Metrics::new())).ok();
            opened.is_some()
        })
        .await;
        let copy = Arc::new(opened.expect("a queue"));
        copy.settle().await;
        let running = Self::run(&copy);
        let this = Self { copy, running };
        this.copied().await;
        this
    }

    fn run(copy: &Arc<QueueCopy>) -> JoinHandle<()> {
        let copy = copy.clone();
        tokio::spawn(async move { copy.run().await })
    }

    /// Waits until the copy follows the file.
    async fn copied(&self) {
        eventually("a copy", async || self.copy.progress.has(0)).await;
    }

    /// Ends the process without a word. The file stays until its directory is dropped.
    async fn kill(self) -> Lost {
        let keys = self.copy.keys();
        let (id, cluster) = (self.copy.progress.id(), self.copy.cluster.clone());
        self.running.abort();
        let _ = self.running.await;
        Lost { id, keys, cluster }
    }

    /// Stores an event of `subject` whose body has so many bytes.
    async fn append(&self, id: &str, subject: &str, bytes: usize) {
        let event = NewEvent {
            id: id.to_owned(),
            backend: "shop".to_owned(),
            subject: subject.to_owned(),
            body: vec![b'x'; bytes],
        };
        assert_eq!(self.copy.queue.append(event).await, Ok(()), "{id}");
    }

    /// Opens the books of a connection of `subject`, which stay open.
    async fn open_book(&self, id: &str, subject: &str) {
        let draft = br#"{"type":"latchkey.connection.closed","time":"x","data":{"since":"x"}}"#;
        let book = NewBook {
            id: id.to_owned(),
            backend: "shop".to_owned(),
            subject: subject.to_owned(),
            draft: draft.to_vec(),
            bytes: draft.len() as u64 + CLOSING_BYTES,
        };
        let opening = Opening {
            event: None,
            book: Some(book),
        };
        let memory = self.copy.queue.reserve(opening.memory()).await;
        let terms = (memory.expect("memory"), Share::All);
        let stored: Stored = self
            .copy
            .queue
            .open_book(opening, terms, || panic!("dropped"));
        assert_eq!(stored.wait().await, Ok(()), "{id}");
    }

    async fn list(&self, is_dead: bool) -> Vec<StoredEvent> {
        let listed = self
            .copy
            .queue
            .run(move |store| store.list(is_dead, 10_000, 0));
        listed.await.expect("events")
    }

    async fn ids(&self) -> Vec<String> {
        let listed = self.list(false).await.into_iter();
        listed.map(|event| event.id).collect()
    }

    /// Delivers everything, one event of each subject after another. Returns the ids.
    async fn deliver(&self) -> Vec<String> {
        let mut delivered = Vec::new();
        loop {
            let limits = BatchLimits {
                batches: 1,
                events: 1,
                bytes: u64::MAX,
            };
            let none = HashSet::new();
            let due = self.copy.queue.due("shop", limits, &none).await;
            let Some(event) = due.expect("events").into_iter().flatten().next() else {
                return delivered;
            };
            let removed = self.copy.queue.run(move |store| store.remove(event.seq));
            removed.await.expect("removed");
            delivered.push(event.id);
        }
    }

    /// The body of an event.
    async fn body(&self, id: &'static str) -> serde_json::Value {
        let found = self.copy.queue.run(|store| store.find(id)).await;
        let (_, body) = found.expect("read").expect("an event");
        serde_json::from_slice(&body).expect("JSON")
    }

    /// All rows of the file.
    async fn rows(&self) -> BTreeMap<String, Vec<u8>> {
        let read = self.copy.read(|store| {
            let mut all = BTreeMap::new();
            for mut place in [Place::BEFORE_EVENTS, Place::BEFORE_BOOKS] {
                while let page = store.rows_after(place)?
                    && let Some((last, _)) = page.rows.last()
                {
                    place = *last;
                    let rows = page.rows.into_iter();
                    all.extend(rows.filter_map(|(place, row)| Some((place.name(), row?))));
                }
            }
            Ok(all)
        });
        read.await.expect("rows")
    }

    /// All rows of the copy.
    async fn copied_rows(&self) -> BTreeMap<String, Vec<u8>> {
        rows_of(&self.copy.cluster, &self.copy.keys()).await
    }
}

async fn rows_of(cluster: &Cluster, keys: &Keys) -> BTreeMap<String, Vec<u8>> {
    let link = cluster.link_of(&keys.rows).expect("a connection");
    let mut all = cmd("HGETALL");
    let rows: BTreeMap<String, Vec<u8>> = link.query(all.arg(&keys.rows)).await.expect("rows");
    let mut rows = rows;
    rows.retain(|name, _| name != "edition" && name != "version");
    let mut range = cmd("ZRANGE");
    range.arg(&keys.order).arg(0).arg(-1);
    let order: Vec<String> = link.query(&range).await.expect("names");
    assert!(order.iter().eq(rows.keys()), "{order:?}");
    rows
}

/// The queue of a gateway that has ended without a word.
struct Lost {
    id: Arc<str>,
    keys: Keys,
    cluster: Arc<Cluster>,
}

impl Lost {
    /// Has the lease run out.
    async fn lapse(&self) {
        let register = self.cluster.name("queues");
        let link = self.cluster.link_of(&register).expect("a connection");
        let mut age = cmd("ZADD");
        age.arg(&register).arg(0).arg(&*self.id);
        let _: i64 = link.query(&age).await.expect("aged");
        let link = self
            .cluster
            .link_of(&self.keys.lease)
            .expect("a connection");
        let _: i64 = link
            .query(cmd("DEL").arg(&self.keys.lease))
            .await
            .expect("deleted");
    }

    /// Waits until another gateway has adopted the queue.
    async fn adopted(&self) {
        eventually("an adoption", async || {
            let link = self.cluster.link_of(&self.keys.rows).expect("a connection");
            let mut exist = cmd("EXISTS");
            exist.arg(&self.keys.rows).arg(&self.keys.lease);
            link.query::<i64>(&exist).await == Ok(0)
        })
        .await;
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Settings of gateways that share a Redis.
fn settings() -> ClusterSettings {
    ClusterSettings {
        lease_secs: 3,
        ..redis_server::settings()
    }
}
