//! The queue through which each socket's events pass in order.
//!
//! socketioxide spawns the body of every handler, which reorders a socket's events. So what it calls
//! only puts the event into the socket's one bounded queue, in the part that runs in order, and one
//! worker finishes each event before the next.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use socketioxide::socket::Socket;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Session, lock};
use crate::config::Limits;

/// How often, and after which pause, a socket is asked whether it is connected by now. It is within
/// microseconds, or never: when the acknowledgement of CONNECT did not fit into its queue.
const CONNECT_ATTEMPTS: u32 = 500;
const CONNECT_PAUSE: Duration = Duration::from_millis(1);

/// How long a handler may go on after the end of its session: long enough to finish what it has
/// begun, and not so long that handlers which never end pile up with their sessions.
const HANDLER_GRACE: Duration = Duration::from_secs(10);

/// What is done with one event.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is done once the session has ended.
type Farewells = Arc<Mutex<Vec<Job>>>;

/// The queue is full.
pub(super) struct Full;

/// The way into a socket's queue. The worker ends with it.
pub(super) struct Queue {
    sender: mpsc::Sender<(usize, Job)>,
    bytes: Arc<AtomicUsize>,
    most_bytes: usize,
    ended: CancellationToken,
    farewells: Farewells,
}

impl Queue {
    /// A queue for one socket, and the worker that empties it.
    pub(super) fn start(limits: &Limits) -> Self {
        let (sender, receiver) = mpsc::channel(limits.inbound_events);
        let queue = Self {
            sender,
            bytes: Arc::default(),
            most_bytes: limits.inbound_bytes,
            ended: CancellationToken::new(),
            farewells: Arc::default(),
        };
        let worker = Worker {
            queue: receiver,
            bytes: queue.bytes.clone(),
            ended: queue.ended.clone(),
            farewells: queue.farewells.clone(),
        };
        tokio::spawn(worker.run());
        queue
    }

    /// Takes a job in. It must not panic or wait: it runs on the task that reads the transport.
    pub(super) fn push(&self, size: usize, job: Job) -> Result<(), Full> {
        let waiting = self.bytes.fetch_add(size, Ordering::AcqRel);
        let is_too_much = waiting > 0 && waiting + size > self.most_bytes;
        if is_too_much || self.sender.try_send((size, job)).is_err() {
            return Err(Full);
        }
        Ok(())
    }

    /// Keeps a job for the end; after the end it is done at once.
    pub(super) fn at_end(&self, farewell: Job) {
        let mut farewells = lock(&self.farewells);
        if self.ended.is_cancelled() {
            tokio::spawn(farewell);
        } else {
            farewells.push(farewell);
        }
    }

    /// Ends it: what waits is not done any more, and what is being done has a grace.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

/// Does the jobs of one socket.
struct Worker {
    queue: mpsc::Receiver<(usize, Job)>,
    bytes: Arc<AtomicUsize>,
    ended: CancellationToken,
    farewells: Farewells,
}

impl Worker {
    async fn run(mut self) {
        let (ended, farewells) = (self.ended.clone(), self.farewells.clone());
        let overdue = async {
            ended.cancelled().await;
            tokio::time::sleep(HANDLER_GRACE).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = overdue => tracing::warn!("a handler that outlived its session was dropped"),
        }
        // With what waits in it, which may hold the session.
        drop(self);
        let farewells = std::mem::take(&mut *lock(&farewells));
        for farewell in farewells {
            if timeout(HANDLER_GRACE, finish(farewell)).await.is_err() {
                tracing::warn!("a disconnect handler took too long, and was dropped");
            }
        }
    }

    /// Finishes each job before the next, until the end.
    async fn work(&mut self) {
        while !self.ended.is_cancelled() {
            let next = tokio::select! {
                biased;
                next = self.queue.recv() => next,
                () = self.ended.cancelled() => None,
            };
            let Some((size, job)) = next else { return };
            self.bytes.fetch_sub(size, Ordering::AcqRel);
            finish(job).await;
            // Whoever gets what was just sent has a chance to take it before the next is sent.
            tokio::task::yield_now().await;
        }
    }
}

/// Does a job, whose panic is its own affair.
async fn finish(job: Job) {
    if AssertUnwindSafe(job).catch_unwind().await.is_err() {
        tracing::error!("a handler panicked");
    }
}

/// Waits for the moment between the acknowledgement of CONNECT and the first event that can be sent.
pub(super) async fn is_connected(socket: &Socket, session: &Session) -> bool {
    for _ in 0..CONNECT_ATTEMPTS {
        if socket.connected() || !session.is_live() {
            return true;
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{sync::oneshot, time::Instant};

    use super::*;

    /// Ends a queue while `handler` runs, and gives how long it takes until the farewell.
    async fn time_until_farewell(handler: impl Future<Output = ()> + Send + 'static) -> Duration {
        let queue = Queue::start(&Limits::default());
        let (begin, has_begun) = oneshot::channel();
        let handler = Box::pin(async move {
            begin.send(()).expect("the test listens");
            handler.await;
        });
        assert!(queue.push(1, handler).is_ok());
        let (next, is_next) = oneshot::channel();
        let next = Box::pin(async move {
            next.send(()).expect("the test listens");
        });
        assert!(queue.push(1, next).is_ok());
        let (tell, is_told) = oneshot::channel();
        queue.at_end(Box::pin(async move {
            tell.send(Instant::now()).expect("the test listens");
        }));
        has_begun.await.expect("a handler that runs");
        let end = Instant::now();
        queue.end();
        let told = timeout(2 * HANDLER_GRACE, is_told).await;
        let told = told.expect("a farewell in time").expect("a farewell");
        is_next.await.expect_err("what waited is not done any more");
        told - end
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_never_ends_is_dropped_after_the_grace() {
        let session = Arc::new(());
        let kept = Arc::downgrade(&session);
        let took = time_until_farewell(async move {
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
        let took = time_until_farewell(async move {
            tokio::time::sleep(WORK).await;
            done.send(()).expect("the test listens");
        });
        assert_eq!(took.await, WORK);
        is_done.await.expect("a handler that finished");
    }

    #[tokio::test]
    async fn a_farewell_that_comes_after_the_end_is_said_at_once() {
        let queue = Queue::start(&Limits::default());
        queue.end();
        let (tell, is_told) = oneshot::channel();
        queue.at_end(Box::pin(async move {
            tell.send(()).expect("the test listens");
        }));
        is_told.await.expect("a farewell");
    }
}
