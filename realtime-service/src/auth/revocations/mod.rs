//! Revocations: which sessions and subjects have ended before their tokens have.
//!
//! An issuer posts a logout token (OpenID Connect Back-Channel Logout 1.0). It is remembered in
//! memory, the sockets that it concerns are disconnected, it is written to a file, and only then
//! acknowledged. A handshake asks after it has put its session into the index, so that of a
//! handshake and a revocation at the same time one sees the other.
//!
//! A revocation lapses when the last token that it concerns has expired. Neither that nor rewriting
//! the file delays a handshake.

mod draft;
mod entries;
mod file;
mod log;
mod shared;
mod suspended;

pub(crate) use self::file::lock_beside;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shared_claims::{
    VerifiedClaims, VerifiedLogout,
    verify::{CLOCK_LEEWAY_SECS, LogoutScope},
};
use tokio::time::{Instant, sleep};

use self::{
    entries::{Entries, Entry, Key},
    log::{Log, Writer},
    shared::SharedRevocations,
    suspended::SuspendedTokens,
};
use crate::{
    clock::{unix_secs, wall_now},
    cluster::Cluster,
    config::RevocationSettings,
};

/// Maximum number of lines of the file beyond twice what is in force; with more, the file is written
/// anew.
const SPARE_LINES: usize = 10_000;

/// How often lapsed revocations are removed.
const LAPSE_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two attempts to write the file anew.
const REWRITE_INTERVAL: Duration = Duration::from_secs(10);

/// What is revoked, on the disk as one line of JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// A subject of which the tokens without a session are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    unnamed: Option<String>,
    /// When it was revoked, in seconds since the epoch: of a subject, younger tokens are accepted.
    iat: u64,
    /// When the last token that it concerns has expired, in seconds since the epoch.
    until: u64,
}

/// Why a revocation is not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// There are as many as may be kept.
    #[error("as many revocations are kept as the settings allow")]
    Full,
    /// It cannot be written. What it concerns has ended all the same, until a restart.
    #[error("cannot write a revocation: {0}")]
    Write(#[from] std::io::Error),
}

/// What is revoked.
pub struct Revocations {
    entries: Arc<Entries>,
    /// The tokens that are refused for a while, which are not on the disk.
    suspended: SuspendedTokens,
    log: Arc<Log>,
    /// Those of all gateways, when there are several.
    shared: Option<Arc<SharedRevocations>>,
    /// When the file may be written anew again.
    next_rewrite: Mutex<Instant>,
}

impl Revocations {
    /// Reads what was written before, and starts to write.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, holds something else, or is another process's.
    pub fn open(settings: &RevocationSettings) -> anyhow::Result<Self> {
        let what = || format!("revocations.file {}", settings.file.display());
        let entries = Arc::new(Entries::new(settings.entries));
        let log = Self::open_log(&settings.file, &entries).with_context(what)?;
        Ok(Self {
            entries,
            suspended: SuspendedTokens::default(),
            log: Arc::new(log),
            shared: None,
            next_rewrite: Mutex::new(Instant::now()),
        })
    }

    /// Shares the revocations with the other gateways of `cluster`, for as long as the longest token lives,
    /// `lifetime_secs`. `end_sessions` is called with those of other gateways.
    #[must_use]
    pub fn shared(mut self, cluster: &Arc<Cluster>, lifetime_secs: u64) -> Self {
        let lifetime = Duration::from_secs(lifetime_secs + CLOCK_LEEWAY_SECS);
        self.shared = Some(SharedRevocations::new(
            cluster.clone(),
            self.entries.clone(),
            self.log.clone(),
            (self.entries.most(), lifetime),
        ));
        self
    }

    /// Has `end_sessions` called with each revocation of another gateway.
    pub fn on_revoked(&self, end_sessions: impl Fn(&VerifiedLogout) + Send + Sync + 'static) {
        if let Some(shared) = &self.shared {
            shared.on_revoked(Box::new(end_sessions));
        }
    }

    /// Follows the revocations of other gateways; never returns if there are any.
    pub async fn follow(&self) {
        if let Some(shared) = &self.shared {
            shared.run().await;
        }
    }

    /// Waits until the revocations of other gateways are known, for `limit` at most.
    pub async fn caught_up(&self, limit: Duration) {
        if let Some(shared) = &self.shared {
            shared.caught_up(limit).await;
        }
    }

    fn open_log(path: &Path, entries: &Arc<Entries>) -> anyhow::Result<Log> {
        let now = unix_secs(wall_now());
        let mut number = 0;
        let mut writer = Writer::open(path, |line| {
            number += 1;
            let record: Record = serde_json::from_str(line)
                .ok()
                .with_context(|| format!("line {number} is no revocation"))?;
            if record.until > now {
                for key in record.keys() {
                    entries.insert(key, record.entry());
                }
            }
            Ok(())
        })?;
        writer.rewrite(entries)?;
        Ok(Log::start(writer)?)
    }

    /// Whether the token with these claims is revoked or suspended.
    #[must_use]
    pub fn covers(&self, claims: &VerifiedClaims) -> bool {
        if self.suspended.covers(claims, Instant::now()) {
            return true;
        }
        if self.is_empty() {
            return false;
        }
        let now = unix_secs(wall_now());
        let scopes = LogoutScope::of(&claims.sub, claims.sid.as_deref());
        scopes.into_iter().any(|scope| {
            let key = (claims.iss.clone(), scope);
            let entry = self.entries.get(&key, now);
            entry.is_some_and(|entry| key.1.ends(claims.iat, entry.iat))
        })
    }

    /// Refuses the token with these claims for a minute: its client was disconnected for good, and took
    /// nothing when it was to be told so.
    pub fn suspend(&self, claims: &VerifiedClaims) {
        self.suspended.suspend(claims, Instant::now());
    }

    /// How many revocations are kept. Lapsed ones count until [`Self::run_maintenance`] has removed
    /// them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no revocation is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a revocation from now on, and returns what is to be written. Its tokens live for
    /// `lifetime_secs` at most, and no longer than the issuer says.
    pub fn remember(
        &self,
        logout: &VerifiedLogout,
        (lifetime_secs, now): (u64, SystemTime),
    ) -> Result<Pending, RevocationError> {
        let now = unix_secs(now);
        let longest = now.saturating_add(lifetime_secs);
        let last = logout.tokens_exp.unwrap_or(longest).min(longest);
        let until = last.saturating_add(CLOCK_LEEWAY_SECS);
        let record = Record::of(&logout.iss, &logout.scopes, (logout.iat, until));
        let keys = record.keys().collect();
        let added = self.entries.add(keys, record.entry(), now);
        added.map_err(|_| RevocationError::Full)?;
        Ok(Pending(line_of(&record)))
    }

    /// Writes what was remembered; when this returns it is on the disk, and in Redis if the gateway is one
    /// of several. While Redis is away the disk is enough: then Redis gets it later.
    ///
    /// # Errors
    ///
    /// When it is not on the disk.
    pub async fn write(&self, pending: Pending) -> Result<(), RevocationError> {
        match &self.shared {
            None => self.log.append(pending.0).await?,
            Some(shared) => {
                let (written, added) =
                    tokio::join!(self.log.append(pending.0.clone()), shared.add(&pending.0));
                written?;
                if added.is_err() {
                    tracing::warn!("a revocation is not in Redis, and is added later");
                }
            }
        }
        self.rewrite_if_due();
        Ok(())
    }

    /// Removes revocations as they lapse, and keeps the file short and complete; never returns.
    pub async fn run_maintenance(&self) {
        loop {
            sleep(LAPSE_INTERVAL).await;
            self.entries.lapse(unix_secs(wall_now())).await;
            self.rewrite_if_due();
        }
    }

    /// Has the file written anew if it lacks a revocation, or most of its lines are not in force any more.
    fn rewrite_if_due(&self) {
        let is_large = self.log.lines() > 2 * self.len() + SPARE_LINES;
        if !is_large && !self.log.is_incomplete() {
            return;
        }
        let mut next = self
            .next_rewrite
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if *next <= now {
            *next = now + REWRITE_INTERVAL;
            self.log.rewrite_later(self.entries.clone());
        }
    }

    /// Releases the file; nothing can be written any more.
    pub async fn close(&self) {
        self.log.close().await;
    }
}

/// A revocation that is in force and not yet on the disk.
pub struct Pending(String);

impl Record {
    fn of(iss: &str, scopes: &[LogoutScope], (iat, until): (u64, u64)) -> Self {
        let mut record = Self {
            iss: iss.to_owned(),
            iat,
            until,
            ..Self::default()
        };
        for scope in scopes.iter().cloned() {
            match scope {
                LogoutScope::Session(sid) => record.sid = Some(sid),
                LogoutScope::Subject(sub) => record.sub = Some(sub),
                LogoutScope::Unnamed(sub) => record.unnamed = Some(sub),
            }
        }
        record
    }

    fn entry(&self) -> Entry {
        Entry {
            iat: self.iat,
            until: self.until,
        }
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let named = self.scopes().into_iter();
        named.map(|scope| (self.iss.clone(), scope))
    }

    fn logout(&self) -> VerifiedLogout {
        VerifiedLogout {
            iss: self.iss.clone(),
            iat: self.iat,
            scopes: self.scopes(),
            tokens_exp: None,
        }
    }

    fn scopes(&self) -> Vec<LogoutScope> {
        let scopes = [
            self.sid.clone().map(LogoutScope::Session),
            self.sub.clone().map(LogoutScope::Subject),
            self.unnamed.clone().map(LogoutScope::Unnamed),
        ];
        scopes.into_iter().flatten().collect()
    }
}

fn line_of(record: &Record) -> String {
    // A struct of texts and numbers is always JSON.
    serde_json::to_string(record).unwrap_or_default()
}

#[cfg(test)]
mod tests;
