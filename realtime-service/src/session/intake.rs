//! The queue through which the events of a session pass in order.
//!
//! Each event is handled to its end before the next begins. The first one is begun where it arrives;
//! a task exists only while there is more to do.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ClientShare, lock};
use crate::{config::Limits, transport::turn};

/// How long a handler may go on after the end of its session: long enough to finish what it has
/// begun, and not so long that handlers which never end pile up with their sessions.
const HANDLER_GRACE: Duration = Duration::from_secs(10);

/// The handling of one event.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The queue is full.
#[derive(Debug)]
pub(super) struct Full;

/// The queue of one session.
#[derive(Clone)]
pub(super) struct Intake(Arc<Shared>);

struct Shared {
    limit_events: usize,
    limit_bytes: usize,
    /// Counts what waits, for all sessions of the client.
    share: Arc<ClientShare>,
    ended: CancellationToken,
    /// The tasks that run handlers, of all sessions: a shutdown waits for them.
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(usize, Job)>,
    /// Whether a job is being done.
    is_busy: bool,
    is_ended: bool,
    /// What is done once the session has ended and nothing is being done any more.
    at_end: Vec<Job>,
}

impl Intake {
    pub(super) fn new(
        limits: &Limits,
        share: Arc<ClientShare>,
        ended: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Shared {
            limit_events: limits.inbound_events,
            limit_bytes: limits.inbound_bytes,
            share,
            ended,
            tasks,
            state: Mutex::default(),
        }))
    }

    /// Takes a job in, and begins it when nothing else is to be done. It must not be called while a
    /// lock is held that a job may need.
    ///
    /// # Errors
    ///
    /// When as much waits as may.
    pub(super) fn push(&self, size: usize, job: Job) -> Result<(), Full> {
        let mut state = lock(&self.0.state);
        if state.is_ended {
            return Ok(());
        }
        if state.is_busy {
            let limits = (self.0.limit_events, self.0.limit_bytes);
            if !self.0.share.wait(size, limits) {
                return Err(Full);
            }
            state.jobs.push_back((size, job));
            return Ok(());
        }
        state.is_busy = true;
        drop(state);
        let mut job = job;
        // Most jobs wait for nothing, and are done here.
        let is_done = AssertUnwindSafe(job.as_mut()).catch_unwind().now_or_never();
        match is_done {
            Some(result) => {
                report(result);
                self.go_on(None);
            }
            None => self.go_on(Some(job)),
        }
        Ok(())
    }

    /// Keeps a job for the end; after the end it is done at once.
    pub(super) fn at_end(&self, job: Job) {
        let mut state = lock(&self.0.state);
        if state.is_ended && !state.is_busy {
            drop(state);
            self.0.tasks.spawn(finish_last(vec![job]));
        } else {
            state.at_end.push(job);
        }
    }

    /// Ends the queue: waiting events are not handled any more, and the handler at work has a grace.
    pub(super) fn end(&self) {
        let mut state = lock(&self.0.state);
        state.is_ended = true;
        let jobs = std::mem::take(&mut state.jobs);
        let bytes = jobs.iter().map(|(size, _)| size).sum();
        self.0.share.stop_waiting(jobs.len(), bytes);
        let last = match state.is_busy {
            true => Vec::new(),
            false => std::mem::take(&mut state.at_end),
        };
        drop(state);
        // A job may hold the session.
        drop(jobs);
        if !last.is_empty() {
            self.0.tasks.spawn(finish_last(last));
        }
    }

    /// Finishes `job` and what waits behind it in a task, if there is something to finish. A job that
    /// has not begun stays in the queue until it begins, so that [`Self::end`] still finds it.
    fn go_on(&self, mut job: Option<Job>) {
        if job.is_none() && !self.has_jobs() {
            return;
        }
        let intake = self.clone();
        self.0.tasks.spawn(turn::in_turn(async move {
            while let Some(job) = job.take().or_else(|| intake.next()) {
                intake.finish(job).await;
                if !intake.has_jobs() {
                    return;
                }
                // The client has a chance to take what it was just sent before more is sent.
                tokio::task::yield_now().await;
            }
        }));
    }

    /// Returns whether a job waits. Without one, the queue is idle from now on.
    fn has_jobs(&self) -> bool {
        let state = lock(&self.0.state);
        if !state.jobs.is_empty() {
            return true;
        }
        self.rest(state);
        false
    }

    /// Takes the next job out. Without one, the queue is idle from now on.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.0.state);
        if let Some((size, job)) = state.jobs.pop_front() {
            self.0.share.stop_waiting(1, size);
            return Some(job);
        }
        self.rest(state);
        None
    }

    /// Marks a queue without jobs as idle, and starts the last jobs if the session has ended.
    fn rest(&self, mut state: MutexGuard<'_, State>) {
        state.is_busy = false;
        state.jobs = VecDeque::new();
        if state.is_ended {
            let last = std::mem::take(&mut state.at_end);
            drop(state);
            if !last.is_empty() {
                self.0.tasks.spawn(finish_last(last));
            }
        }
    }

    /// Finishes a job, or drops it when it outlives its session for too long.
    async fn finish(&self, job: Job) {
        let overdue = async {
            self.0.ended.cancelled().await;
            tokio::time::sleep(HANDLER_GRACE).await;
        };
        tokio::select! {
            result = AssertUnwindSafe(job).catch_unwind() => report(result),
            () = overdue => tracing::warn!("a handler that outlived its session was dropped"),
        }
    }
}

/// Finishes what is done after the end of a session.
async fn finish_last(jobs: Vec<Job>) {
    for job in jobs {
        match timeout(HANDLER_GRACE, AssertUnwindSafe(job).catch_unwind()).await {
            Ok(result) => report(result),
            Err(_) => tracing::warn!("a disconnect handler took too long, and was dropped"),
        }
    }
}

fn report(result: std::thread::Result<()>) {
    if result.is_err() {
        tracing::error!("a handler panicked");
    }
}

#[cfg(test)]
mod tests;
