//! Argon2id, on a few threads of its own behind a short queue.
//!
//! A hash takes 20 ms of a core and 19 MiB. More at once than there are cores makes every login
//! slower and none more, so the threads are as many as the cores, each keeps its memory for the
//! next password, and who finds the queue full is told so at once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use argon2::Block;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    config::PasswordSettings,
    credentials::{
        Password,
        hash::{self, Cost, HashError, StoredHash},
        schemes::verify_password,
    },
};

/// Verifies passwords; see the module's text.
pub struct PasswordPool {
    /// `None` only while the pool is being dropped.
    queue: Option<SyncSender<Job>>,
    /// As many as the queue holds. One is taken before there is a password to be queued.
    places: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
    verified: Arc<AtomicU64>,
    cost: Cost,
}

/// Reason that there is no answer about a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full; it may have a place in a moment.
    #[error("too many logins at once")]
    Overloaded,
    /// The thread that had the job has failed at it.
    #[error("a password thread failed")]
    Failed,
}

struct Job {
    password: Password,
    work: Work,
    queued_at: Instant,
    place: OwnedSemaphorePermit,
}

/// A place in the queue. Whoever gets none is told so before anything is looked up for them: a flood
/// should cost little more than saying no.
pub struct Place<'a> {
    pool: &'a PasswordPool,
    permit: OwnedSemaphorePermit,
}

enum Work {
    /// Compare with what is stored; `None` when there is no such account. The work is the same, and
    /// so is the time.
    Verify(Option<StoredHash>, Answer<bool>),
    /// Make a hash to be stored.
    Make(Answer<StoredHash>),
}

type Answer<T> = oneshot::Sender<Result<T, PoolError>>;

impl PasswordPool {
    /// Starts the threads, and lets so many passwords wait for them, as the settings say.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread or no randomness.
    pub fn start(settings: &PasswordSettings) -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(settings.queue);
        let cost = settings.cost()?;
        let receiver = Arc::new(Mutex::new(receiver));
        let verified = Arc::new(AtomicU64::new(0));
        let decoy = decoy_hash(&cost)?;
        let start_thread = |number| {
            let worker = Worker {
                queue: Arc::clone(&receiver),
                verified: Arc::clone(&verified),
                decoy: decoy.clone(),
                memory: hash::new_memory(&cost),
                cost: cost.clone(),
                deadline: Duration::from_millis(settings.queue_deadline_ms),
            };
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || worker.run())
                .context("cannot start a password thread")
        };
        Ok(Self {
            queue: Some(sender),
            places: Arc::new(Semaphore::new(settings.queue)),
            threads: (0..settings.thread_count())
                .map(start_thread)
                .collect::<Result<_, _>>()?,
            verified,
            cost,
        })
    }

    /// A place in the queue, until a thread takes the password that is put there.
    ///
    /// # Errors
    ///
    /// [`PoolError::Overloaded`] when there is none.
    pub fn enter(&self) -> Result<Place<'_>, PoolError> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit = permit.map_err(|_| PoolError::Overloaded)?;
        Ok(Place { pool: self, permit })
    }

    /// Whether there is a place at this moment.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Hashes a password that is being set. Who drops the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// [`PoolError::Overloaded`] at once when the queue is full, or later when no thread was free in
    /// time.
    pub async fn hash(&self, password: Password) -> Result<StoredHash, PoolError> {
        let (answer, answered) = oneshot::channel();
        self.enter()?.queue(password, Work::Make(answer))?;
        answered.await.map_err(|_| PoolError::Failed)?
    }

    /// Whether a stored hash costs what a new one does.
    #[must_use]
    pub fn is_current(&self, stored: &StoredHash) -> bool {
        hash::is_current(stored, &self.cost)
    }

    /// Returns the number of passwords that were verified since the start, right or wrong.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }
}

impl Place<'_> {
    /// Whether `password` is the one that was `stored`. Without a stored hash the answer is no,
    /// after the same work. Who drops the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// [`PoolError::Overloaded`] when no thread was free in time.
    pub async fn verify(
        self,
        password: Password,
        stored: Option<StoredHash>,
    ) -> Result<bool, PoolError> {
        let (answer, answered) = oneshot::channel();
        self.queue(password, Work::Verify(stored, answer))?;
        answered.await.map_err(|_| PoolError::Failed)?
    }

    fn queue(self, password: Password, work: Work) -> Result<(), PoolError> {
        let queue = self.pool.queue.as_ref().ok_or(PoolError::Failed)?;
        let job = Job {
            password,
            work,
            queued_at: Instant::now(),
            place: self.permit,
        };
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => PoolError::Overloaded,
            TrySendError::Disconnected(_) => PoolError::Failed,
        })
    }
}

impl Drop for PasswordPool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A job's panic is caught, so a thread has nothing to say at its end.
            let _ = thread.join();
        }
    }
}

fn make(password: &Password, cost: &Cost) -> anyhow::Result<StoredHash> {
    Ok(hash::hash_password(password, hash::random_salt()?, cost)?)
}

/// Lets every other thread of the machine go first, so that a flood of logins delays nothing that
/// needs no password. Where the system does not allow it, it is left as it is.
fn yield_to_others() {
    let _ = rustix::process::setpriority_process(None, 10);
}

/// The hash that stands in for an account that does not exist: of a password nobody knows.
fn decoy_hash(cost: &Cost) -> anyhow::Result<StoredHash> {
    let password = Password::parse(crate::ids::random_id()?)?;
    make(&password, cost)
}

struct Worker {
    queue: Arc<Mutex<Receiver<Job>>>,
    verified: Arc<AtomicU64>,
    decoy: StoredHash,
    memory: Vec<Block>,
    cost: Cost,
    deadline: Duration,
}

impl Worker {
    fn run(mut self) {
        yield_to_others();
        loop {
            // One thread waits for a job and holds the lock; the others wait for the lock.
            let job = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(job) = job else { return };
            // A panic is this login's and not this thread's: the answer is dropped, and the
            // requester sees a failure.
            let _ = catch_unwind(AssertUnwindSafe(|| self.work(job)));
        }
    }

    /// Does a job, unless the requester has gone, or has waited so long that the next ones would wait
    /// in vain too. Who goes meanwhile misses the answer.
    fn work(&mut self, job: Job) {
        // The job waits no longer, whatever becomes of it.
        drop(job.place);
        let is_late = job.queued_at.elapsed() > self.deadline;
        match job.work {
            Work::Verify(_, answer) if is_late => {
                let _ = answer.send(Err(PoolError::Overloaded));
            }
            Work::Make(answer) if is_late => {
                let _ = answer.send(Err(PoolError::Overloaded));
            }
            Work::Verify(stored, answer) if !answer.is_closed() => {
                let _ = answer.send(Ok(self.verify(&job.password, stored.as_ref())));
            }
            Work::Make(answer) if !answer.is_closed() => {
                let made = make(&job.password, &self.cost).map_err(|error| {
                    tracing::error!("a password cannot be hashed: {error:#}");
                    PoolError::Failed
                });
                let _ = answer.send(made);
            }
            Work::Verify(..) | Work::Make(_) => {}
        }
    }

    fn verify(&mut self, password: &Password, stored: Option<&StoredHash>) -> bool {
        self.verified.fetch_add(1, Ordering::Relaxed);
        let decoy = self.decoy.clone();
        match verify_password(password, stored.unwrap_or(&decoy), &mut self.memory) {
            Ok(matches) => matches && stored.is_some(),
            Err(error) => {
                self.report(error, password);
                false
            }
        }
    }

    /// A broken hash is the operator's to repair; the visitor sees a wrong password, as late as
    /// any other.
    fn report(&mut self, error: HashError, password: &Password) {
        tracing::error!(%error, "a stored password hash cannot be used");
        let _ = verify_password(password, &self.decoy, &mut self.memory);
    }
}

#[cfg(test)]
mod tests;
