//! The capacity of one back end: calls at a time, calls that wait, and the bytes of all of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::BackendSettings;

/// Bounds of the work that one back end is given at a time.
pub(super) struct Capacity {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    maximum_waiting: usize,
    bytes: AtomicUsize,
    maximum_bytes: usize,
}

/// As much waits for the back end as may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The bytes of one call, given back when it is dropped.
pub(super) struct Load<'a> {
    capacity: &'a Capacity,
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
        }
    }

    /// Takes so many bytes for one call.
    ///
    /// # Errors
    ///
    /// When all calls together have as many as they may.
    pub(super) fn load(&self, bytes: usize) -> Result<Load<'_>, Full> {
        let mut load = Load {
            capacity: self,
            bytes: 0,
        };
        load.grow(bytes)?;
        Ok(load)
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
        match all > self.capacity.maximum_bytes {
            true => Err(Full),
            false => Ok(()),
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.capacity.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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
        let mut load = capacity.load(6).expect("room");
        assert_eq!(capacity.load(5).err(), Some(Full));
        assert!(load.grow(4).is_ok());
        assert_eq!(load.grow(1), Err(Full));
        drop(load);
        assert!(capacity.load(10).is_ok());
    }
}
