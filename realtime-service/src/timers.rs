//! One timer for everything that ends: a single task, however many sockets there are.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

/// What to do when the time has come. It runs on the timer's task, so it must not block.
type Action = Box<dyn FnOnce() + Send>;

/// When an entry is due, and a number that tells entries of the same instant apart.
type Key = (Instant, u64);

/// The pending actions, earliest first.
#[derive(Default)]
pub struct Timers {
    pending: Mutex<BTreeMap<Key, Action>>,
    /// Told when the earliest entry may have changed.
    changed: Notify,
    next_number: AtomicU64,
}

/// A scheduled action. Dropping it takes the action back.
#[must_use = "dropping a timer takes its action back"]
pub struct Timer {
    timers: Arc<Timers>,
    key: Key,
}

impl Timers {
    /// Schedules `action` for the instant `at`; in the past means now.
    pub fn schedule(
        self: &Arc<Self>,
        at: Instant,
        action: impl FnOnce() + Send + 'static,
    ) -> Timer {
        let key = (at, self.next_number.fetch_add(1, Ordering::Relaxed));
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.insert(key, Box::new(action));
        let is_first = pending
            .first_key_value()
            .is_some_and(|(first, _)| *first == key);
        drop(pending);
        if is_first {
            self.changed.notify_one();
        }
        Timer {
            timers: self.clone(),
            key,
        }
    }

    /// Runs the actions as they become due; never returns.
    pub async fn run(&self) {
        loop {
            let (due, next) = self.take_due(Instant::now());
            for action in due {
                // Everything that ends depends on this task, so no single end may take it along.
                if catch_unwind(AssertUnwindSafe(action)).is_err() {
                    tracing::error!("a timer's action panicked");
                }
            }
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

    /// Takes out what is due at `now`, and tells when the next one will be.
    fn take_due(&self, now: Instant) -> (Vec<Action>, Option<Instant>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while let Some(entry) = pending.first_entry() {
            let (at, _) = *entry.key();
            if at > now {
                return (due, Some(at));
            }
            due.push(entry.remove());
        }
        (due, None)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut pending = self
            .timers
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let action = pending.remove(&self.key);
        drop(pending);
        // What an action holds may hold timers of its own, so it is dropped outside of the lock.
        drop(action);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::mpsc, task::JoinHandle};

    use super::*;

    /// Timers, and the task that runs them.
    fn running_timers() -> (Arc<Timers>, JoinHandle<()>) {
        let timers = Arc::new(Timers::default());
        let for_task = timers.clone();
        (timers, tokio::spawn(async move { for_task.run().await }))
    }

    #[tokio::test(start_paused = true)]
    async fn actions_run_in_the_order_of_their_time_and_not_before() {
        let (timers, running) = running_timers();
        let (ran, mut order) = mpsc::unbounded_channel();
        let start = Instant::now();
        let schedule = |seconds: u64| {
            let ran = ran.clone();
            timers.schedule(start + Duration::from_secs(seconds), move || {
                ran.send((seconds, start.elapsed().as_secs()))
                    .expect("the test listens");
            })
        };
        let kept = [schedule(30), schedule(10), schedule(20)];
        drop(schedule(15));
        for seconds in [10, 20, 30] {
            assert_eq!(order.recv().await, Some((seconds, seconds)));
        }
        drop(kept);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_action_that_panics_takes_no_other_along() {
        let (timers, running) = running_timers();
        let (ran, mut order) = mpsc::unbounded_channel();
        let at = Instant::now() + Duration::from_secs(1);
        let first = timers.schedule(at, || panic!("on purpose"));
        let second = timers.schedule(at, move || ran.send(()).expect("the test listens"));
        assert_eq!(order.recv().await, Some(()));
        drop((first, second));
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_entries_of_one_instant_all_run() {
        let (timers, running) = running_timers();
        let (ran, mut count) = mpsc::unbounded_channel();
        let at = Instant::now() + Duration::from_secs(900);
        let kept: Vec<_> = (0..1000)
            .map(|number| {
                let ran = ran.clone();
                timers.schedule(at, move || ran.send(number).expect("the test listens"))
            })
            .collect();
        for _ in 0..1000 {
            assert!(count.recv().await.is_some());
        }
        assert_eq!(Instant::now(), at);
        drop(kept);
        running.abort();
    }
}
