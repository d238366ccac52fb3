//! Generations of users and of their sessions: a decision of an earlier generation is void.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use shared_claims::verify::LogoutScope;

use crate::backends::Asker;

/// Number of counters. Users whose counter is the same lose their decisions with one another, which costs
/// a question.
const COUNTERS: usize = 16 * 1024;

/// A counter for each of many users and sessions. Memory is the same for any number of them.
pub(super) struct Generations {
    counters: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// The generations of a user and of a session at a moment.
pub(super) struct Stamp([(usize, u64); 2]);

impl Default for Generations {
    fn default() -> Self {
        Self {
            counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Generations {
    /// Returns the present generations of a user and of the session that asks.
    pub(super) fn stamp(&self, asker: &Asker<'_>) -> Stamp {
        let issuer = asker.issuer.unwrap_or_default();
        let user = self.subject(issuer, asker.subject.unwrap_or_default());
        let session = asker.session.map_or(user, |sid| self.session(issuer, sid));
        Stamp([user, session].map(|index| (index, self.counters[index].load(Ordering::Acquire))))
    }

    /// Whether neither the user nor the session has a later generation.
    pub(super) fn is_current(&self, stamp: &Stamp) -> bool {
        let Stamp(parts) = stamp;
        parts
            .iter()
            .all(|(index, count)| self.counters[*index].load(Ordering::Acquire) == *count)
    }

    /// Begins a generation of the user or the session that `scope` of `issuer` names.
    pub(super) fn advance(&self, issuer: &str, scope: &LogoutScope) {
        let index = match scope {
            LogoutScope::Session(sid) => self.session(issuer, sid),
            LogoutScope::Subject(sub) | LogoutScope::Unnamed(sub) => self.subject(issuer, sub),
        };
        self.counters[index].fetch_add(1, Ordering::AcqRel);
    }

    fn subject(&self, issuer: &str, subject: &str) -> usize {
        self.index(("subject", issuer, subject))
    }

    fn session(&self, issuer: &str, sid: &str) -> usize {
        self.index(("session", issuer, sid))
    }

    fn index(&self, name: (&str, &str, &str)) -> usize {
        // The remainder is less than the number of counters.
        usize::try_from(self.hasher.hash_one(name) % COUNTERS as u64).unwrap_or_default()
    }
}
