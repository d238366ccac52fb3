//! Counters of attempts: those of this process ([`Limits`]), and those that all issuers on one
//! PostgreSQL share.
//!
//! The process refuses first, without the database. An attempt that it lets through is counted in the
//! database as well, and a failure before its answer is sent: all issuers together answer no more failures
//! than one would. What the database refuses is learned, so that the next attempt costs no statement.
//! With SQLite only the process counts.

use std::{net::IpAddr, sync::Arc};

use shared_claims::address::{AddressKey, SiteKey};

use super::limits::{Key, Limit, LimitReached, Limits};
use crate::{
    keys::KeyRing,
    store::{AttemptCounter, Level, Store, StoreError},
    vault::Purpose,
};

/// The parts of the service that count.
#[derive(Clone)]
pub(crate) struct Counting<'a> {
    /// The counters of this process.
    pub(crate) limits: &'a Limits,
    /// The database, whose counters all issuers share.
    pub(crate) store: &'a Store,
    /// The keys of the moment, by which names stand in the database.
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

    /// Takes back an attempt that was counted in this process alone.
    pub(crate) fn give_back_here(&self, counting: &Counting<'_>) {
        counting.limits.give_back(self.limit, self.key);
    }

    /// Ends an attempt that was counted in this process alone: a failure is counted in the database as well,
    /// and any other outcome is taken back.
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

    /// Counts an attempt in this process and in the database.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] with the time to wait, and without counting it here, when there were too
    /// many here or at all issuers; and when the database fails.
    pub(crate) async fn take(&self, counting: &Counting<'_>) -> Result<(), CountError> {
        self.take_here(counting)?;
        let parts = parts_of(counting, &[self]);
        if parts.is_empty() {
            return Ok(());
        }
        let rows = rows_of(&parts);
        let counted = counting.store.count_attempts(&rows).await;
        if matches!(&counted, Ok(full) if full.is_empty()) {
            return Ok(());
        }
        // Before the levels of the database are learned, which have no part of this attempt.
        self.give_back_here(counting);
        let full = counted?;
        let is_full = |place: &usize| full.iter().any(|(other, _)| other == place);
        let counted = rows.iter().enumerate().filter(|(place, _)| !is_full(place));
        let counted: Vec<AttemptCounter> = counted.map(|(_, row)| *row).collect();
        give_rows_back(counting, &counted).await;
        match learn(counting, &parts, &full) {
            Some(reached) => Err(reached.into()),
            None => Ok(()),
        }
    }

    /// Takes back an attempt that [`Self::take`] has counted and that turned out well. A database that fails
    /// keeps the attempt, which costs its owner one of a window.
    pub(crate) async fn give_back(&self, counting: &Counting<'_>) {
        self.give_back_here(counting);
        give_rows_back(counting, &rows_of(&parts_of(counting, &[self]))).await;
    }
}

/// Takes an attempt back from rows of the database. A database that fails keeps the attempt.
async fn give_rows_back(counting: &Counting<'_>, rows: &[AttemptCounter]) {
    if rows.is_empty() {
        return;
    }
    if let Err(error) = counting.store.give_attempts_back(rows).await {
        tracing::warn!("an attempt cannot be taken back: {}", error.story());
    }
}

/// One row of a [`Counter`] in the database.
struct Part<'a> {
    owner: &'a Counter,
    is_site: bool,
    counter: AttemptCounter,
}

/// Counts a failure at each counter in the database, and returns the refusal of the first that has no room.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn count(
    counting: &Counting<'_>,
    counters: &[&Counter],
) -> Result<Option<LimitReached>, StoreError> {
    let parts = parts_of(counting, counters);
    if parts.is_empty() {
        return Ok(None);
    }
    let full = counting.store.count_attempts(&rows_of(&parts)).await?;
    Ok(learn(counting, &parts, &full))
}

/// Returns the refusal of the first counter that has no room for another attempt in the database. It only
/// reads.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn find_used_up(
    counting: &Counting<'_>,
    counters: &[&Counter],
) -> Result<Option<LimitReached>, StoreError> {
    let parts = parts_of(counting, counters);
    if parts.is_empty() {
        return Ok(None);
    }
    let mut levels = counting.store.read_attempts(&rows_of(&parts)).await?;
    levels.retain(|(_, level)| level.wait_ms > 0);
    Ok(learn(counting, &parts, &levels))
}

/// Raises the counters of this process to levels of the database without room, and returns the refusal of
/// the first.
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
    if !counting.store.is_shared() {
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
