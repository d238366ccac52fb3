//! The last messages of a room, for clients that come back to it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{config::HistorySettings, rooms::Message};

/// The memory that a message takes besides itself, in bytes: its place in the list, which has up to
/// twice as many, and the counters of its `Arc`.
const ENTRY_BYTES: usize = 2 * size_of::<(Instant, Arc<Message>)>() + 2 * size_of::<usize>();

/// The last messages of one room: so many, so long, and of so many bytes at most.
///
/// What is kept has no gap, and ends with the room's newest message, unless that has gone as well.
#[derive(Default)]
pub(super) struct History {
    kept: VecDeque<(Instant, Arc<Message>)>,
    bytes: usize,
}

impl History {
    /// Keeps the room's newest message.
    pub(super) fn push(&mut self, message: Arc<Message>, now: Instant, settings: &HistorySettings) {
        self.bytes += weight(&message);
        self.kept.push_back((now, message));
        self.trim(now, settings);
    }

    /// Forgets what is too much or too old.
    pub(super) fn trim(&mut self, now: Instant, settings: &HistorySettings) {
        let age = Duration::from_secs(settings.secs);
        while let Some((at, _)) = self.kept.front() {
            let is_within = self.kept.len() <= settings.messages
                && self.bytes <= settings.bytes
                && *at + age > now;
            if is_within {
                return;
            }
            self.forget_first();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The messages after the one numbered `offset` in a room whose newest is numbered `newest`;
    /// `None` when one of them has gone, or `offset` was never reached.
    #[must_use]
    pub(super) fn after(&self, offset: u64, newest: u64) -> Option<Vec<Arc<Message>>> {
        let missing = usize::try_from(newest.checked_sub(offset)?).ok()?;
        (missing <= self.kept.len()).then(|| self.last(missing))
    }

    /// The last `count` messages, or as many as there are.
    #[must_use]
    pub(super) fn last(&self, count: usize) -> Vec<Arc<Message>> {
        let skipped = self.kept.len().saturating_sub(count);
        let kept = self.kept.iter().skip(skipped);
        kept.map(|(_, message)| message.clone()).collect()
    }

    /// The memory that they take, in bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the newest message that is kept was published.
    #[must_use]
    pub(super) fn newest_at(&self) -> Option<Instant> {
        self.kept.back().map(|(at, _)| *at)
    }

    fn forget_first(&mut self) {
        if let Some((_, message)) = self.kept.pop_front() {
            self.bytes -= weight(&message);
        }
    }
}

/// The memory that a message takes, in bytes.
fn weight(message: &Message) -> usize {
    message.memory() + ENTRY_BYTES
}

#[cfg(test)]
mod tests;
