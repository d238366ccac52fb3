//! A group commit for the one writer of SQLite: transactions that follow one another at once are committed
//! together.
//!
//! A commit waits for the disk. If each transaction had its own, a request would wait for the disk as often as
//! there are requests before it. So a transaction that ends while others wait is not committed: the next one goes
//! on in the same transaction of the database, behind a savepoint, and the last one commits for all. Nobody is
//! told of an end before that commit, and when the commit fails, all of them fail.
//!
//! Whose turn it is holds the lock of the group at hand. A member that is dropped before its end is rolled back to
//! its savepoint by whoever comes next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, oneshot},
    time::{Instant, timeout},
};

use super::deadlines::{ACQUIRE_TIMEOUT, in_time};
use crate::store::StoreError;

/// Maximum number of transactions that are committed together.
const MAXIMUM_MEMBERS: usize = 64;

/// Time after which a group takes no further member, so that the first one, and writes that are in no
/// transaction, wait no longer for the others.
const MAXIMUM_AGE: Duration = Duration::from_millis(25);

/// The turns of the transactions on the writing connection. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::store) struct Turns {
    group: Arc<Mutex<Option<Group>>>,
    /// Number of transactions that wait for their turn.
    waiting: Arc<AtomicUsize>,
    /// The runtime that opened the store, which outlives the runtimes of the HTTP workers.
    runtime: Handle,
}

/// The transactions that are committed together.
#[derive(Debug)]
struct Group {
    transaction: Transaction<'static, Sqlite>,
    opened_at: Instant,
    /// The members that have ended, and wait for the commit.
    ended: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// The last member was dropped behind its savepoint.
    is_to_be_rolled_back: bool,
}

/// A transaction whose turn it is. Dropped before its end, it is rolled back.
pub(in crate::store) struct Member {
    turns: Turns,
    group: OwnedMutexGuard<Option<Group>>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has no savepoint yet, and no statement.
    Entering,
    /// Its statements are on the way.
    Open,
    /// A statement has failed, after which SQLite may have rolled the whole group back.
    Failed,
    /// It waits for the commit.
    Ended,
}

impl Turns {
    /// Returns the turns of a connection. Commits that nobody waits for run on the runtime of the caller.
    pub(in crate::store) fn new() -> Self {
        Self {
            group: Arc::default(),
            waiting: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// Waits for a turn, and starts a transaction on the connection of `writer`.
    ///
    /// It locks at once: one that locked at its first write would fail when another process had written since it
    /// read.
    pub(super) async fn begin(&self, writer: &SqlitePool) -> Result<Member, StoreError> {
        let waiting = Waiting::start(self);
        let turn = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.group).lock_owned());
        let group = turn.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        waiting.end();
        let mut member = Member {
            turns: self.clone(),
            group,
            progress: Progress::Entering,
        };
        match &mut *member.group {
            Some(group) => group.set_savepoint().await?,
            group => *group = Some(Group::begin(writer).await?),
        }
        member.progress = Progress::Open;
        Ok(member)
    }

    fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Commits the group at hand, unless somebody waits who will.
    async fn commit_unattended(self) {
        let group = Arc::clone(&self.group).lock_owned().await;
        let last = Member {
            turns: self,
            group,
            progress: Progress::Entering,
        };
        if !last.turns.has_waiting() {
            last.commit_group().await;
        }
    }
}

/// A transaction that waits for its turn. One that gives up may be the one that was to commit for others.
struct Waiting<'a> {
    turns: &'a Turns,
    has_turn: bool,
}

impl<'a> Waiting<'a> {
    fn start(turns: &'a Turns) -> Self {
        turns.waiting.fetch_add(1, Ordering::SeqCst);
        Self {
            turns,
            has_turn: false,
        }
    }

    fn end(mut self) {
        self.has_turn = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.waiting.fetch_sub(1, Ordering::SeqCst);
        if !self.has_turn {
            let turns = self.turns.clone();
            self.turns.runtime.spawn(turns.commit_unattended());
        }
    }
}

impl Member {
    /// Returns the connection.
    pub(in crate::store) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let group = self.group.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        Ok(&mut group.transaction)
    }

    /// Notes that a statement has failed: the transaction cannot be committed.
    pub(in crate::store) fn fail(&mut self) {
        self.progress = Progress::Failed;
    }

    /// Commits the transaction, alone or together with those that wait. When this returns `Ok`, the changes are on
    /// the disk. After an error it is not known whether they are.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let (ended, committed) = oneshot::channel();
        match &mut *self.group {
            Some(group) if self.progress == Progress::Open => group.ended.push(ended),
            _ => return Err(sqlx::Error::WorkerCrashed.into()),
        }
        self.progress = Progress::Ended;
        if self.is_joined_by_others() {
            drop(self);
        } else if self.is_alone() {
            self.commit_group().await;
        } else {
            // The others wait for the commit even if the client of this one leaves.
            tokio::spawn(self.commit_group());
        }
        committed
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into()))
    }

    /// Whether somebody waits who goes on in the same group.
    fn is_joined_by_others(&self) -> bool {
        self.turns.has_waiting() && self.group.as_ref().is_some_and(Group::takes_members)
    }

    fn is_alone(&self) -> bool {
        self.group
            .as_ref()
            .is_some_and(|group| group.ended.len() == 1)
    }

    async fn commit_group(mut self) {
        if let Some(group) = self.group.take() {
            group.commit().await;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(group) = &mut *self.group else {
            return;
        };
        if group.ended.is_empty() {
            // Rolls back.
            *self.group = None;
            return;
        }
        if matches!(self.progress, Progress::Open | Progress::Failed) {
            group.is_to_be_rolled_back = true;
        }
        if !self.turns.has_waiting() {
            self.turns
                .runtime
                .spawn(self.turns.clone().commit_unattended());
        }
    }
}

impl Group {
    async fn begin(writer: &SqlitePool) -> Result<Self, StoreError> {
        Ok(Self {
            transaction: writer.begin_with("begin immediate").await?,
            opened_at: Instant::now(),
            ended: Vec::new(),
            is_to_be_rolled_back: false,
        })
    }

    fn takes_members(&self) -> bool {
        self.ended.len() < MAXIMUM_MEMBERS && self.opened_at.elapsed() < MAXIMUM_AGE
    }

    /// Starts the part of the next member, behind a savepoint. All savepoints have one name, which means the last
    /// of them.
    async fn set_savepoint(&mut self) -> Result<(), StoreError> {
        let statement = match self.is_to_be_rolled_back {
            // The savepoint of the dropped member stays, and is the next one's.
            true => "rollback to member",
            false => "savepoint member",
        };
        sqlx::query(statement)
            .execute(&mut *self.transaction)
            .await?;
        self.is_to_be_rolled_back = false;
        Ok(())
    }

    /// Commits, and answers the members.
    async fn commit(mut self) {
        let ended = std::mem::take(&mut self.ended);
        match self.finish().await {
            Ok(()) => ended.into_iter().for_each(|member| answer(member, Ok(()))),
            Err(error) => {
                let error = Arc::new(error);
                for member in ended {
                    answer(member, Err(StoreError::Batch(Arc::clone(&error))));
                }
            }
        }
    }

    async fn finish(mut self) -> Result<(), StoreError> {
        in_time(async {
            if self.is_to_be_rolled_back {
                self.set_savepoint().await?;
            }
            Ok(self.transaction.commit().await?)
        })
        .await
    }
}

/// Answers a member, unless its client has left meanwhile.
fn answer(member: oneshot::Sender<Result<(), StoreError>>, outcome: Result<(), StoreError>) {
    let _ = member.send(outcome);
}

#[cfg(test)]
mod tests;
