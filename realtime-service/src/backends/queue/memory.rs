//! The memory of events that wait for the thread, and the parts of the file that subjects may fill.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fits;

/// Maximum size of the events that wait for the thread, in bytes.
const MAXIMUM_BYTES: u32 = 8 * 1024 * 1024;

/// Memory for events that wait for the thread.
pub(super) struct Memory(Arc<Semaphore>);

/// A part of the memory, given back when the last copy is dropped.
#[derive(Clone)]
pub struct Reservation {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The part of the queue that one subject may fill for one back end. The first event of a subject always fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backends) enum Share {
    /// A sixteenth: events of clients, and messages.
    Sixteenth,
    /// An eighth: the openings of connections and rooms. So the events that a client sends leave room for them.
    Eighth,
    /// All of it: revocations, which no client causes at will.
    All,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAXIMUM_BYTES as usize)))
    }

    /// Waits for so many bytes, or for all of them if there are less. `None` when there is no memory any more.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let permit = self.0.clone().acquire_many_owned(permits(bytes)).await;
        permit.ok().map(Reservation::new)
    }

    /// Takes so many bytes if they are free, and nothing waits for them.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let permit = self.0.clone().try_acquire_many_owned(permits(bytes));
        permit.ok().map(Reservation::new)
    }
}

impl Reservation {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: Arc::new(permit),
        }
    }
}

impl Share {
    /// Whether a further `load` of a subject that has `own` fits into its share of `limit`, each in events and
    /// bytes.
    pub(super) fn fits(self, own: (u64, u64), load: (u64, u64), limit: (u64, u64)) -> bool {
        let parts = match self {
            Self::Sixteenth => 16,
            Self::Eighth => 8,
            Self::All => 1,
        };
        own.0 == 0 || fits(own, load, (limit.0 / parts, limit.1 / parts))
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).map_or(MAXIMUM_BYTES, |bytes| bytes.min(MAXIMUM_BYTES))
}
