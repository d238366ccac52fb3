//! The switch that closes a stream from outside, and the switches of all open streams.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use crate::metrics::Cause;

/// Closes one stream from outside, however backlogged the stream is.
///
/// The switch lives as long as the connection: after an upgrade, it closes the WebSocket.
#[derive(Clone)]
pub struct KillSwitch(Arc<Switch>);

struct Switch {
    is_closed: AtomicBool,
    /// Wakes the task that reads the stream.
    reader: AtomicWaker,
    /// Wakes the task that writes the stream. After an upgrade it is not the task that reads.
    writer: AtomicWaker,
    /// Wakes the task in [`KillSwitch::closed`].
    observer: AtomicWaker,
    /// The cause of the end, unless this switch has closed the stream.
    cause: OnceLock<Cause>,
    created_at: Instant,
    /// The time since which a write waits for the peer, in milliseconds after `created_at`, plus one. 0
    /// while no write waits.
    blocked_since: AtomicU64,
}

impl Default for KillSwitch {
    fn default() -> Self {
        Self(Arc::new(Switch {
            is_closed: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            observer: AtomicWaker::new(),
            cause: OnceLock::new(),
            created_at: Instant::now(),
            blocked_since: AtomicU64::new(0),
        }))
    }
}

impl KillSwitch {
    /// Closes the stream: reads end, writes fail, and the tasks that wait for either are woken.
    pub fn close(&self) {
        if !self.0.is_closed.swap(true, Ordering::AcqRel) {
            self.0.reader.wake();
            self.0.writer.wake();
            self.0.observer.wake();
        }
    }

    /// Resolves when the stream is closed. One task at a time may wait for it.
    pub async fn closed(&self) {
        poll_fn(|context| self.poll_closed(&self.0.observer, context)).await;
    }

    /// Waits for the end of a stream whose read is pending.
    pub(super) fn poll_read_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_closed(&self.0.reader, context)
    }

    /// Waits for the end of a stream whose write is pending.
    pub(super) fn poll_write_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_closed(&self.0.writer, context)
    }

    fn poll_closed(&self, waker: &AtomicWaker, context: &mut Context<'_>) -> Poll<()> {
        // Registered first: a close after the check wakes the task.
        waker.register(context.waker());
        match self.is_closed() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Whether the stream is closed, by this switch or because it was dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    /// Whether a write waits for the peer to take bytes.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.0.blocked_since.load(Ordering::Acquire) > 0
    }

    /// Returns the time for which a write has waited for the peer to take bytes.
    #[must_use]
    pub fn blocked_for(&self, now: Instant) -> Option<Duration> {
        let since = self
            .0
            .blocked_since
            .load(Ordering::Acquire)
            .checked_sub(1)?;
        let since = self.0.created_at + Duration::from_millis(since);
        Some(now.saturating_duration_since(since))
    }

    /// Notes that a write waits. Returns whether this is the first note since the stream took bytes.
    pub(super) fn block(&self, now: Instant) -> bool {
        let millis = now.saturating_duration_since(self.0.created_at).as_millis();
        let since = u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1;
        let swapped =
            self.0
                .blocked_since
                .compare_exchange(0, since, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok()
    }

    /// Notes that no write waits.
    pub(super) fn unblock(&self) {
        if self.is_blocked() {
            self.0.blocked_since.store(0, Ordering::Release);
        }
    }

    /// Returns the cause for which the stream ended by itself, once it has ended.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.0.cause.get().copied()
    }

    /// Closes a stream that ends for `cause`. The first cause counts.
    pub(super) fn ended(&self, cause: Cause) {
        let _ = self.0.cause.set(cause);
        self.close();
    }
}

/// The switches of all open streams, which a shutdown closes.
#[derive(Default)]
pub struct KillSwitches(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    switches: HashMap<u64, KillSwitch>,
    next_number: u64,
}

/// The entry of one switch in [`KillSwitches`]. Dropping it removes the switch.
pub struct Registration {
    all: Arc<KillSwitches>,
    number: u64,
}

impl KillSwitches {
    /// Adds the switch of an open stream.
    pub fn register(self: &Arc<Self>, switch: &KillSwitch) -> Registration {
        let mut registered = self.lock();
        let number = registered.next_number;
        registered.next_number += 1;
        registered.switches.insert(number, switch.clone());
        Registration {
            all: self.clone(),
            number,
        }
    }

    /// Closes every stream.
    pub fn close_all(&self) {
        let switches = std::mem::take(&mut self.lock().switches);
        for switch in switches.into_values() {
            switch.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _switch = self.all.lock().switches.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn close_all_closes_the_streams_that_are_open_and_wakes_who_waits() {
        let switches = Arc::<KillSwitches>::default();
        let (open, ended) = (KillSwitch::default(), KillSwitch::default());
        let _registration = switches.register(&open);
        drop(switches.register(&ended));
        let waiting = tokio::spawn({
            let open = open.clone();
            async move { open.closed().await }
        });
        yield_now().await;
        switches.close_all();
        waiting.await.expect("woken");
        assert!(open.is_closed());
        assert!(!ended.is_closed(), "its stream has ended by itself");
        assert!(switches.lock().switches.is_empty());
    }

    #[tokio::test]
    async fn a_read_and_a_write_that_wait_are_both_woken() {
        let switch = KillSwitch::default();
        let waiting = [true, false].map(|is_read| {
            let switch = switch.clone();
            tokio::spawn(poll_fn(move |context| match is_read {
                true => switch.poll_read_closed(context),
                false => switch.poll_write_closed(context),
            }))
        });
        yield_now().await;
        switch.close();
        for one in waiting {
            one.await.expect("woken");
        }
        assert!(switch.closed().now_or_never().is_some());
    }
}
