//! The log of a room: it numbers messages, keeps the last ones, and finds repeated ids. Delivery
//! follows it.

#[cfg(test)]
mod faulty;
mod history;
mod memory;
mod recent_ids;

use std::sync::Arc;

use tokio::time::Instant;

#[cfg(test)]
pub(super) use self::faulty::{Faults, FaultyLog};
pub(super) use self::memory::{MemoryLog, MemoryLogs};
pub use self::recent_ids::MessageKey;
use super::{Draft, Message, Position, Since};
use crate::clock;

/// The log of one room.
pub(super) enum RoomLog {
    /// In the memory of this process.
    Memory(MemoryLog),
    /// One that is slow, fails, and loses notices.
    #[cfg(test)]
    Faulty(FaultyLog),
}

/// Why a log did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// It cannot be reached now; nothing was done.
    #[cfg_attr(not(test), expect(dead_code, reason = "memory can always be reached"))]
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
    /// The message; `None` for one that was published before under the same key, and for one whose
    /// notice was lost.
    pub message: Option<Arc<Message>>,
    /// Whether it was published before under the same key.
    pub is_duplicate: bool,
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
    #[cfg_attr(
        not(test),
        expect(clippy::unused_async, reason = "a log in Redis awaits it")
    )]
    pub(super) async fn append(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, LogError> {
        match self {
            Self::Memory(log) => log.append(draft, key, clock::now().timer),
            #[cfg(test)]
            Self::Faulty(log) => log.append(draft, key).await,
        }
    }

    /// Reads a part of what is kept.
    ///
    /// # Errors
    ///
    /// See [`LogError`].
    #[cfg_attr(
        not(test),
        expect(clippy::unused_async, reason = "a log in Redis awaits it")
    )]
    pub(super) async fn read(&self, selection: &Selection) -> Result<Extract, LogError> {
        match self {
            Self::Memory(log) => Ok(log.read(selection, clock::now().timer)),
            #[cfg(test)]
            Self::Faulty(log) => log.read(selection).await,
        }
    }

    /// Forgets what is too old, and returns whether nothing is kept.
    pub(super) fn trim(&self, now: Instant) -> bool {
        self.memory().trim(now)
    }

    /// Closes a log that keeps nothing, and returns whether it is closed.
    pub(super) fn close_if_empty(&self) -> bool {
        self.memory().close_if_empty()
    }

    /// How many bytes are kept, and when the newest message of them was published.
    pub(super) fn kept(&self) -> (usize, Option<Instant>) {
        self.memory().kept()
    }

    /// Forgets all messages and ids; the numbering goes on.
    pub(super) fn forget(&self) {
        self.memory().forget();
    }

    fn memory(&self) -> &MemoryLog {
        match self {
            Self::Memory(log) => log,
            #[cfg(test)]
            Self::Faulty(log) => log.memory(),
        }
    }
}
