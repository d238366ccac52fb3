//! Lifecycle events on their way into the file. The connection, room or message that an event is about does
//! not wait for the thread, unless it asks for the moment at which the event is durable.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::oneshot;

use super::{
    NotStored, Queue, Told, Work, fits, logged,
    memory::{Reservation, Share},
    now,
    store::{Opening, Store},
};
use crate::backends::cloud_event::complete;

/// Maximum size that the end adds to the draft of a closing event, in bytes.
pub(in crate::backends) const CLOSING_BYTES: u64 = 128;

/// Cause of the end of what a process has left open that was killed.
const GATEWAY_LOST: &str = "gateway_lost";

/// The id of a book, and whether the book was dropped: then no end is owed.
#[derive(Clone)]
pub(in crate::backends) struct BookId {
    id: Arc<str>,
    is_dropped: Arc<AtomicBool>,
}

impl BookId {
    /// Notes that the book is not in the file.
    pub(in crate::backends) fn mark_dropped(&self) {
        self.is_dropped.store(true, Ordering::Release);
    }

    fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }
}

impl From<&str> for BookId {
    fn from(id: &str) -> Self {
        Self {
            id: id.into(),
            is_dropped: Arc::default(),
        }
    }
}

/// A closing event that is due.
#[derive(Clone)]
pub(super) struct Closing {
    id: BookId,
    cause: &'static str,
    /// When the end came, in milliseconds since the Unix epoch.
    at: u64,
}

/// Resolves with whether the file could be written. Events that it has no room for are no failure.
#[derive(Default)]
pub(in crate::backends) struct Stored(Vec<oneshot::Receiver<bool>>);

impl Stored {
    pub(in crate::backends) fn add(&mut self, one: Self) {
        self.0.extend(one.0);
    }

    /// Waits until all events are durable that the file has room for.
    ///
    /// # Errors
    ///
    /// When the file cannot be written: then some will never be durable.
    pub(in crate::backends) async fn wait(self) -> Result<(), NotStored> {
        for one in self.0 {
            if one.await != Ok(true) {
                return Err(NotStored::Unavailable);
            }
        }
        Ok(())
    }
}

/// The books of a connection or a room that is open. When they are dropped, its end is stored.
pub struct OpenBook {
    queue: Arc<Queue>,
    ids: Vec<BookId>,
    cause: &'static str,
}

impl OpenBook {
    pub(in crate::backends) fn new(
        queue: Arc<Queue>,
        ids: Vec<BookId>,
        cause: &'static str,
    ) -> Self {
        Self { queue, ids, cause }
    }

    /// Closes the books with another cause than the usual one.
    pub fn close(mut self, cause: &'static str) {
        self.cause = cause;
    }
}

impl Drop for OpenBook {
    fn drop(&mut self) {
        for id in self.ids.drain(..).filter(|id| !id.is_dropped()) {
            self.queue.close_book(Closing {
                id,
                cause: self.cause,
                at: now(),
            });
        }
    }
}

impl Queue {
    /// Waits for the memory in which lifecycle events of so many bytes in all wait for the thread.
    pub(in crate::backends) async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        self.memory.reserve(bytes).await
    }

    /// Takes the memory for lifecycle events of so many bytes, if it is free.
    pub(in crate::backends) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        self.memory.try_reserve(bytes)
    }

    /// Stores the beginning of a connection or of the use of a room, or an event that begins nothing. Without
    /// room for all of it in the file, within the `share` of its subject, nothing is stored, and `dropped` is
    /// called. `reservation` has the memory for it.
    pub(in crate::backends) fn open_book(
        &self,
        opening: Opening,
        (reservation, share): (Reservation, Share),
        dropped: impl FnOnce() + Send + 'static,
    ) -> Stored {
        let limit = (self.entries, self.bytes);
        self.record(reservation, dropped, move |store| {
            store.open_book(&opening, now(), |all, own, load| {
                fits(all, load, limit) && share.fits(own, load, limit)
            })
        })
    }

    fn record(
        &self,
        reservation: Reservation,
        dropped: impl FnOnce() + Send + 'static,
        work: impl FnOnce(&Store) -> rusqlite::Result<bool> + Send + 'static,
    ) -> Stored {
        let (tell, done) = oneshot::channel();
        let stored = self.stored.clone();
        let work: Work = Box::new(move |store| {
            let done = store.and_then(|store| logged(work(store)));
            let is_stored = done.unwrap_or_default();
            let told: Told = Box::new(move |is_durable| {
                drop(reservation);
                match is_stored && is_durable {
                    true => stored.notify_waiters(),
                    false => dropped(),
                }
                // The receiver may be gone.
                let _ = tell.send(done.is_some() && is_durable);
            });
            told
        });
        // The thread ends with the queue.
        let _ = self.work.send(work);
        Stored(vec![done])
    }

    /// Stores a closing event in the place of its book. It is tried again as long as the file cannot be
    /// written.
    fn close_book(&self, closing: Closing) {
        let (unwritten, stored) = (self.unwritten.clone(), self.stored.clone());
        let work: Work = Box::new(move |store| {
            let end = (closing.cause, closing.at);
            let write = |store: &Store| {
                let written =
                    store.close_book(&closing.id.id, now(), &|draft| complete(draft, end));
                logged(written)
            };
            let is_written = store.and_then(write).is_some();
            Box::new(move |is_durable| match is_written && is_durable {
                true => stored.notify_waiters(),
                // The thread has told of the opening before.
                false if closing.id.is_dropped() => {}
                false => {
                    let mut list = unwritten.lock().unwrap_or_else(PoisonError::into_inner);
                    list.push(closing);
                }
            })
        });
        let _ = self.work.send(work);
    }

    /// Number of closing events that could not be written.
    #[cfg(test)]
    pub(in crate::backends) fn unwritten(&self) -> usize {
        let unwritten = self.unwritten.lock();
        unwritten.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Writes the closing events that could not be written before.
    pub(super) fn write_again(&self) {
        let mut unwritten = self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for closing in std::mem::take(&mut *unwritten) {
            self.close_book(closing);
        }
    }
}

/// Stores the closing events of what a process has left open that was killed. Runs in a transaction.
pub(super) fn close_left_open(store: &Store) -> rusqlite::Result<()> {
    let at = now();
    let closed = store.close_all_books(at, &|draft| complete_lost(draft, at))?;
    if closed > 0 {
        tracing::info!(
            closed,
            "closed what a gateway has left open that was killed"
        );
    }
    Ok(())
}

/// Completes the closing event of what a gateway has left open that was killed; `at` is in milliseconds since the Unix
/// epoch.
pub(super) fn complete_lost(draft: &[u8], at: u64) -> Option<Vec<u8>> {
    complete(draft, (GATEWAY_LOST, at))
}

#[cfg(test)]
mod tests;
