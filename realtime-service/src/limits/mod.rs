//! How much of a thing there may be: at once, in all and for each who has it; and how often.

mod budget;
mod pace;
mod rates;
mod refusal_limiter;

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::{
    budget::{Budget, Charge},
    pace::{Pace, PaceLimits, Verdict},
    rates::Rates,
    refusal_limiter::RefusalLimiter,
};
use crate::config::Limits;
pub use shared_claims::address::AddressKey;

/// Whose token it is: the issuer and the subject, since one subject can be two people of two
/// issuers.
pub type Subject = (Arc<str>, Arc<str>);

/// The bounds on what exists at once.
pub struct Quotas {
    /// TCP connections, by address.
    pub connections: Arc<Quota<AddressKey>>,
    /// Engine.IO sessions, by address.
    pub sessions: Arc<Quota<AddressKey>>,
    /// Admitted sockets, by who was admitted.
    pub sockets: Arc<Quota<Subject>>,
}

impl Quotas {
    /// The bounds that `limits` sets.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections: Quota::new(limits.connections, limits.connections_per_address),
            sessions: Quota::new(limits.sessions, limits.sessions_per_address),
            // A session has one socket for each namespace, so all of them are bounded by the sessions.
            sockets: Quota::new(usize::MAX, limits.sockets_per_subject),
        }
    }
}

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// There are as many as there may be in all: the fault is not this client's.
    Total,
    /// This one has as many as one may have.
    Share,
}

/// Owners with this part of their share are told to other gateways.
const CROWDED_PART: usize = 20;

/// Maximum number of owners that are told, the largest first.
const MOST_CROWDED: usize = 10_000;

/// A bound on how many of a thing exist at once.
pub struct Quota<K: Eq + Hash> {
    total: usize,
    share: usize,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    total: usize,
    by_owner: HashMap<K, usize>,
    /// Places of owners on other gateways, as far as these tell.
    elsewhere: HashMap<K, usize>,
}

/// The right to be one of them, given back when dropped.
pub struct Permit<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    owner: Option<K>,
}

impl<K: Eq + Hash + Clone> Quota<K> {
    /// A bound of `total` in all and of `share` for each owner.
    #[must_use]
    pub fn new(total: usize, share: usize) -> Arc<Self> {
        let taken = Taken {
            total: 0,
            by_owner: HashMap::new(),
            elsewhere: HashMap::new(),
        };
        Arc::new(Self {
            total,
            share,
            taken: Mutex::new(taken),
        })
    }

    /// Takes a place for `owner`, or for nobody in particular: such a one has no share.
    ///
    /// # Errors
    ///
    /// When there is none left, in all or for `owner`.
    pub fn acquire(self: &Arc<Self>, owner: Option<K>) -> Result<Permit<K>, Exceeded> {
        let mut taken = self.taken();
        if taken.total >= self.total {
            return Err(Exceeded::Total);
        }
        if let Some(owner) = &owner {
            let count = taken.by_owner.get(owner).copied().unwrap_or_default();
            let elsewhere = taken.elsewhere.get(owner).copied().unwrap_or_default();
            if count.saturating_add(elsewhere) >= self.share {
                return Err(Exceeded::Share);
            }
            taken.by_owner.insert(owner.clone(), count + 1);
        }
        taken.total += 1;
        Ok(Permit {
            quota: self.clone(),
            owner,
        })
    }

    /// Returns the owners that have much of their share, each with the number of its places here.
    #[must_use]
    pub fn crowded(&self) -> Vec<(K, usize)> {
        let least = (self.share / CROWDED_PART).max(1);
        let taken = self.taken();
        let owners = taken.by_owner.iter();
        let owners = owners.filter(|(_, count)| **count >= least);
        let mut owners: Vec<_> = owners
            .map(|(owner, count)| (owner.clone(), *count))
            .collect();
        drop(taken);
        owners.sort_unstable_by_key(|(_, count)| Reverse(*count));
        owners.truncate(MOST_CROWDED);
        owners
    }

    /// Replaces what is known of the owners' places on other gateways. Nobody loses a place.
    pub fn set_elsewhere(&self, elsewhere: HashMap<K, usize>) {
        self.taken().elsewhere = elsewhere;
    }
}

impl<K: Eq + Hash> Quota<K> {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.taken().total
    }

    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = self.quota.taken();
        taken.total -= 1;
        let Some(owner) = &self.owner else { return };
        if let Some(count) = taken.by_owner.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                taken.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_bounds_each_owner_and_all_of_them_and_takes_places_back() {
        let quota = Quota::new(3, 2);
        let first = quota.acquire(Some("a")).expect("the first");
        let second = quota.acquire(Some("a")).expect("the second");
        assert_eq!(quota.acquire(Some("a")).err(), Some(Exceeded::Share));
        let third = quota.acquire(Some("b")).expect("the third");
        assert_eq!(quota.acquire(Some("c")).err(), Some(Exceeded::Total));
        assert_eq!(quota.count(), 3);
        drop(first);
        assert!(quota.acquire(Some("a")).is_ok());
        drop((second, third));
        assert!(quota.taken().by_owner.is_empty());
    }

    #[test]
    fn places_on_other_gateways_count_and_take_nobodys_place() {
        let quota = Quota::new(100, 2);
        let first = quota.acquire(Some("a")).expect("the first");
        quota.set_elsewhere(HashMap::from([("a", 1), ("b", 5)]));
        assert_eq!(quota.acquire(Some("a")).err(), Some(Exceeded::Share));
        assert_eq!(quota.acquire(Some("b")).err(), Some(Exceeded::Share));
        assert!(quota.acquire(Some("c")).is_ok());
        drop(first);
        assert!(quota.acquire(Some("a")).is_ok());
        quota.set_elsewhere(HashMap::new());
        let both = [quota.acquire(Some("b")), quota.acquire(Some("b"))];
        assert!(both.iter().all(Result::is_ok));
    }

    #[test]
    fn owners_with_much_of_their_share_are_told_the_largest_first() {
        let quota = Quota::new(1000, 40);
        let take =
            |owner, count| -> Vec<_> { (0..count).map(|_| quota.acquire(Some(owner))).collect() };
        let _kept = [take("one", 1), take("two", 2), take("three", 3)];
        assert_eq!(quota.crowded(), [("three", 3), ("two", 2)]);
    }

    #[test]
    fn who_has_no_share_counts_in_all_alone() {
        let quota = Quota::<&str>::new(2, 1);
        let kept = [quota.acquire(None), quota.acquire(None)];
        assert!(kept.iter().all(Result::is_ok));
        assert_eq!(quota.acquire(None).err(), Some(Exceeded::Total));
        drop(kept);
        assert_eq!(quota.count(), 0);
    }
}
