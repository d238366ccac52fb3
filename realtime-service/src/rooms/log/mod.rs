//! The log of a room: it numbers messages, keeps the last ones, and finds repeated ids. Delivery
//! follows it.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod faulty;
mod history;
mod memory;
mod recent_ids;
mod redis;

use std::sync::Arc;

use tokio::time::Instant;

#[cfg(test)]
pub(super) use self::faulty::{Faults, FaultyLog};
pub(super) use self::memory::{MemoryLog, MemoryLogs};
pub use self::recent_ids::MessageKey;
pub(super) use self::redis::{RedisLog, RedisLogs};
use super::{Draft, Epoch, Message, Position, Since};
use crate::clock;

/// The log of one room.
pub(super) enum RoomLog {
    /// In the memory of this process.
    Memory(MemoryLog),
    /// In Redis, for several gateways.
    Redis(Box<RedisLog>),
    /// One that is slow, fails, and loses notices.
    #[cfg(test)]
    Faulty(FaultyLog),
}

/// A part of what a log keeps in memory.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    /// The messages of the history.
    Messages,
    /// The ids under which messages were published.
    Ids,
}

/// Why a log did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// It cannot be reached now. A message may have been appended all the same.
    #[error("the log cannot be reached")]
    Unavailable,
    /// Another log has taken the place of this one.
    #[error("the log is closed")]
    Closed,
}

/// A message that was appended, or found.
pub struct Appended {
    /// Its place in the room.
    pub position: Position,
    /// The message, if the log has encoded it: a log in Redis leaves that to whoever delivers it.
    pub message: Option<Arc<Message>>,
    /// Whether it was published before under the same key.
    pub is_duplicate: bool,
    /// The message that was published before under the same key, if the log outlives its gateways and still has
    /// the message.
    pub original: Option<Box<Draft>>,
    /// The generation of the [`cluster`](crate::cluster) in which the log answered; 0 for a log in
    /// memory.
    pub generation: u64,
}

/// A part of what a log keeps.
pub struct Extract {
    /// The place of the room's newest message.
    pub position: Position,
    /// The messages, oldest first.
    pub messages: Vec<Arc<Message>>,
    /// Whether there are more after the last of them.
    pub more: bool,
    /// Whether nothing is missing before the first of them; `None` when no place was named.
    pub recovered: Option<bool>,
    /// The generation of the [`cluster`](crate::cluster) in which the log answered; 0 for a log in
    /// memory.
    pub generation: u64,
}

/// Which part of a log is read.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The messages after this one, as far as they are kept.
    pub since: Option<Since>,
    /// So many of the last ones, when there is no coming back.
    pub last: usize,
    /// So many at most.
    pub limit: Option<usize>,
}

impl RoomLog {
    /// Gives a message the next number of the room and keeps it, unless one was published under
    /// `key` lately.
    ///
    /// # Errors
    ///
    /// See [`LogError`].
    pub(super) async fn append(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, LogError> {
        match self {
            Self::Memory(log) => log.append(draft, key, clock::now().timer),
            // Boxed: a message to a log in memory is allocated without this size.
            Self::Redis(log) => Box::pin(log.append(draft, key)).await,
            #[cfg(test)]
            Self::Faulty(log) => log.append(draft, key).await,
        }
    }

    /// Reads a part of what is kept.
    ///
    /// # Errors
    ///
    /// See [`LogError`].
    pub(super) async fn read(&self, selection: &Selection) -> Result<Extract, LogError> {
        match self {
            Self::Memory(log) => Ok(log.read(selection, clock::now().timer)),
            Self::Redis(log) => log.read(selection).await,
            #[cfg(test)]
            Self::Faulty(log) => log.read(selection).await,
        }
    }

    /// Awaits `reading`, which uses this log, until the server of the log is silent.
    ///
    /// # Errors
    ///
    /// The errors of `reading`, and [`LogError::Unavailable`] when the server is silent.
    pub(super) async fn unless_silent<T>(
        &self,
        reading: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, LogError> {
        match self.redis().and_then(RedisLog::link) {
            Some(link) => link.unless_silent(reading).await?,
            None => reading.await,
        }
    }

    /// Does not listen to other gateways any more.
    pub(super) fn ignore(&self) {
        if let Self::Redis(log) = self {
            log.ignore();
        }
    }

    /// Returns the log in Redis, if it is one.
    pub(super) fn redis(&self) -> Option<&RedisLog> {
        match self {
            Self::Redis(log) => Some(log),
            _ => None,
        }
    }

    /// Returns the epoch of a log that has one only.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Redis(_) => None,
            _ => self.with_memory(|log| log.newest().epoch),
        }
    }

    /// Whether the log cannot be reached now.
    pub(super) fn is_away(&self) -> bool {
        self.redis().is_some_and(RedisLog::is_away)
    }

    /// Waits until it is worth trying again to read what could not be read.
    pub(super) async fn reachable(&self) {
        if let Self::Redis(log) = self {
            log.reachable().await;
        }
    }

    /// Forgets what is too old, and returns whether nothing is kept here.
    pub(super) fn trim(&self, now: Instant) -> bool {
        let is_empty = self.with_memory(|log| log.trim(now));
        is_empty.unwrap_or(true)
    }

    /// Closes a log that keeps nothing here, and returns whether it is closed. A log in Redis goes on
    /// without this gateway.
    pub(super) fn close_if_empty(&self) -> bool {
        self.with_memory(MemoryLog::close_if_empty).unwrap_or(true)
    }

    /// Returns the bytes of `kept` that are kept here, and when the newest message of them was published.
    pub(super) fn kept(&self, kept: Kept) -> (usize, Option<Instant>) {
        self.with_memory(|log| log.kept(kept)).unwrap_or_default()
    }

    /// Forgets all of `kept` that is kept here; the numbering goes on.
    pub(super) fn forget(&self, kept: Kept) {
        self.with_memory(|log| log.forget(kept));
    }

    fn with_memory<T>(&self, work: impl FnOnce(&MemoryLog) -> T) -> Option<T> {
        match self {
            Self::Memory(log) => Some(work(log)),
            Self::Redis(log) => log.with_alone(work),
            #[cfg(test)]
            Self::Faulty(log) => Some(work(log.memory())),
        }
    }
}
