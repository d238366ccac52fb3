//! The messages that were published lately under an id of their publisher's choice, so that a publisher
//! who is not sure whether one arrived can publish it again.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// How long an id is remembered: longer than clients try again after they lost a connection.
pub(super) const ID_LIFETIME: Duration = Duration::from_secs(120);

/// How many are remembered in one room.
pub(super) const MOST_IDS: usize = 1000;

/// The memory that an entry takes, in bytes: a place in each of two collections, which have up to twice as
/// many.
const ENTRY_BYTES: usize =
    2 * size_of::<(Instant, Fingerprint)>() + 2 * size_of::<(Fingerprint, u64)>();

/// Who published, and the id: two publishers may choose the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Whom the id belongs to, in a text that no other publisher has.
    pub publisher: String,
    /// The id.
    pub id: String,
}

/// Two hashes of a key under random secrets, in place of its texts: nobody can find two keys with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u64; 2]);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Takes the first hash of a [`Fingerprint`] for the hash of the fingerprint.
#[derive(Default)]
struct FirstHash(u64);

impl Hasher for FirstHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // A fingerprint is written as one number.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// The ids of one room, each with the offset of its message.
#[derive(Default)]
pub(super) struct RecentIds {
    secrets: [RandomState; 2],
    offsets: HashMap<Fingerprint, u64, BuildHasherDefault<FirstHash>>,
    order: VecDeque<(Instant, Fingerprint)>,
}

impl RecentIds {
    /// The fingerprint of a key, among the ids of this room.
    pub(super) fn fingerprint(&self, key: &MessageKey) -> Fingerprint {
        Fingerprint(self.secrets.each_ref().map(|secret| secret.hash_one(key)))
    }

    /// The offset of the message that was published under a key.
    #[must_use]
    pub(super) fn find(&self, key: Fingerprint) -> Option<u64> {
        self.offsets.get(&key).copied()
    }

    /// Remembers a message.
    pub(super) fn insert(&mut self, key: Fingerprint, offset: u64, now: Instant) {
        if self.order.len() >= MOST_IDS {
            self.forget_first();
        }
        self.offsets.insert(key, offset);
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
        self.order.len() * ENTRY_BYTES
    }

    /// When the newest id was remembered.
    #[must_use]
    pub(super) fn newest_at(&self) -> Option<Instant> {
        self.order.back().map(|(at, _)| *at)
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.offsets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ids: &RecentIds, publisher: &str, id: &str) -> Fingerprint {
        ids.fingerprint(&MessageKey {
            publisher: publisher.to_owned(),
            id: id.to_owned(),
        })
    }

    #[test]
    fn an_id_is_its_publishers_and_is_forgotten_in_time() {
        let (mut ids, start) = (RecentIds::default(), Instant::now());
        let of_alice = key(&ids, "alice", "1");
        ids.insert(of_alice, 7, start);
        assert_eq!(ids.find(key(&ids, "alice", "1")), Some(7));
        assert_eq!(ids.find(key(&ids, "bob", "1")), None);
        assert_eq!(ids.find(key(&ids, "alice1", "")), None);
        ids.trim(start + ID_LIFETIME - Duration::from_millis(1));
        assert_eq!(ids.find(of_alice), Some(7));
        ids.trim(start + ID_LIFETIME);
        assert_eq!((ids.find(of_alice), ids.bytes()), (None, 0));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let (mut ids, now) = (RecentIds::default(), Instant::now());
        for number in 0..=MOST_IDS {
            let key = key(&ids, "alice", &number.to_string());
            ids.insert(key, 1, now);
        }
        assert_eq!(ids.find(key(&ids, "alice", "0")), None);
        assert_eq!(ids.find(key(&ids, "alice", "1")), Some(1));
        assert_eq!(ids.bytes(), MOST_IDS * ENTRY_BYTES);
    }

    #[test]
    fn two_rooms_have_other_fingerprints_of_the_same_key() {
        let rooms = [RecentIds::default(), RecentIds::default()];
        let [one, other] = rooms.each_ref().map(|ids| key(ids, "alice", "1"));
        assert_ne!(one, other);
        assert_ne!(one.0[0], one.0[1]);
    }
}
