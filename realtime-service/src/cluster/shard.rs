//! One server of Redis, or one shard of a Redis Cluster: its connection, which comes back by itself, and the
//! channels that this gateway listens to there.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::sleep,
};

use super::{Away, Link, channels::Channels, slots::tag_of, terms::Terms};

/// The first wait before a server is connected to again. It doubles with each failure.
const MINIMUM_PAUSE: Duration = Duration::from_millis(50);

/// The longest such wait: a server that has returned is connected within it.
const MAXIMUM_PAUSE: Duration = Duration::from_secs(1);

/// Maximum size of the answers of all reads under way, in KiB. Redis closes a connection with
/// subscriptions when 8 MiB wait in its output buffer for a minute, or 32 MiB at any moment
/// (`client-output-buffer-limit pubsub`). Published messages need the rest.
const READ_KIB: u32 = 6 * 1024;

/// One server of Redis, or one shard of a Redis Cluster.
pub(super) struct Shard {
    pub(super) terms: Arc<Terms>,
    /// The primary of a shard as `HOST:PORT`. Without it, the settings name the server.
    pub(super) address: Option<String>,
    anchor: Mutex<Option<Anchor>>,
    pub(super) link: watch::Sender<Option<Arc<Link>>>,
    pub(super) generation: AtomicU64,
    pub(super) channels: Arc<Channels>,
    /// The free part of [`READ_KIB`].
    reads: Semaphore,
}

/// The slot with the key of a shard's tenure: its highest one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Anchor {
    slot: u16,
    /// The name of the key.
    pub(super) key: String,
}

impl Shard {
    /// A server that the settings name.
    pub(super) fn of_settings(terms: &Arc<Terms>) -> Arc<Self> {
        Self::new(terms, None)
    }

    /// The shard with the primary at `address`.
    pub(super) fn of_cluster(terms: &Arc<Terms>, address: &str) -> Arc<Self> {
        Self::new(terms, Some(address.to_owned()))
    }

    fn new(terms: &Arc<Terms>, address: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            terms: terms.clone(),
            address,
            anchor: Mutex::default(),
            link: watch::Sender::new(None),
            generation: AtomicU64::new(0),
            channels: Arc::new(Channels::new(terms.is_sharded())),
            reads: Semaphore::new(READ_KIB as usize),
        })
    }

    /// Connects, and connects again whenever the connection is lost; never returns.
    pub(super) async fn run(&self) {
        let (mut pause, mut is_reported) = (MINIMUM_PAUSE, false);
        loop {
            match self.connect().await {
                Ok(link) => {
                    (pause, is_reported) = (MINIMUM_PAUSE, false);
                    tracing::info!(server = self.address, "Redis is connected");
                    let reason = self.serve(&link).await;
                    self.disconnect();
                    tracing::warn!(
                        server = self.address,
                        "the connection to Redis is lost: {reason}"
                    );
                }
                Err(error) if !std::mem::replace(&mut is_reported, true) => {
                    let server = self.address.as_deref();
                    tracing::warn!(server, "cannot connect to Redis: {error:#}; trying again");
                }
                Err(error) => tracing::debug!("cannot connect to Redis: {error:#}"),
            }
            // Another server may have taken the place of this one.
            self.terms.map_outdated.notify_one();
            sleep(pause).await;
            pause = (pause * 2).min(MAXIMUM_PAUSE);
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Waits until the server is connected.
    pub(super) async fn connected(&self) {
        // The sender lives as long as this.
        let _ = self.link.subscribe().wait_for(Option::is_some).await;
    }

    pub(super) fn link(&self) -> Result<Arc<Link>, Away> {
        self.link.borrow().clone().ok_or(Away)
    }

    /// Returns the generation of the connection, or the one without it.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Waits until an answer of at most `bytes` bytes fits among those of the reads under way. The permit
    /// is held until the answer has arrived.
    pub(super) async fn permit_read(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(READ_KIB);
        // The semaphore is never closed.
        self.reads.acquire_many(kib.clamp(1, READ_KIB)).await.ok()
    }

    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.lock_anchor().clone()
    }

    /// Notes the highest slot of the shard.
    pub(super) fn set_anchor(&self, slot: u16) {
        let mut anchor = self.lock_anchor();
        if anchor.as_ref().is_none_or(|anchor| anchor.slot != slot) {
            let key = self.terms.name(&format!("{{{}}}:tenure", tag_of(slot)));
            *anchor = Some(Anchor { slot, key });
        }
    }

    fn lock_anchor(&self) -> MutexGuard<'_, Option<Anchor>> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the generation without a connection, if there is one.
    pub(super) fn disconnect(&self) {
        let generation = self.terms.generations.next_alone();
        self.generation.store(generation, Ordering::Release);
        self.link.send_replace(None);
        self.channels.end();
        self.terms.connections_changed.notify_one();
    }
}
