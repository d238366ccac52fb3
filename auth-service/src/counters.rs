//! Counters of attempts: those of this process ([`crate::limits`]), and those that all issuers on one
//! PostgreSQL share.
//!
//! The process refuses first, without the database. An attempt that it lets through is counted in the
//! database as well, and a failure before its answer is sent: all issuers together answer no more failures
//! than one would. What the database refuses is learned, so that the next attempt costs no statement.
//! With SQLite only the process counts.

use std::net::IpAddr;

use shared_claims::address::{AddressKey, SiteKey};

use crate::{
    error::ApiError,
    limits::{Key, Limit},
    state::AppState,
    store::{AttemptCounter, Level, StoreError},
    vault::Purpose,
};

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
    pub(crate) fn of_address(state: &AppState, limit: Limit, address: IpAddr) -> Self {
        Self {
            limit,
            key: state.limits().address_key(address),
            counted: Counted::Address(address),
        }
    }

    /// Returns the counter of a name, a device or an id.
    pub(crate) fn of_text(state: &AppState, limit: Limit, text: &str) -> Self {
        Self {
            limit,
            key: state.limits().text_key(text),
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
    /// [`ApiError::RateLimited`] when there were too many.
    pub(crate) fn take_here(&self, state: &AppState) -> Result<(), ApiError> {
        state.limits().take(self.limit, self.key)
    }

    /// Takes back an attempt that was counted in this process alone.
    pub(crate) fn give_back_here(&self, state: &AppState) {
        state.limits().give_back(self.limit, self.key);
    }

    /// Returns whether this process refuses the next attempt.
    pub(crate) fn is_used_up_here(&self, state: &AppState) -> bool {
        state.limits().is_used_up(self.limit, self.key)
    }

    /// Counts an attempt in this process and in the database.
    ///
    /// # Errors
    ///
    /// [`ApiError::RateLimited`] with the time to wait, and without counting it here, when there were too
    /// many here or at all issuers; and when the database fails.
    pub(crate) async fn take(&self, state: &AppState) -> Result<(), ApiError> {
        self.take_here(state)?;
        let refused = match count(state, &[self]).await {
            Ok(None) => return Ok(()),
            Ok(Some(refused)) => refused,
            Err(error) => error.into(),
        };
        self.give_back_here(state);
        Err(refused)
    }

    /// Takes back an attempt that [`Self::take`] has counted and that turned out well. A database that fails
    /// keeps the attempt, which costs its owner one of a window.
    pub(crate) async fn give_back(&self, state: &AppState) {
        self.give_back_here(state);
        let parts = parts_of(state, &[self]);
        let counters: Vec<AttemptCounter> = parts.iter().map(|part| part.counter).collect();
        if let Err(error) = state.store().give_attempts_back(&counters).await {
            tracing::warn!("an attempt cannot be taken back: {}", error.story());
        }
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
    state: &AppState,
    counters: &[&Counter],
) -> Result<Option<ApiError>, StoreError> {
    let parts = parts_of(state, counters);
    if parts.is_empty() {
        return Ok(None);
    }
    let rows: Vec<AttemptCounter> = parts.iter().map(|part| part.counter).collect();
    let full = state.store().count_attempts(&rows).await?;
    Ok(learn(state, &parts, &full))
}

/// Returns the refusal of the first counter that has no room for another attempt in the database. It only
/// reads.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn find_used_up(
    state: &AppState,
    counters: &[&Counter],
) -> Result<Option<ApiError>, StoreError> {
    let parts = parts_of(state, counters);
    if parts.is_empty() {
        return Ok(None);
    }
    let rows: Vec<AttemptCounter> = parts.iter().map(|part| part.counter).collect();
    let mut levels = state.store().read_attempts(&rows).await?;
    levels.retain(|(_, level)| level.wait_ms > 0);
    Ok(learn(state, &parts, &levels))
}

/// Raises the counters of this process to levels of the database without room, and returns the refusal of
/// the first.
fn learn(state: &AppState, parts: &[Part<'_>], full: &[(usize, Level)]) -> Option<ApiError> {
    let full = full
        .iter()
        .filter_map(|(place, level)| Some((parts.get(*place)?, level)));
    let mut refusal = None;
    for (part, level) in full {
        let Counter { limit, key, .. } = *part.owner;
        let empty_in_ms = u64::try_from(level.empty_in_ms).unwrap_or_default();
        state.limits().learn(limit, key, part.is_site, empty_in_ms);
        let secs = u64::try_from(level.wait_ms)
            .unwrap_or_default()
            .div_ceil(1000);
        refusal.get_or_insert(ApiError::RateLimited { limit, secs });
    }
    refusal
}

/// Returns the rows of counters; none when no other issuer counts with this one.
fn parts_of<'a>(state: &AppState, counters: &[&'a Counter]) -> Vec<Part<'a>> {
    if !state.store().is_shared() {
        return Vec::new();
    }
    let ring = state.ring();
    let row = |owner: &'a Counter, text: &str, is_site: bool| {
        let costs = state.limits().costs(owner.limit);
        let kind = if is_site { "site" } else { "own" };
        let named = format!("{}\0{kind}\0{text}", owner.limit.name());
        let macs = ring.vault.macs(Purpose::AttemptCounter, named.as_bytes());
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
