//! A group commit for the one writer of SQLite: transactions that wait for the writer at the same time are
//! committed together.
//!
//! A commit waits for the disk. If each transaction had its own, a request would wait for the disk as often as
//! there are requests before it. So a transaction that ends while others wait is not committed: the next one
//! continues in the same transaction of the database, behind a savepoint, and the last one commits for all.
//! Nobody is told of an end before that commit, and when the commit fails, all of them fail.
//!
//! The running member holds the lock of the current group. A member that is dropped before its end is rolled back
//! to its savepoint by the next member, or by the commit. Writes that are in no transaction take the connection
//! from the pool, between two groups.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::SqliteConnection;
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, oneshot},
    time::{Instant, timeout},
};

use super::{
    deadlines::{ACQUIRE_TIMEOUT, WAIT_DEADLINE, in_time},
    sqlite::{Lent, SqliteConnections},
};
use crate::store::StoreError;

/// Maximum number of transactions that are committed together.
const MAXIMUM_MEMBERS: usize = 64;

/// Age after which a group takes no further member.
const MAXIMUM_AGE: Duration = Duration::from_millis(25);

/// The queue of transactions for the writing connection. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::store) struct WriterQueue {
    group: Arc<Mutex<Option<Group>>>,
    /// Number of transactions that wait for their turn.
    waiting: Arc<AtomicUsize>,
    /// The runtime that commits for several members. It outlives those of the HTTP workers.
    runtime: Handle,
}

/// The right to use the writing connection, and the current group.
type Turn = OwnedMutexGuard<Option<Group>>;

/// Transactions that are committed together.
#[derive(Debug)]
struct Group {
    lent: Lent,
    /// The runtime that rolls back.
    runtime: Handle,
    opened_at: Instant,
    /// The members that have ended.
    awaiting_commit: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// The last member has left statements behind its savepoint that are not to be committed.
    needs_rollback: bool,
}

/// A transaction whose turn it is. Dropped before its end, it is rolled back.
pub(in crate::store) struct Member {
    queue: WriterQueue,
    /// `None` once the member has ended.
    turn: Option<Turn>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No savepoint is set, and no statement was executed.
    Starting,
    /// Statements may have been executed.
    Open,
    /// A statement has failed, after which SQLite may have rolled the whole group back.
    Failed,
}

impl WriterQueue {
    /// Returns the queue of a connection. The runtime of the caller has to outlive all transactions.
    pub(in crate::store) fn new() -> Self {
        Self {
            group: Arc::default(),
            waiting: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// Waits for a turn, and starts a transaction on the connection of `writer`.
    ///
    /// The transaction locks at once: one that locked at its first write would fail when another process had
    /// written since it read.
    ///
    /// # Errors
    ///
    /// When the wait takes too long, or the database fails.
    pub(super) async fn begin(&self, writer: &SqliteConnections) -> Result<Member, StoreError> {
        let started = timeout(WAIT_DEADLINE, async {
            let queued = QueuedBegin::new(self);
            let turn = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.group).lock_owned());
            let turn = turn.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
            queued.end();
            let mut member = Member {
                queue: self.clone(),
                turn: Some(turn),
                progress: Progress::Starting,
            };
            member.start(writer).await?;
            Ok(member)
        });
        started.await.unwrap_or(Err(StoreError::TooSlow))
    }

    /// Gives a turn to the next transaction in the queue. If none waits, or the group takes no further member, it
    /// is committed first.
    fn pass_on(&self, turn: Turn) {
        let is_joined = self.has_waiting() && turn.as_ref().is_none_or(Group::takes_members);
        if !is_joined {
            self.runtime.spawn(commit_group(turn));
        }
    }

    fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

/// A transaction in the queue. If it gives up, the members that have ended may have nobody left who commits: its
/// drop sees to that.
struct QueuedBegin<'a> {
    queue: &'a WriterQueue,
    has_turn: bool,
}

impl<'a> QueuedBegin<'a> {
    fn new(queue: &'a WriterQueue) -> Self {
        queue.waiting.fetch_add(1, Ordering::SeqCst);
        Self {
            queue,
            has_turn: false,
        }
    }

    fn end(mut self) {
        self.has_turn = true;
    }
}

impl Drop for QueuedBegin<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        if !self.has_turn {
            let queue = self.queue.clone();
            self.queue.runtime.spawn(async move {
                let turn = Arc::clone(&queue.group).lock_owned().await;
                queue.pass_on(turn);
            });
        }
    }
}

impl Member {
    /// Joins the current group, or opens one.
    async fn start(&mut self, writer: &SqliteConnections) -> Result<(), StoreError> {
        let Some(turn) = &mut self.turn else {
            return Err(StoreError::Aborted);
        };
        match &mut **turn {
            Some(group) => {
                if let Err(error) = group.start_member().await {
                    let error = Arc::new(error);
                    if let Some(group) = turn.take() {
                        group.fail(&error);
                    }
                    return Err(StoreError::Batch(error));
                }
            }
            group => *group = Some(Group::begin(writer, &self.queue.runtime).await?),
        }
        self.progress = Progress::Open;
        Ok(())
    }

    fn group(&mut self) -> Option<&mut Group> {
        self.turn.as_mut()?.as_mut()
    }

    /// Returns the connection.
    ///
    /// # Errors
    ///
    /// When a statement of the transaction has failed.
    pub(in crate::store) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        match self.progress {
            Progress::Failed => Err(StoreError::Aborted),
            Progress::Starting | Progress::Open => {
                let group = self.group().ok_or(StoreError::Aborted)?;
                Ok(&mut group.lent.connection)
            }
        }
    }

    /// Notes that a statement has failed: the transaction cannot be committed.
    pub(in crate::store) fn mark_failed(&mut self) {
        self.progress = Progress::Failed;
    }

    /// Commits the transaction, alone or together with others. When this returns `Ok`, the changes are on the
    /// disk. After an error, or when the future is dropped, it is not known whether they are.
    ///
    /// # Errors
    ///
    /// When a statement of the transaction has failed, or the commit fails.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        if self.progress != Progress::Open {
            return Err(StoreError::Aborted);
        }
        self.end(false).await
    }

    /// Rolls the transaction back. When this returns `Ok`, the changes that it has seen are on the disk.
    ///
    /// # Errors
    ///
    /// When the commit of these changes fails.
    pub(super) async fn roll_back(mut self) -> Result<(), StoreError> {
        match self.group() {
            Some(group) if !group.awaiting_commit.is_empty() => self.end(true).await,
            _ => Ok(()),
        }
    }

    async fn end(&mut self, needs_rollback: bool) -> Result<(), StoreError> {
        let mut turn = self.turn.take().ok_or(StoreError::Aborted)?;
        let group = turn.as_mut().ok_or(StoreError::Aborted)?;
        let (sender, committed) = oneshot::channel();
        group.needs_rollback = needs_rollback;
        group.awaiting_commit.push(sender);
        if group.awaiting_commit.len() == 1 && !self.queue.has_waiting() {
            // Nobody else needs this commit: it may end with the future.
            commit_group(turn).await;
        } else {
            self.queue.pass_on(turn);
        }
        committed
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else {
            return;
        };
        match &mut *turn {
            Some(group) if !group.awaiting_commit.is_empty() => {
                group.needs_rollback |= self.progress != Progress::Starting;
                self.queue.pass_on(turn);
            }
            // Rolls back.
            group => *group = None,
        }
    }
}

/// Commits the current group, and gives the turn back.
async fn commit_group(mut turn: Turn) {
    if let Some(group) = turn.take() {
        group.commit().await;
    }
}

impl Group {
    async fn begin(writer: &SqliteConnections, runtime: &Handle) -> Result<Self, StoreError> {
        let mut group = Self {
            lent: writer.lend().await?,
            runtime: runtime.clone(),
            opened_at: Instant::now(),
            awaiting_commit: Vec::new(),
            needs_rollback: false,
        };
        group.execute("begin immediate").await?;
        Ok(group)
    }

    async fn execute(&mut self, statement: &'static str) -> Result<(), StoreError> {
        let connection = &mut self.lent.connection;
        sqlx::query(statement).execute(connection).await?;
        Ok(())
    }

    fn takes_members(&self) -> bool {
        self.awaiting_commit.len() < MAXIMUM_MEMBERS && self.opened_at.elapsed() < MAXIMUM_AGE
    }

    /// Starts the next member behind a savepoint. All savepoints have one name, which means the last of them.
    async fn start_member(&mut self) -> Result<(), StoreError> {
        if self.needs_rollback {
            // The savepoint stays, and is that of the next member.
            return self.roll_member_back().await;
        }
        self.execute("savepoint member").await
    }

    /// Undoes the statements of the last member. It fails if SQLite has rolled the whole group back.
    async fn roll_member_back(&mut self) -> Result<(), StoreError> {
        self.execute("rollback to member").await?;
        self.needs_rollback = false;
        Ok(())
    }

    /// Commits, and answers the members.
    async fn commit(mut self) {
        let awaiting_commit = std::mem::take(&mut self.awaiting_commit);
        match self.finish().await {
            Ok(()) => awaiting_commit
                .into_iter()
                .for_each(|member| answer(member, Ok(()))),
            Err(error) => fail_all(awaiting_commit, &Arc::new(error)),
        }
    }

    async fn finish(mut self) -> Result<(), StoreError> {
        in_time(async {
            if self.needs_rollback {
                self.roll_member_back().await?;
            }
            self.execute("commit").await?;
            self.lent.settle();
            Ok(())
        })
        .await
    }

    /// Rolls back, and fails the members for one reason.
    fn fail(mut self, error: &Arc<StoreError>) {
        let awaiting_commit = std::mem::take(&mut self.awaiting_commit);
        drop(self);
        fail_all(awaiting_commit, error);
    }
}

impl Drop for Group {
    /// Rolls back what is not committed, and with it frees the lock that other processes wait for.
    fn drop(&mut self) {
        if self.lent.is_settled() {
            return;
        }
        if let Some(connections) = SqliteConnections::of(&self.lent) {
            self.runtime.spawn(async move { connections.lend().await });
        }
    }
}

fn fail_all(
    awaiting_commit: Vec<oneshot::Sender<Result<(), StoreError>>>,
    error: &Arc<StoreError>,
) {
    for member in awaiting_commit {
        answer(member, Err(StoreError::Batch(Arc::clone(error))));
    }
}

/// Answers a member, unless its client has left meanwhile.
fn answer(member: oneshot::Sender<Result<(), StoreError>>, outcome: Result<(), StoreError>) {
    let _ = member.send(outcome);
}

#[cfg(test)]
mod tests;
