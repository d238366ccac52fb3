//! Deadlines of everything that ends, and the actions that run when a deadline is reached.
//!
//! One task watches the deadlines and runs nothing itself. Actions that are due run in slices, each
//! slice in a task of its own: other tasks of the runtime run between two slices, and a slow action
//! delays no more than the rest of its slice.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::available_parallelism,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

/// Maximum number of actions in a slice. A slice of the costliest actions, which end sessions, takes
/// about a millisecond.
const SLICE_ACTIONS: usize = 32;

/// Minimum number of slices that run at once: with one, a slow action would delay every other.
const MINIMUM_SLICES: usize = 2;

/// An action that runs at a deadline. It must not block.
type Action = Box<dyn FnOnce() + Send>;

/// A deadline, and a number that distinguishes entries of the same instant.
type Key = (Instant, u64);

/// The pending actions, earliest deadline first.
#[derive(Default)]
pub struct Timers {
    pending: Mutex<Pending>,
    /// Notified when the task that watches the deadlines has to wake earlier than planned.
    changed: Notify,
    next_number: AtomicU64,
}

#[derive(Default)]
struct Pending {
    actions: BTreeMap<Key, Action>,
    /// Time at which the task wakes next. Earlier than the first deadline if that timer was cancelled. `None`
    /// while no wake is planned.
    next_wake: Option<Instant>,
}

/// A scheduled action. Dropping it cancels the action, unless the action has begun or is next in its
/// slice.
#[must_use = "dropping a timer cancels its action"]
pub struct Timer {
    timers: Arc<Timers>,
    key: Key,
}

impl Timers {
    /// Schedules `action` for the instant `at`. An instant in the past is due immediately.
    pub fn schedule(
        self: &Arc<Self>,
        at: Instant,
        action: impl FnOnce() + Send + 'static,
    ) -> Timer {
        let key = (at, self.next_number.fetch_add(1, Ordering::Relaxed));
        let mut pending = self.pending();
        pending.actions.insert(key, Box::new(action));
        let is_early = pending.next_wake.is_none_or(|wake| at < wake);
        if is_early {
            pending.next_wake = Some(at);
        }
        drop(pending);
        if is_early {
            self.changed.notify_one();
        }
        Timer {
            timers: self.clone(),
            key,
        }
    }

    /// Runs the actions as they become due; never returns. Actions of different deadlines begin in
    /// the order of their deadlines. Actions of one slice run one after the other.
    pub async fn run(&self) {
        let slices = available_parallelism().map_or(MINIMUM_SLICES, |cores| cores.get());
        let slices = Arc::new(Semaphore::new(slices.max(MINIMUM_SLICES)));
        loop {
            // The semaphore is never closed.
            let permit = slices.clone().acquire_owned().await;
            let (slice, next) = self.take_slice(Instant::now());
            if !slice.is_empty() {
                tokio::spawn(async move {
                    run_slice(slice);
                    drop(permit);
                });
                continue;
            }
            drop(permit);
            match next {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes out up to a slice of the actions that are due at `now`. If none is due, also returns the
    /// earliest deadline.
    fn take_slice(&self, now: Instant) -> (Vec<Action>, Option<Instant>) {
        let mut pending = self.pending();
        let mut slice = Vec::new();
        let mut next = None;
        while slice.len() < SLICE_ACTIONS
            && let Some(entry) = pending.actions.first_entry()
        {
            let (at, _) = *entry.key();
            if at > now {
                next = Some(at);
                break;
            }
            slice.push(entry.remove());
        }
        pending.next_wake = next;
        (slice, next)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run_slice(slice: Vec<Action>) {
    for action in slice {
        // A panic of one action must not cancel the others of the slice.
        if catch_unwind(AssertUnwindSafe(action)).is_err() {
            tracing::error!("a timer's action panicked");
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let action = self.timers.pending().actions.remove(&self.key);
        // An action may own timers, so it is dropped after the lock is released.
        drop(action);
    }
}

#[cfg(test)]
mod tests;
