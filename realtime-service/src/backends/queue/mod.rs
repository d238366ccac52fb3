//! The durable queue of events for back ends: an event is in the file before it is acknowledged, and
//! stays there until its back end has taken it.
//!
//! One thread owns the file. It gathers what waits into one transaction, so that many events share a
//! write to the disk.

pub(super) mod copy;
pub(super) mod delivery;
mod journal;
mod memory;
pub mod store;

use std::{
    collections::HashSet,
    fs::File,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use self::{
    copy::Progress,
    journal::{Closing, close_left_open},
    memory::Memory,
    store::{BUSY_TIMEOUT, BatchLimits, Due, Levels, NewEvent, Store},
};
pub use self::{journal::OpenBook, memory::Reservation};
pub(super) use self::{
    journal::{BookId, CLOSING_BYTES, Stored},
    memory::Share,
};
use crate::{
    auth::revocations::lock_beside,
    clock::{self, unix_millis},
    config::WebhookSettings,
};

/// Maximum number of pieces of work that wait for the thread, besides lifecycle events, and that one
/// transaction has.
const MAXIMUM_WAITING: usize = 1024;
const MAXIMUM_BATCH: usize = 256;

/// Size of an event in memory besides its body, in bytes.
const EVENT_BYTES: usize = 512;

/// Work in a transaction; it is called without the file when no transaction can begin. What it returns is called
/// with whether the transaction is durable.
type Work = Box<dyn FnOnce(Option<&Store>) -> Told + Send>;
type Told = Box<dyn FnOnce(bool) + Send>;

/// The queue.
pub(super) struct Queue {
    /// The work of the thread. Its length is bounded by `permits`, by `memory` and, for closing events, by
    /// the number of open books.
    work: mpsc::UnboundedSender<Work>,
    permits: Arc<Semaphore>,
    memory: Memory,
    /// The closing events that could not be written, of books in the file alone.
    unwritten: Arc<Mutex<Vec<Closing>>>,
    /// Wakes the deliveries when an event was stored.
    stored: Arc<Notify>,
    entries: u64,
    bytes: u64,
    /// Other gateways stay away from the file as long as this one is locked.
    lock: Mutex<Option<File>>,
}

/// An event was not stored, or the file cannot be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The queue is full for all or for this subject, or too much waits in memory to be written.
    Full,
    /// The event is larger than its back end can be sent.
    TooLarge,
    /// The file cannot be read or written.
    Unavailable,
}

impl Queue {
    /// Opens the file, and creates it when it does not exist. Stores the closing events of the connections and
    /// rooms that a process before this one has left open.
    ///
    /// # Errors
    ///
    /// When it cannot be used, or another gateway uses it.
    pub(super) fn open(settings: &WebhookSettings) -> anyhow::Result<Self> {
        Self::open_within(settings, BUSY_TIMEOUT)
    }

    /// Does the same. A transaction waits for `busy_timeout` while another process writes.
    pub(super) fn open_within(
        settings: &WebhookSettings,
        busy_timeout: Duration,
    ) -> anyhow::Result<Self> {
        Self::begin(settings, busy_timeout, |store| {
            store.end_copy()?;
            close_left_open(store).map(|()| None)
        })
    }

    /// Opens the file of a queue that has a copy in Redis. What a process before this one has left open stays so.
    ///
    /// # Errors
    ///
    /// See [`Self::open`].
    fn open_copied(settings: &WebhookSettings) -> anyhow::Result<(Self, Arc<Progress>)> {
        let mut progress = None;
        let queue = Self::begin(settings, BUSY_TIMEOUT, |store| {
            let begun = Arc::new(Progress::begin(store)?);
            progress = Some(begun.clone());
            Ok(Some(begun))
        })?;
        Ok((queue, progress.context("the copy has not begun")?))
    }

    fn begin(
        settings: &WebhookSettings,
        busy_timeout: Duration,
        prepare: impl FnOnce(&Store) -> rusqlite::Result<Option<Arc<Progress>>>,
    ) -> anyhow::Result<Self> {
        let name = || format!("webhooks.file ({})", settings.file.display());
        let lock = lock_beside(&settings.file).with_context(name)?;
        let mut store =
            Store::open_within(&settings.file, true, busy_timeout).with_context(name)?;
        store.choose_missing_heads().with_context(name)?;
        let prepared = store.commit(prepare).and_then(|prepared| prepared);
        let copied = prepared.with_context(name)?;
        let (work, waiting) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name("webhooks".to_owned());
        thread
            .spawn(move || work_through(store, waiting, copied.as_deref()))
            .context("cannot start a thread")?;
        Ok(Self {
            work,
            permits: Arc::new(Semaphore::new(MAXIMUM_WAITING)),
            memory: Memory::new(),
            unwritten: Arc::default(),
            stored: Arc::default(),
            entries: settings.entries,
            bytes: settings.bytes,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Stores an event; when this returns it is durable.
    ///
    /// # Errors
    ///
    /// See [`NotStored`]. The event is not in the file, unless the answer of the disk was lost.
    pub(super) async fn append(&self, event: NewEvent) -> Result<(), NotStored> {
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| NotStored::Full)?;
        let memory = self.try_reserve(event.body.len() + EVENT_BYTES);
        let memory = memory.ok_or(NotStored::Full)?;
        let limit = (self.entries, self.bytes);
        let (work, done) = work_of((permit, memory), move |store| {
            let load = (1, event.body.len() as u64);
            let own = store.totals_of(&event.backend, &event.subject)?;
            if !fits(store.totals()?, load, limit) || !Share::Sixteenth.fits(own, load, limit) {
                return Ok(false);
            }
            store.append(&event, now()).map(|()| true)
        });
        self.work.send(work).map_err(|_| NotStored::Unavailable)?;
        match done.await {
            Ok(Some(true)) => {
                self.stored.notify_waiters();
                Ok(())
            }
            Ok(Some(false)) => Err(NotStored::Full),
            Ok(None) | Err(_) => Err(NotStored::Unavailable),
        }
    }

    async fn due(
        &self,
        backend: &str,
        limits: BatchLimits,
        under_way: &HashSet<i64>,
    ) -> Result<Vec<Vec<Due>>, NotStored> {
        let (backend, under_way) = (backend.to_owned(), under_way.clone());
        self.run(move |store| store.due(&backend, now(), limits, &under_way))
            .await
    }

    async fn levels(&self, backend: &str) -> Result<Levels, NotStored> {
        let backend = backend.to_owned();
        self.run(move |store| store.levels(&backend)).await
    }

    /// Waits until the events of this moment are durable, and leaves the file to other gateways. Nothing may be
    /// stored or delivered any more.
    pub(super) async fn close(&self) {
        // A failure is logged where it happens.
        let _ = self.run(|_| Ok(())).await;
        let lock = self
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(lock);
    }

    /// Has the deliveries look at the file again.
    pub(super) fn wake(&self) {
        self.stored.notify_waiters();
    }

    /// Runs work in a transaction; when this returns it is durable.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, NotStored> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| NotStored::Unavailable)?;
        let (work, done) = work_of(permit, work);
        self.work.send(work).map_err(|_| NotStored::Unavailable)?;
        done.await.ok().flatten().ok_or(NotStored::Unavailable)
    }
}

/// Whether a further `load` fits into `limit`, each in events and bytes.
fn fits((entries, bytes): (u64, u64), load: (u64, u64), limit: (u64, u64)) -> bool {
    entries + load.0 <= limit.0 && bytes + load.1 <= limit.1
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    unix_millis(clock::now().wall)
}

/// Boxes work; its result comes once it is durable, or `None`. The permit is dropped then.
fn work_of<T: Send + 'static>(
    permit: impl Send + 'static,
    work: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
) -> (Work, oneshot::Receiver<Option<T>>) {
    let (tell, done) = oneshot::channel();
    let work: Work = Box::new(move |store| {
        let result = store.and_then(|store| logged(work(store)));
        Box::new(move |is_durable| {
            drop(permit);
            // Whoever asked may have given up.
            let _ = tell.send(result.filter(|_| is_durable));
        })
    });
    (work, done)
}

fn logged<T>(result: rusqlite::Result<T>) -> Option<T> {
    let log = |error: &rusqlite::Error| tracing::error!("webhooks.file cannot be used: {error}");
    result.inspect_err(log).ok()
}

/// Does the work in the order in which it comes, until nobody can send any more.
fn work_through(
    mut store: Store,
    mut waiting: mpsc::UnboundedReceiver<Work>,
    copied: Option<&Progress>,
) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAXIMUM_BATCH
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        let mut told: Vec<Told> = Vec::with_capacity(batch.len());
        let mut batch = batch.into_iter();
        let committed = store.commit(|store| {
            let noted = copied.and_then(|copied| logged(copied.note(store)));
            told.extend(batch.by_ref().map(|work| work(Some(store))));
            noted.and_then(|()| logged(store.last_change()))
        });
        // Nothing of the batch has run when the transaction could not begin.
        told.extend(batch.map(|work| work(None)));
        if let Err(error) = &committed {
            tracing::error!("webhooks.file cannot be written: {error}");
        }
        match (copied, &committed) {
            (Some(copied), Ok(Some(last))) => copied.tell(*last, told),
            (copied, _) => {
                if let (Some(copied), Ok(None)) = (copied, &committed) {
                    // Which changes the copy lacks is not known until the next transaction.
                    copied.fall_back();
                }
                told.into_iter().for_each(|tell| tell(committed.is_ok()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn event(id: usize, subject: &str, bytes: usize) -> NewEvent {
        NewEvent {
            id: format!("{subject} {id}"),
            backend: "shop".to_owned(),
            subject: subject.to_owned(),
            body: vec![b'x'; bytes],
        }
    }

    #[tokio::test]
    async fn one_subject_fills_its_share_and_leaves_the_rest_to_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let queue = Queue::open(&WebhookSettings {
            file: directory.path().join("queue.db"),
            entries: 32,
            bytes: 1600,
        });
        let queue = queue.expect("a queue");
        for (id, bytes, expected) in [
            (0, 60, Ok(())),
            (1, 41, Err(NotStored::Full)),
            (2, 40, Ok(())),
            (3, 0, Err(NotStored::Full)),
        ] {
            assert_eq!(
                queue.append(event(id, "alice", bytes)).await,
                expected,
                "{id}"
            );
        }
        // A single event may be larger than a share.
        assert_eq!(queue.append(event(0, "bob", 1400)).await, Ok(()));
        assert_eq!(
            queue.append(event(0, "carol", 101)).await,
            Err(NotStored::Full)
        );
        assert_eq!(queue.append(event(0, "carol", 100)).await, Ok(()));
    }

    #[tokio::test]
    async fn events_that_wait_for_the_disk_have_a_bound_in_bytes() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("queue.db");
        let settings = WebhookSettings {
            file: file.clone(),
            entries: 1000,
            bytes: 1 << 30,
        };
        let queue = Queue::open_within(&settings, Duration::from_secs(60)).expect("a queue");
        let other = rusqlite::Connection::open(file).expect("the file");
        other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        let mebibyte = |id| event(id, &id.to_string(), 1 << 20);
        let mut waiting: Vec<_> = (0..7)
            .map(|id| Box::pin(queue.append(mebibyte(id))))
            .collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        // The eighth would fit without its own size besides the body.
        assert_eq!(queue.append(mebibyte(7)).await, Err(NotStored::Full));
        let mut small = Box::pin(queue.append(event(8, "8", 1 << 19)));
        assert!(small.as_mut().now_or_never().is_none());
        other.execute_batch("ROLLBACK").expect("released");
        for one in waiting.into_iter().chain([small]) {
            assert_eq!(one.await, Ok(()));
        }
        assert_eq!(queue.append(mebibyte(7)).await, Ok(()));
    }
}
