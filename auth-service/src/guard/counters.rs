//! Counters of attempts: those of this process ([`Limits`]), and those that all issuers share
//! ([`SharedCounters`]).
//!
//! The process refuses first, and asks nobody. An attempt that it lets through is counted among the shared
//! counters as well, and a failure before its answer is sent: all issuers together answer no more failures
//! than one would. What these refuse is learned, so that the next attempt costs no question. With SQLite and
//! without Redis only the process counts.

use std::{net::IpAddr, sync::Arc};

use shared_claims::address::{AddressKey, SiteKey};

use super::{
    limits::{Key, Limit, LimitReached, Limits},
    shared::{Home, SharedCounters},
};
use crate::{
    keys::KeyRing,
    store::{AttemptCounter, Level, StoreError},
    vault::Purpose,
};

/// The parts of the service that count.
#[derive(Clone)]
pub(crate) struct Counting<'a> {
    /// The counters of this process.
    pub(crate) limits: &'a Limits,
    /// The counters that all issuers share.
    pub(crate) shared: SharedCounters<'a>,
    /// The keys of the moment, by which names stand in the shared counters.
    pub(crate) ring: Arc<KeyRing>,
}

/// Reason that an attempt was not counted.
#[derive(Debug)]
pub(crate) enum CountError {
    /// There were too many.
    Reached(LimitReached),
    /// The database failed.
    Store(StoreError),
}

impl From<LimitReached> for CountError {
    fn from(reached: LimitReached) -> Self {
        Self::Reached(reached)
    }
}

impl From<StoreError> for CountError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A limit for one address, name, device or account.
pub(crate) struct Counter {
    limit: Limit,
    key: Key,
    counted: Counted,
}

enum Counted {
    Address(IpAddr),
    Text(String),
}

impl Counter {
    /// Returns the counter of an address: of its /64 and its /48 for IPv6.
    pub(crate) fn of_address(limits: &Limits, limit: Limit, address: IpAddr) -> Self {
        Self {
            limit,
            key: limits.address_key(address),
            counted: Counted::Address(address),
        }
    }

    /// Returns the counter of a name, a device or an id.
    pub(crate) fn of_text(limits: &Limits, limit: Limit, text: &str) -> Self {
        Self {
            limit,
            key: limits.text_key(text),
            counted: Counted::Text(text.to_owned()),
        }
    }

    /// Returns the counter of the right passwords and passkeys of an account. Each costs a hash, and rows that
    /// stay: nobody takes the password threads, the audit log or the gateways' revocations for oneself.
    pub(crate) fn of_right_logins(limits: &Limits, user_id: &str) -> Self {
        Self::of_text(limits, Limit::RightLoginsOfAccount, user_id)
    }

    /// Returns the key in the memory of this process.
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// Counts an attempt in this process alone.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] when there were too many.
    pub(crate) fn take_here(&self, counting: &Counting<'_>) -> Result<(), LimitReached> {
        counting.limits.take(self.limit, self.key)
    }

    /// Refuses when this process refuses the next attempt, and counts nothing.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] with the time to wait.
    pub(crate) fn require_room_here(&self, counting: &Counting<'_>) -> Result<(), LimitReached> {
        if self.is_used_up_here(counting) {
            // Refused, and so not counted.
            self.take_here(counting)?;
        }
        Ok(())
    }

    /// Takes back an attempt that was counted in this process alone.
    pub(crate) fn give_back_here(&self, counting: &Counting<'_>) {
        counting.limits.give_back(self.limit, self.key);
    }

    /// Ends an attempt that was counted in this process alone: a failure is counted among the shared counters
    /// as well, and any other outcome is taken back.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn settle(
        &self,
        counting: &Counting<'_>,
        is_failure: bool,
    ) -> Result<(), StoreError> {
        match is_failure {
            true => count(counting, &[self]).await.map(drop),
            false => {
                self.give_back_here(counting);
                Ok(())
            }
        }
    }

    /// Returns whether this process refuses the next attempt.
    pub(crate) fn is_used_up_here(&self, counting: &Counting<'_>) -> bool {
        counting.limits.is_used_up(self.limit, self.key)
    }

    /// Counts an attempt in this process and among the shared counters. Returns where these are.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] with the time to wait, and without counting it here, when there were too
    /// many here or at all issuers; and when the database counts and fails.
    pub(crate) async fn take(&self, counting: &Counting<'_>) -> Result<Taken, CountError> {
        self.take_here(counting)?;
        let parts = parts_of(counting, &[self]);
        if parts.is_empty() {
            return Ok(Taken(None));
        }
        let rows = rows_of(&parts);
        let (home, full) = match counting.shared.count(&rows).await {
            Ok((home, full)) if full.is_empty() => return Ok(Taken(Some(home))),
            counted => {
                // Before the levels of all issuers are learned, which have no part of this attempt.
                self.give_back_here(counting);
                counted?
            }
        };
        let is_full = |place: &usize| full.iter().any(|(other, _)| other == place);
        let counted = rows.iter().enumerate().filter(|(place, _)| !is_full(place));
        let counted: Vec<AttemptCounter> = counted.map(|(_, row)| *row).collect();
        if !counted.is_empty() {
            counting.shared.give_back(home, &counted).await;
        }
        match learn(counting, &parts, &full) {
            Some(reached) => Err(reached.into()),
            None => Ok(Taken(Some(home))),
        }
    }

    /// Takes back an attempt that [`Self::take`] has counted and that turned out well.
    pub(crate) async fn give_back(&self, counting: &Counting<'_>, taken: Taken) {
        self.give_back_here(counting);
        if let Taken(Some(home)) = taken {
            let rows = rows_of(&parts_of(counting, &[self]));
            counting.shared.give_back(home, &rows).await;
        }
    }
}

/// An attempt that [`Counter::take`] has counted, and the place of the shared counters, if there are some.
#[derive(Debug)]
pub(crate) struct Taken(Option<Home>);

/// One row of a [`Counter`] among the shared counters.
struct Part<'a> {
    owner: &'a Counter,
    is_site: bool,
    counter: AttemptCounter,
}

/// Counts a failure at each of the shared counters, and returns the refusal of the first that has no room.
///
/// # Errors
///
/// When the database counts and fails.
pub(crate) async fn count(
    counting: &Counting<'_>,
    counters: &[&Counter],
) -> Result<Option<LimitReached>, StoreError> {
    let parts = parts_of(counting, counters);
    if parts.is_empty() {
        return Ok(None);
    }
    let (_, full) = counting.shared.count(&rows_of(&parts)).await?;
    Ok(learn(counting, &parts, &full))
}

/// Returns the refusal of the first of the shared counters that has no room for another attempt. Only reads.
///
/// # Errors
///
/// When the database counts and fails.
pub(crate) async fn find_used_up(
    counting: &Counting<'_>,
    counters: &[&Counter],
) -> Result<Option<LimitReached>, StoreError> {
    let parts = parts_of(counting, counters);
    if parts.is_empty() {
        return Ok(None);
    }
    let mut levels = counting.shared.read(&rows_of(&parts)).await?;
    levels.retain(|(_, level)| level.wait_ms > 0);
    Ok(learn(counting, &parts, &levels))
}

/// Raises the counters of this process to levels of all issuers without room, and returns the refusal of the
/// first.
fn learn(
    counting: &Counting<'_>,
    parts: &[Part<'_>],
    full: &[(usize, Level)],
) -> Option<LimitReached> {
    let full = full
        .iter()
        .filter_map(|(place, level)| Some((parts.get(*place)?, level)));
    let mut refusal = None;
    for (part, level) in full {
        let Counter { limit, key, .. } = *part.owner;
        let empty_in_ms = u64::try_from(level.empty_in_ms).unwrap_or_default();
        counting.limits.learn(limit, key, part.is_site, empty_in_ms);
        let secs = u64::try_from(level.wait_ms)
            .unwrap_or_default()
            .div_ceil(1000);
        refusal.get_or_insert(LimitReached { limit, secs });
    }
    refusal
}

fn rows_of(parts: &[Part<'_>]) -> Vec<AttemptCounter> {
    parts.iter().map(|part| part.counter).collect()
}

/// Returns the rows of counters; none when no other issuer counts with this one.
fn parts_of<'a>(counting: &Counting<'_>, counters: &[&'a Counter]) -> Vec<Part<'a>> {
    if !counting.shared.are_on() {
        return Vec::new();
    }
    let row = |owner: &'a Counter, text: &str, is_site: bool| {
        let costs = counting.limits.costs(owner.limit);
        let kind = if is_site { "site" } else { "own" };
        let named = format!("{}\0{kind}\0{text}", owner.limit.name());
        let macs = counting
            .ring
            .vault
            .macs(Purpose::AttemptCounter, named.as_bytes());
        let milliseconds = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Some(Part {
            owner,
            is_site,
            counter: AttemptCounter {
                key: *macs.first()?,
                step_ms: milliseconds(if is_site { costs.site_ms } else { costs.own_ms }),
                window_ms: milliseconds(costs.window_ms),
            },
        })
    };
    let mut parts = Vec::new();
    for counter in counters {
        match &counter.counted {
            Counted::Text(text) => parts.extend(row(counter, text, false)),
            Counted::Address(address) => {
                let own = AddressKey::from(*address).to_string();
                parts.extend(row(counter, &own, false));
                let site = SiteKey::of(*address).map(|site| site.to_string());
                parts.extend(site.and_then(|site| row(counter, &site, true)));
            }
        }
    }
    parts
}
