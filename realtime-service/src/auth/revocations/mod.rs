//! Revocations: which sessions and subjects have ended before their tokens have.
//!
//! An issuer posts a logout token (OpenID Connect Back-Channel Logout 1.0). It is remembered in
//! memory, the sockets that it concerns are dismissed, it is written to a file, and only then
//! acknowledged. A handshake asks after it has put its session into the index, so that of a
//! handshake and a revocation at the same time one sees the other.

mod log;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shared_claims::{
    VerifiedClaims, VerifiedLogout,
    verify::{CLOCK_LEEWAY_SECS, LogoutScope},
};

use self::log::{Log, Writer};
use crate::config::RevocationSettings;

/// How many lines the file may have beyond twice what is in force before it is written anew.
const SPARE_LINES: usize = 10_000;

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

/// Whose issuer, and what of it.
type Key = (String, LogoutScope);

/// When it was revoked, and until when that matters.
#[derive(Clone, Copy)]
struct Entry {
    iat: u64,
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
    entries: Mutex<HashMap<Key, Entry>>,
    most: usize,
    log: Log,
}

impl Revocations {
    /// Reads what was written before, and starts to write.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, holds something else, or is another process's.
    pub fn open(settings: &RevocationSettings) -> anyhow::Result<Self> {
        let now = seconds(SystemTime::now());
        let what = || format!("revocations.file {}", settings.file.display());
        let (log, records) = Self::open_log(&settings.file, now).with_context(what)?;
        let mut entries = HashMap::new();
        for record in records {
            remember(&mut entries, &record);
        }
        Ok(Self {
            entries: Mutex::new(entries),
            most: settings.entries,
            log,
        })
    }

    fn open_log(path: &Path, now: u64) -> anyhow::Result<(Log, Vec<Record>)> {
        let (mut writer, lines) = Writer::open(path)?;
        let mut records = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let record: Record = serde_json::from_str(line)
                .ok()
                .with_context(|| format!("line {} is no revocation", number + 1))?;
            if record.until > now {
                records.push(record);
            }
        }
        let lines: Vec<String> = records.iter().map(line_of).collect();
        writer.rewrite(&lines)?;
        Ok((Log::start(writer)?, records))
    }

    /// Whether a token is worth nothing any more.
    #[must_use]
    pub fn covers(&self, claims: &VerifiedClaims) -> bool {
        let entries = self.entries();
        if entries.is_empty() {
            return false;
        }
        let scopes = LogoutScope::of(&claims.sub, claims.sid.as_deref());
        scopes.into_iter().any(|scope| {
            let key = (claims.iss.clone(), scope);
            let entry = entries.get(&key);
            entry.is_some_and(|entry| key.1.ends(claims.iat, entry.iat))
        })
    }

    /// How many are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a revocation from now on, and returns what is to be written. Its tokens live for
    /// `lifetime_secs` at most.
    pub fn remember(
        &self,
        logout: &VerifiedLogout,
        (lifetime_secs, now): (u64, SystemTime),
    ) -> Result<Pending, RevocationError> {
        let now = seconds(now);
        let until = now.saturating_add(lifetime_secs + CLOCK_LEEWAY_SECS);
        let record = Record::of(&logout.iss, &logout.scopes, (logout.iat, until));
        let mut entries = self.entries();
        let has_room = |entries: &HashMap<Key, Entry>| {
            let new = record.keys().filter(|key| !entries.contains_key(key));
            let new = new.count();
            new == 0 || entries.len() + new <= self.most
        };
        if !has_room(&entries) {
            entries.retain(|_, entry| entry.until > now);
            if !has_room(&entries) {
                return Err(RevocationError::Full);
            }
        }
        remember(&mut entries, &record);
        Ok(Pending(line_of(&record)))
    }

    /// Writes what was remembered; when this returns it is on the disk.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub async fn write(&self, pending: Pending) -> Result<(), RevocationError> {
        self.log.append(pending.0).await?;
        let mut entries = self.entries();
        if self.log.lines() > 2 * entries.len() + SPARE_LINES {
            // Queued before anything else can be remembered: what is appended after these lines is
            // written after them, too.
            self.log.rewrite_later(lines_of(&mut entries));
        }
        Ok(())
    }

    /// Lets go of the file; nothing can be written any more.
    pub async fn close(&self) {
        self.log.close().await;
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn keys(&self) -> impl Iterator<Item = Key> {
        let scopes = [
            self.sid.clone().map(LogoutScope::Session),
            self.sub.clone().map(LogoutScope::Subject),
            self.unnamed.clone().map(LogoutScope::Unnamed),
        ];
        let named = scopes.into_iter().flatten();
        named.map(|scope| (self.iss.clone(), scope))
    }
}

/// The later of two revocations of the same counts.
fn remember(entries: &mut HashMap<Key, Entry>, record: &Record) {
    for key in record.keys() {
        let entry = entries.entry(key).or_insert(Entry {
            iat: record.iat,
            until: record.until,
        });
        entry.iat = entry.iat.max(record.iat);
        entry.until = entry.until.max(record.until);
    }
}

/// What still counts, as the file has it.
fn lines_of(entries: &mut HashMap<Key, Entry>) -> Vec<String> {
    let now = seconds(SystemTime::now());
    entries.retain(|_, entry| entry.until > now);
    let records = entries.iter().map(|((iss, scope), entry)| {
        Record::of(iss, std::slice::from_ref(scope), (entry.iat, entry.until))
    });
    records.map(|record| line_of(&record)).collect()
}

fn line_of(record: &Record) -> String {
    // A struct of texts and numbers is always JSON.
    serde_json::to_string(record).unwrap_or_default()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
