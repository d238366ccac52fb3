//! The capacity of one back end: calls at a time, calls that wait, and the bytes of all of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::BackendSettings;

/// Part of the calls and bytes that one sender may have: one of so many.
const SHARES: usize = 16;

/// Bounds of the work that one back end is given at a time.
pub(super) struct Capacity {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    maximum_waiting: usize,
    bytes: AtomicUsize,
    maximum_bytes: usize,
    /// The calls under way and waiting, by sender.
    senders: Mutex<HashMap<Arc<str>, Usage>>,
    share: Usage,
}

/// Calls, and the bytes of their events and answers.
#[derive(Clone, Copy, Default)]
struct Usage {
    calls: usize,
    bytes: usize,
}

/// As much waits for the back end as may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The bytes of one call, given back when it is dropped.
pub(super) struct Load<'a> {
    capacity: &'a Capacity,
    sender: Option<Arc<str>>,
    bytes: usize,
}

/// A call that waits, counted until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Capacity {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        Self {
            places: Arc::new(Semaphore::new(settings.concurrency)),
            waiting: AtomicUsize::new(0),
            maximum_waiting: settings.queue,
            bytes: AtomicUsize::new(0),
            maximum_bytes: settings.bytes,
            senders: Mutex::default(),
            share: Usage {
                calls: (settings.concurrency + settings.queue) / SHARES,
                bytes: settings.bytes / SHARES,
            },
        }
    }

    /// Takes so many bytes for one call of `sender`.
    ///
    /// # Errors
    ///
    /// When all calls together have as many as they may, or those of the sender. One call of a sender is
    /// always within the sender's share.
    pub(super) fn load(&self, sender: Option<&str>, bytes: usize) -> Result<Load<'_>, Full> {
        let sender = sender.map(|sender| self.enter(sender, bytes)).transpose()?;
        let mut load = Load {
            capacity: self,
            sender,
            bytes: 0,
        };
        load.grow(bytes)?;
        Ok(load)
    }

    /// Counts a call of `sender`, if its bytes fit.
    fn enter(&self, sender: &str, bytes: usize) -> Result<Arc<str>, Full> {
        let mut senders = self.senders();
        let (sender, used) = match senders.get_key_value(sender) {
            Some((sender, used)) => (sender.clone(), *used),
            None => (sender.into(), Usage::default()),
        };
        let fits = used.calls < self.share.calls && used.bytes + bytes <= self.share.bytes;
        if used.calls > 0 && !fits {
            return Err(Full);
        }
        senders.entry(sender.clone()).or_default().calls += 1;
        Ok(sender)
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<Arc<str>, Usage>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of the places, once one is free.
    ///
    /// # Errors
    ///
    /// When as many calls wait as may.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, Full> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _counted = Waiting(&self.waiting);
        if waiting >= self.maximum_waiting {
            return Err(Full);
        }
        self.places.clone().acquire_owned().await.map_err(|_| Full)
    }
}

impl Load<'_> {
    /// Takes so many bytes more.
    ///
    /// # Errors
    ///
    /// When all calls together have as many as they may.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let all = self.capacity.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        if let Some(sender) = &self.sender
            && let Some(used) = self.capacity.senders().get_mut(sender)
        {
            used.bytes += bytes;
        }
        match all > self.capacity.maximum_bytes {
            true => Err(Full),
            false => Ok(()),
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.capacity.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let Some(sender) = &self.sender else {
            return;
        };
        let mut senders = self.capacity.senders();
        if let Some(used) = senders.get_mut(sender) {
            used.calls -= 1;
            used.bytes -= self.bytes;
            if used.calls == 0 {
                senders.remove(sender);
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn capacity() -> Capacity {
        let settings = serde_json::json!({
            "name": "a", "url": "", "secret_file": "", "concurrency": 1, "queue": 1, "bytes": 10,
        });
        Capacity::new(&serde_json::from_value(settings).expect("settings"))
    }

    #[tokio::test]
    async fn a_call_waits_for_a_place_unless_as_many_wait_as_may() {
        let capacity = capacity();
        let place = capacity.place().await.expect("a place");
        let mut second = Box::pin(capacity.place());
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(capacity.place().await.err(), Some(Full));
        drop(place);
        let second = second.await.expect("the place of the first");
        let mut third = Box::pin(capacity.place());
        assert!(third.as_mut().now_or_never().is_none());
        // A call that has given up waits no more.
        drop(third);
        let mut fourth = Box::pin(capacity.place());
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(second);
        assert!(fourth.await.is_ok());
    }

    #[test]
    fn bytes_are_given_back_also_those_that_were_too_many() {
        let capacity = capacity();
        let mut load = capacity.load(None, 6).expect("room");
        assert_eq!(capacity.load(None, 5).err(), Some(Full));
        assert!(load.grow(4).is_ok());
        assert_eq!(load.grow(1), Err(Full));
        drop(load);
        assert!(capacity.load(None, 10).is_ok());
    }

    #[test]
    fn one_sender_fills_a_share_and_leaves_the_rest_to_others() {
        let settings = serde_json::json!({
            "name": "a", "url": "", "secret_file": "", "concurrency": 2, "queue": 30, "bytes": 160,
        });
        let capacity = Capacity::new(&serde_json::from_value(settings).expect("settings"));
        let first = capacity.load(Some("alice"), 6).expect("room");
        assert_eq!(capacity.load(Some("alice"), 5).err(), Some(Full));
        let second = capacity.load(Some("alice"), 4).expect("room");
        assert_eq!(capacity.load(Some("alice"), 0).err(), Some(Full));
        // A single call may be larger than a share.
        let mut other = capacity.load(Some("bob"), 100).expect("room");
        assert!(other.grow(40).is_ok());
        assert_eq!(capacity.load(Some("carol"), 11).err(), Some(Full));
        drop((first, second, other));
        assert!(capacity.senders().is_empty());
        assert_eq!(capacity.bytes.load(Ordering::Relaxed), 0);
    }
}
