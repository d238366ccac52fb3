//! The queue through which the events of a session pass in order.
//!
//! Each event is handled to its end before the next begins. The first one is begun where it arrives;
//! a task exists only while there is more to do.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex},
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

    /// Finishes `job` and what waits behind it in a task, if there is something to finish.
    fn go_on(&self, job: Option<Job>) {
        let Some(job) = job.or_else(|| self.next()) else {
            return;
        };
        let intake = self.clone();
        self.0.tasks.spawn(turn::in_turn(async move {
            let mut next = Some(job);
            while let Some(job) = next {
                intake.finish(job).await;
                next = intake.next();
                if next.is_some() {
                    // The client has a chance to take what it was just sent before more is sent.
                    tokio::task::yield_now().await;
                }
            }
        }));
    }

    /// Takes the next job out. Without one nothing is being done any more.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.0.state);
        if let Some((size, job)) = state.jobs.pop_front() {
            self.0.share.stop_waiting(1, size);
            return Some(job);
        }
        state.is_busy = false;
        state.jobs = VecDeque::new();
        if state.is_ended {
            let last = std::mem::take(&mut state.at_end);
            drop(state);
            if !last.is_empty() {
                self.0.tasks.spawn(finish_last(last));
            }
        }
        None
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
mod tests {
    use std::future::pending;

    use tokio::{sync::oneshot, time::Instant};

    use super::*;

    fn intake_of(limits: &Limits, ended: CancellationToken) -> Intake {
        Intake::new(limits, Arc::default(), ended, TaskTracker::new())
    }

    fn intake() -> (Intake, CancellationToken) {
        let ended = CancellationToken::new();
        let intake = intake_of(&Limits::default(), ended.clone());
        (intake, ended)
    }

    /// Ends a queue while `handler` runs, and returns how long the last job waits after that.
    async fn time_until_last(handler: impl Future<Output = ()> + Send + 'static) -> Duration {
        let (intake, ended) = intake();
        let (begin, has_begun) = oneshot::channel();
        let handler = Box::pin(async move {
            begin.send(()).expect("the test listens");
            handler.await;
        });
        assert!(intake.push(1, handler).is_ok());
        let (next, is_next) = oneshot::channel();
        let next = Box::pin(async move {
            next.send(()).expect("the test listens");
        });
        assert!(intake.push(1, next).is_ok());
        let (tell, is_told) = oneshot::channel();
        intake.at_end(Box::pin(async move {
            tell.send(Instant::now()).expect("the test listens");
        }));
        has_begun.await.expect("a handler that runs");
        let end = Instant::now();
        ended.cancel();
        intake.end();
        let told = timeout(2 * HANDLER_GRACE, is_told).await;
        let told = told.expect("a last job in time").expect("a last job");
        is_next.await.expect_err("what waited is not done any more");
        told - end
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_never_ends_is_dropped_after_the_grace() {
        let session = Arc::new(());
        let kept = Arc::downgrade(&session);
        let took = time_until_last(async move {
            pending::<()>().await;
            drop(session);
        });
        assert_eq!(took.await, HANDLER_GRACE);
        assert!(kept.upgrade().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_ends_within_the_grace_is_finished() {
        const WORK: Duration = Duration::from_secs(9);
        let (done, is_done) = oneshot::channel();
        let took = time_until_last(async move {
            tokio::time::sleep(WORK).await;
            done.send(()).expect("the test listens");
        });
        assert_eq!(took.await, WORK);
        is_done.await.expect("a handler that finished");
    }

    #[tokio::test]
    async fn a_last_job_that_comes_after_the_end_is_done_at_once() {
        let (intake, _) = intake();
        intake.end();
        let (tell, is_told) = oneshot::channel();
        intake.at_end(Box::pin(async move {
            tell.send(()).expect("the test listens");
        }));
        is_told.await.expect("a last job");
    }

    #[tokio::test]
    async fn jobs_are_done_in_order_and_a_panic_concerns_its_own_alone() {
        let (intake, _) = intake();
        let done = Arc::new(Mutex::new(Vec::new()));
        let (open, is_open) = oneshot::channel::<()>();
        let (end, has_ended) = oneshot::channel();
        let note = |number: u32| lock(&done).push(number);
        note(0);
        let kept = done.clone();
        let first = Box::pin(async move {
            is_open.await.expect("the test opens");
            lock(&kept).push(1);
        });
        assert!(intake.push(1, first).is_ok());
        assert!(
            intake
                .push(1, Box::pin(async { panic!("on purpose") }))
                .is_ok()
        );
        let kept = done.clone();
        let last = Box::pin(async move {
            lock(&kept).push(2);
            end.send(()).expect("the test listens");
        });
        assert!(intake.push(1, last).is_ok());
        open.send(()).expect("a job that waits");
        has_ended.await.expect("the last job");
        assert_eq!(*lock(&done), [0, 1, 2]);
        assert!(
            intake
                .push(1, Box::pin(async { panic!("on purpose") }))
                .is_ok()
        );
    }

    #[tokio::test]
    async fn what_waits_is_bounded_by_number_and_size() {
        let limits = Limits {
            inbound_events: 2,
            inbound_bytes: 10,
            ..Limits::default()
        };
        let intake = intake_of(&limits, CancellationToken::new());
        let job = || Box::pin(pending::<()>());
        assert!(intake.push(100, job()).is_ok(), "it is begun at once");
        assert!(intake.push(100, job()).is_ok(), "nothing waits yet");
        intake.push(1, job()).expect_err("too many bytes");
        let intake = intake_of(&limits, CancellationToken::new());
        for _ in 0..3 {
            assert!(intake.push(1, job()).is_ok());
        }
        intake.push(1, job()).expect_err("too many events");
    }

    #[tokio::test]
    async fn what_waits_counts_for_all_sessions_of_a_client_until_they_end() {
        let limits = Limits {
            inbound_events: 2,
            ..Limits::default()
        };
        let share = Arc::<ClientShare>::default();
        let of = |share: &Arc<ClientShare>| {
            Intake::new(
                &limits,
                share.clone(),
                CancellationToken::new(),
                TaskTracker::new(),
            )
        };
        let job = || Box::pin(pending::<()>());
        let (main, admin, other) = (of(&share), of(&share), of(&Arc::default()));
        for intake in [&main, &admin, &other] {
            assert!(intake.push(1, job()).is_ok(), "it is begun at once");
        }
        assert!(main.push(1, job()).is_ok(), "one waits");
        assert!(admin.push(1, job()).is_ok(), "two wait");
        admin.push(1, job()).expect_err("one too many");
        assert!(other.push(1, job()).is_ok(), "of another client");
        main.end();
        assert!(admin.push(1, job()).is_ok(), "what waited for it is gone");
    }
}
