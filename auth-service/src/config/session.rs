//! Lifetimes of sessions.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// The longest that any of these may be, in seconds: 400 days, which browsers grant a cookie too
/// (RFC 6265bis, section 5.5).
const MAXIMUM_SECS: u64 = 400 * 24 * 60 * 60;

/// Lifetimes of sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// Idle timeout of a session, in seconds, up to 400 days. A session that is not refreshed for
    /// this long must sign in again. `AUTH__SESSION__IDLE_SECS`, default 1209600, 14 days.
    pub idle_secs: u64,
    /// Maximum lifetime of a session after its login, in seconds, up to 400 days, however often it
    /// is refreshed. `AUTH__SESSION__ABSOLUTE_SECS`, default 7776000, 90 days.
    pub absolute_secs: u64,
    /// Time for which a session that has ended is remembered, in seconds, up to 400 days: until then a
    /// stolen refresh token of it is recognized. `AUTH__SESSION__RETENTION_SECS`, default 2592000,
    /// 30 days.
    pub retention_secs: u64,
    /// Time for which a refresh token that was used gets the same successor again, in seconds, up to 300:
    /// the answer may have been lost. Later, as long as the successor was not used, a replacement
    /// takes the successor's place. `AUTH__SESSION__RETRY_SECS`, default 10.
    pub retry_secs: u64,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            idle_secs: 14 * 24 * 60 * 60,
            absolute_secs: 90 * 24 * 60 * 60,
            retention_secs: 30 * 24 * 60 * 60,
            retry_secs: 10,
        }
    }
}

impl SessionSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fine = 1..=MAXIMUM_SECS;
        for (key, secs) in [
            ("session.idle_secs", self.idle_secs),
            ("session.absolute_secs", self.absolute_secs),
            ("session.retention_secs", self.retention_secs),
        ] {
            check(key, fine.contains(&secs), "must be 1 to 34560000")?;
        }
        let retry = self.retry_secs <= 300;
        check("session.retry_secs", retry, "must be at most 300")
    }
}
