//! The revocations in memory: by what they name, and by when they lapse.
//!
//! A handshake reads two of many shards. No work on all revocations holds the lock of a shard for
//! longer than a slice takes.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use shared_claims::verify::LogoutScope;

/// How many shards there are. A shard of a million revocations has about 4,000, which a table takes in
/// or copies in less than a millisecond.
const SHARDS: usize = 256;

/// Maximum number of revocations that are removed while the lock of a shard is held.
const SLICE: usize = 64;

/// How many slices are removed before a rest, so that handshakes have the processor.
const SLICES_AT_ONCE: usize = 8;

/// The length of the rest.
const SLICE_PAUSE: Duration = Duration::from_millis(1);

/// What is revoked: the issuer, and a session or a subject of that issuer.
pub(super) type Key = (String, LogoutScope);

/// A revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// When it was revoked, in seconds since the Unix epoch.
    pub(super) iat: u64,
    /// When it lapses, in seconds since the Unix epoch.
    pub(super) until: u64,
}

/// More revocations than may be kept.
#[derive(Debug)]
pub(super) struct Full;

/// All revocations.
pub(super) struct Entries {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    count: AtomicUsize,
    most: usize,
    /// Held by whoever adds revocations, so that the bound is exact. Handshakes do not take it.
    adding: Mutex<()>,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Arc<Key>, Entry>,
    /// Each key once: at the time at which its entry lapses, or at an earlier one if the entry was
    /// extended.
    by_time: BTreeMap<u64, Vec<Arc<Key>>>,
}

impl Entries {
    /// An empty set of at most `most` revocations.
    pub(super) fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            most,
            adding: Mutex::default(),
        }
    }

    /// How many revocations may be kept.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many revocations are kept.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns the revocation of `key` that is in force at `now`.
    pub(super) fn get(&self, key: &Key, now: u64) -> Option<Entry> {
        let entry = self.read(self.index_of(key)).entries.get(key).copied();
        entry.filter(|entry| entry.until > now)
    }

    /// Adds all `keys` or none. Of two revocations of the same key the later times count.
    ///
    /// # Errors
    ///
    /// When there is no room for all of them.
    pub(super) fn add(&self, keys: Vec<Key>, entry: Entry, now: u64) -> Result<(), Full> {
        let _alone = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |key: &&Key| !self.read(self.index_of(key)).entries.contains_key(*key);
        let added = keys.iter().filter(is_new).count();
        let has_room = || added == 0 || self.len() + added <= self.most;
        if !has_room() {
            // Maintenance is late.
            for shard in 0..SHARDS {
                self.remove_lapsed(shard, now);
            }
            if !has_room() {
                return Err(Full);
            }
        }
        for key in keys {
            self.insert(key, entry);
        }
        Ok(())
    }

    /// Adds a revocation, whatever the bound.
    pub(super) fn insert(&self, key: Key, new: Entry) {
        let mut shard = self.write(self.index_of(&key));
        if let Some(entry) = shard.entries.get_mut(&key) {
            entry.iat = entry.iat.max(new.iat);
            entry.until = entry.until.max(new.until);
            return;
        }
        let key = Arc::new(key);
        shard
            .by_time
            .entry(new.until)
            .or_default()
            .push(key.clone());
        shard.entries.insert(key, new);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Removes what has lapsed at `now`, shard by shard, and lets other tasks run in between.
    pub(super) async fn lapse(&self, now: u64) {
        let mut slices = 0;
        for shard in 0..SHARDS {
            while self.remove_lapsed(shard, now) == SLICE {
                slices += 1;
                match slices % SLICES_AT_ONCE {
                    0 => tokio::time::sleep(SLICE_PAUSE).await,
                    _ => tokio::task::yield_now().await,
                }
            }
        }
    }

    /// Removes up to a slice of what has lapsed in a shard, and returns how many entries it looked at.
    fn remove_lapsed(&self, shard: usize, now: u64) -> usize {
        let is_due = |shard: &Shard| {
            let first = shard.by_time.first_key_value();
            first.is_some_and(|(until, _)| *until <= now)
        };
        if !is_due(&self.read(shard)) {
            return 0;
        }
        let mut shard = self.write(shard);
        let (mut seen, mut removed) = (0, Vec::new());
        while seen < SLICE
            && let Some(mut first) = shard.by_time.first_entry()
            && *first.key() <= now
        {
            let Some(key) = first.get_mut().pop() else {
                first.remove();
                continue;
            };
            seen += 1;
            match shard.entries.get(&key).map(|entry| entry.until) {
                Some(until) if until > now => shard.by_time.entry(until).or_default().push(key),
                _ => removed.extend(shard.entries.remove_entry(&key).map(|_| key)),
            }
        }
        self.count.fetch_sub(removed.len(), Ordering::AcqRel);
        let (length, capacity) = (shard.entries.len(), shard.entries.capacity());
        if capacity > SLICE && length < capacity / 4 {
            shard.entries.shrink_to(length * 2);
        }
        drop(shard);
        seen
    }

    /// Returns a copy of what is in force at `now` of one shard; `None` after the last one.
    pub(super) fn copy(&self, shard: usize, now: u64) -> Option<Vec<(Arc<Key>, Entry)>> {
        (shard < SHARDS).then(|| {
            let shard = self.read(shard);
            let alive = shard.entries.iter().filter(|(_, entry)| entry.until > now);
            alive.map(|(key, entry)| (key.clone(), *entry)).collect()
        })
    }

    fn index_of(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }

    fn read(&self, shard: usize) -> RwLockReadGuard<'_, Shard> {
        let shard = &self.shards[shard];
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Shard> {
        let shard = &self.shards[shard];
        shard.write().unwrap_or_else(PoisonError::into_inner)
    }
}
