//! The refreshes that wait for a batch, bounded in number and in time.
//!
//! The queue uses no database. One [`Runner`] at a time takes batches, and each request is answered once:
//! by its batch, or at its deadline if no batch has taken it.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Exchange, Exchanged};
use crate::store::{StoreError, database::WAIT_DEADLINE};

/// Maximum number of refreshes that wait. Further ones fail with [`StoreError::QueueFull`].
///
/// A full queue takes 3 MiB: for each request 160 bytes in the queue, 112 for the channel of its answer,
/// and less than 100 for the texts of its [`Exchange`].
pub(in crate::store) const MAXIMUM_WAITING: usize = 8192;

/// Maximum number of refreshes in one transaction. It bounds the time that other writers wait.
pub(in crate::store) const MAXIMUM_BATCH: usize = 256;

/// The refreshes that wait for the next batch. Clones share the queue.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct ExchangeQueue(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// The requests in the order of their deadlines.
    requests: VecDeque<Request>,
    /// A [`Runner`] exists, and takes the requests.
    is_running: bool,
}

/// A refresh that waits, or that a batch has taken.
#[derive(Debug)]
pub(in crate::store) struct Request {
    pub(in crate::store) exchange: Exchange,
    deadline: Instant,
    answer: oneshot::Sender<Result<Exchanged, StoreError>>,
}

/// The outcome of a request, to come.
#[derive(Debug)]
pub(in crate::store) struct Pending {
    queue: ExchangeQueue,
    deadline: Instant,
    answer: oneshot::Receiver<Result<Exchanged, StoreError>>,
}

/// The right to take batches from the queue. If it is dropped early, by a panic or with the runtime of
/// its task, all waiting requests fail and the next request gets another one.
#[derive(Debug)]
pub(in crate::store) struct Runner {
    queue: ExchangeQueue,
    is_done: bool,
}

/// The requests that a [`Runner`] takes at once.
#[derive(Debug)]
pub(in crate::store) struct Batch {
    /// Requests with different tokens.
    pub(in crate::store) requests: Vec<Request>,
    /// Requests that repeat one of these tokens. They are undecided after the batch, so that one token
    /// cannot fill the queue.
    pub(in crate::store) repeated: Vec<Request>,
}

impl ExchangeQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request. Returns a runner to start, unless one exists.
    pub(in crate::store) fn push(
        &self,
        exchange: Exchange,
    ) -> Result<(Pending, Option<Runner>), StoreError> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.fail_expired();
        if waiting.requests.len() >= MAXIMUM_WAITING {
            return Err(StoreError::QueueFull);
        }
        let deadline = Instant::now() + WAIT_DEADLINE;
        waiting.requests.push_back(Request {
            exchange,
            deadline,
            answer: sender,
        });
        let is_running = mem::replace(&mut waiting.is_running, true);
        let pending = Pending {
            queue: self.clone(),
            deadline,
            answer,
        };
        let runner = (!is_running).then(|| Runner {
            queue: self.clone(),
            is_done: false,
        });
        Ok((pending, runner))
    }
}

impl Waiting {
    /// Fails the requests that have reached their deadline.
    fn fail_expired(&mut self) {
        let now = Instant::now();
        let is_expired = |request: &mut Request| request.deadline <= now;
        while let Some(request) = self.requests.pop_front_if(is_expired) {
            request.answer(Err(StoreError::TooSlow));
        }
    }
}

impl Pending {
    /// Waits for the outcome. A request that no batch has taken at its deadline fails with
    /// [`StoreError::TooSlow`]; the statements of a batch have deadlines of their own.
    ///
    /// If the future is dropped, the token may be exchanged all the same.
    pub(in crate::store) async fn outcome(mut self) -> Result<Exchanged, StoreError> {
        let mut answered = timeout_at(self.deadline, &mut self.answer).await;
        if answered.is_err() {
            self.queue.lock().fail_expired();
            answered = Ok(self.answer.await);
        }
        match answered {
            Ok(Ok(outcome)) => outcome,
            // The runner ended without an answer.
            _ => Err(sqlx::Error::WorkerCrashed.into()),
        }
    }
}

impl Runner {
    /// Returns the next batch, or `None` when no request waits; then the next request needs another
    /// runner.
    pub(in crate::store) fn next_batch(&mut self) -> Option<Batch> {
        let mut waiting = self.queue.lock();
        waiting.fail_expired();
        if waiting.requests.is_empty() {
            waiting.is_running = false;
            self.is_done = true;
            return None;
        }
        let (mut requests, mut repeated, mut later) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut presented = HashSet::new();
        for request in mem::take(&mut waiting.requests) {
            if request.answer.is_closed() {
                continue;
            }
            if presented.contains(&request.exchange.presented) {
                repeated.push(request);
            } else if requests.len() < MAXIMUM_BATCH {
                presented.insert(request.exchange.presented);
                requests.push(request);
            } else {
                later.push_back(request);
            }
        }
        waiting.requests = later;
        Some(Batch { requests, repeated })
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut waiting = self.queue.lock();
        waiting.is_running = false;
        let abandoned = mem::take(&mut waiting.requests);
        drop(waiting);
        // Requests whose sender is dropped fail.
        drop(abandoned);
    }
}

impl Request {
    /// Sends the outcome, unless the client has left meanwhile.
    pub(in crate::store) fn answer(self, outcome: Result<Exchanged, StoreError>) {
        let _ = self.answer.send(outcome);
    }
}
