//! The messages that were published lately under an id of their publisher's choice, so that a publisher
//! who is not sure whether one arrived can publish it again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// How long an id is remembered: longer than clients try again after they lost a connection.
pub(super) const ID_LIFETIME: Duration = Duration::from_secs(120);

/// How many are remembered in one room.
pub(super) const MOST_IDS: usize = 1000;

/// The memory that an entry takes besides its texts, in bytes: a place in each of two collections,
/// which have up to twice as many, and the key with the counters of its `Arc`.
const ENTRY_BYTES: usize = 2 * size_of::<(Instant, Arc<MessageKey>)>()
    + 2 * size_of::<(Arc<MessageKey>, u64)>()
    + size_of::<MessageKey>()
    + 2 * size_of::<usize>();

/// Who published, and the id: two publishers may choose the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Whom the id belongs to, in a text that no other publisher has.
    pub publisher: String,
    /// The id.
    pub id: String,
}

/// The ids of one room, each with the offset of its message.
#[derive(Default)]
pub(super) struct RecentIds {
    offsets: HashMap<Arc<MessageKey>, u64>,
    order: VecDeque<(Instant, Arc<MessageKey>)>,
    bytes: usize,
}

impl RecentIds {
    /// The offset of the message that was published under `key`.
    #[must_use]
    pub(super) fn find(&self, key: &MessageKey) -> Option<u64> {
        self.offsets.get(key).copied()
    }

    /// Remembers a message.
    pub(super) fn insert(&mut self, key: MessageKey, offset: u64, now: Instant) {
        if self.order.len() >= MOST_IDS {
            self.forget_first();
        }
        self.bytes += weight(&key);
        let key = Arc::new(key);
        self.offsets.insert(key.clone(), offset);
        self.order.push_back((now, key));
    }

    /// Forgets what is too old.
    pub(super) fn trim(&mut self, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| *at + ID_LIFETIME <= now)
        {
            self.forget_first();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The memory that they take, in bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.bytes -= weight(&key);
            self.offsets.remove(&key);
        }
    }
}

fn weight(key: &MessageKey) -> usize {
    ENTRY_BYTES + key.publisher.len() + key.id.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(publisher: &str, id: &str) -> MessageKey {
        MessageKey {
            publisher: publisher.to_owned(),
            id: id.to_owned(),
        }
    }

    #[test]
    fn an_id_is_its_publishers_and_is_forgotten_in_time() {
        let (mut ids, start) = (RecentIds::default(), Instant::now());
        ids.insert(key("alice", "1"), 7, start);
        assert_eq!(ids.find(&key("alice", "1")), Some(7));
        assert_eq!(ids.find(&key("bob", "1")), None);
        ids.trim(start + ID_LIFETIME - Duration::from_millis(1));
        assert_eq!(ids.find(&key("alice", "1")), Some(7));
        ids.trim(start + ID_LIFETIME);
        assert_eq!((ids.find(&key("alice", "1")), ids.bytes()), (None, 0));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let (mut ids, now) = (RecentIds::default(), Instant::now());
        for number in 0..=MOST_IDS {
            ids.insert(key("alice", &number.to_string()), 1, now);
        }
        assert_eq!(ids.find(&key("alice", "0")), None);
        assert_eq!(ids.find(&key("alice", "1")), Some(1));
        let texts: usize = (1..=MOST_IDS)
            .map(|id| "alice".len() + id.to_string().len())
            .sum();
        assert_eq!(ids.bytes(), MOST_IDS * ENTRY_BYTES + texts);
    }
}
