//! The copy of a gateway's queue in Redis, from which another gateway goes on when this one dies.
//!
//! The file stays the queue. The copy has its rows, and follows the numbered changes of the file. A change is
//! acknowledged once the copy has it too, unless Redis is away or silent: then the disk alone is enough, and the
//! copy catches up, or is written anew, when Redis is back.
//!
//! A queue has an id, and a lease in Redis. A queue without a lease is adopted by another gateway, and its id is
//! never used again.

mod adoption;
mod progress;
#[cfg(test)]
mod tests;
mod write;

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use redis::{Script, ScriptInvocation};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

pub(in crate::backends::queue) use self::progress::Progress;
use super::{
    Queue,
    journal::close_left_open,
    store::{Edition, Store},
};
use crate::{
    cluster::{Away, Cluster},
    config::WebhookSettings,
    ids::random_id,
    metrics::Metrics,
};

static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hold.lua")));

/// Interval at which the lease is renewed, and at which the file is searched for changes by commands. The shortest
/// lease is three of it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// The wait before Redis is asked again that was away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The copy of a queue in Redis.
pub(in crate::backends) struct QueueCopy {
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    /// A connection of its own to the file, which reads what was committed.
    reader: Arc<Mutex<Store>>,
    cluster: Arc<Cluster>,
    metrics: Arc<Metrics>,
    /// The random name under which this process adopts queues.
    adopter: String,
    /// Whether the events of the file may be delivered.
    is_settled: watch::Sender<bool>,
}

/// The names of the keys of one queue, which are on one server.
struct Keys {
    lease: String,
    /// The mark of an adopted queue: the edition and the version that were adopted.
    adopted: String,
    rows: String,
    order: String,
    draft_rows: String,
    draft_order: String,
}

impl Keys {
    fn new(cluster: &Cluster, id: &str) -> Self {
        let name = |part: &str| cluster.name(&format!("{{{id}}}:queue:{part}"));
        Self {
            lease: name("lease"),
            adopted: name("adopted"),
            rows: name("rows"),
            order: name("order"),
            draft_rows: name("rows:draft"),
            draft_order: name("order:draft"),
        }
    }
}

impl QueueCopy {
    /// Opens the file of a queue and its copy in the `cluster`. Nothing is delivered until [`Self::settle`].
    ///
    /// # Errors
    ///
    /// When the file cannot be used, or another gateway uses it.
    pub(in crate::backends) fn open(
        settings: &WebhookSettings,
        cluster: &Arc<Cluster>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (queue, progress) = Queue::open_copied(settings)?;
        let reader = Store::open(&settings.file, false)?;
        Ok(Self {
            queue: Arc::new(queue),
            progress,
            reader: Arc::new(Mutex::new(reader)),
            cluster: cluster.clone(),
            metrics: metrics.clone(),
            adopter: random_id(),
            is_settled: watch::Sender::new(false),
        })
    }

    pub(in crate::backends) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Makes sure, for as long as Redis may take to answer, that no other gateway has adopted the queue since it was
    /// used last; what was adopted is removed from the file. Closes what a process before this one has left
    /// open. Then events may be delivered.
    pub(in crate::backends) async fn settle(&self) {
        let limit = self.cluster.timeout();
        let held = timeout(limit, async {
            let id = self.progress.id();
            self.cluster.connected_to(&self.keys().lease).await;
            self.hold(&id).await
        });
        let adopted = match held.await {
            Ok(Ok(adopted)) => adopted,
            Ok(Err(Away)) | Err(_) => {
                tracing::warn!(
                    "Redis cannot be reached: if another gateway has adopted this queue, its events are sent twice"
                );
                None
            }
        };
        if let Some(adopted) = adopted {
            self.drop_adopted(adopted).await;
        }
        // A failure is logged where it happens, and the books are closed at the next start.
        let _ = self.queue.run(close_left_open).await;
        self.progress.settle();
        self.is_settled.send_replace(true);
    }

    /// Waits until events may be delivered.
    pub(in crate::backends) async fn settled(&self) {
        // The sender lives as long as this.
        let _ = self.is_settled.subscribe().wait_for(|is| *is).await;
    }

    async fn drop_adopted(&self, adopted: Edition) {
        let id: Arc<str> = random_id().into();
        let new = id.clone();
        let dropped = self
            .queue
            .run(move |store| store.drop_adopted(&adopted, &new));
        if let Ok(dropped) = dropped.await {
            tracing::warn!(
                dropped,
                "another gateway has adopted this queue: what it has taken was removed"
            );
            self.progress.set_id(id);
        }
    }

    /// Keeps the copy up to date, and adopts the queues of dead gateways; never returns.
    pub(in crate::backends) async fn run(&self) {
        self.settled().await;
        tokio::join!(self.keep_lease(), self.follow(), self.adopt_queues());
    }

    /// Copies what is not copied yet, for as long as Redis may take to answer. Nothing waits for the copy any more.
    pub(in crate::backends) async fn finish(&self) {
        if !*self.is_settled.borrow() {
            return;
        }
        let copied = async {
            tokio::select! {
                _ = self.queue.run(|_| Ok(())) => {}
                () = self.follow() => {}
            }
        };
        let _ = timeout(self.cluster.timeout(), copied).await;
        self.progress.fall_back();
    }

    /// Renews the lease; never returns. Whoever writes to the copy finds out that it was adopted.
    async fn keep_lease(&self) {
        loop {
            self.cluster.connected_to(&self.keys().lease).await;
            let _ = self.hold(&self.progress.id()).await;
            sleep(RENEWAL_INTERVAL).await;
        }
    }

    /// Takes or renews the lease of a queue. Returns which copy was adopted, if it was.
    async fn hold(&self, id: &str) -> Result<Option<Edition>, Away> {
        let keys = Keys::new(&self.cluster, id);
        let mut script = HOLD.key(&keys.lease);
        script.key(&keys.adopted).key(&keys.rows);
        script.arg(id).arg(self.lease_ms());
        let adopted: Option<String> = self.invoke(&keys, &script, 0).await?;
        Ok(adopted.map(|text| {
            let (name, version) = text.split_once(' ').unwrap_or_default();
            Edition {
                name: name.to_owned(),
                version: version.parse().unwrap_or_default(),
            }
        }))
    }

    /// Runs a script, unless its server is silent. At most one such request of each kind is under way.
    async fn invoke<T: redis::FromRedisValue>(
        &self,
        keys: &Keys,
        script: &ScriptInvocation<'_>,
        bytes: usize,
    ) -> Result<T, Away> {
        let link = self.cluster.link_of(&keys.lease)?;
        let answer = link.invoke_beyond_bound(script, bytes);
        link.unless_silent(answer).await?
    }

    /// Reads from the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read. Then the copy is behind, as if Redis were away.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Away> {
        let reader = self.reader.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let store = reader.lock().unwrap_or_else(PoisonError::into_inner);
            super::logged(read(&store))
        });
        reading.await.ok().flatten().ok_or(Away)
    }

    fn keys(&self) -> Keys {
        Keys::new(&self.cluster, &self.progress.id())
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.cluster.lease().as_millis()).unwrap_or(u64::MAX)
    }
}
