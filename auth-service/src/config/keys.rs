//! Keys that sign tokens.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shared_claims::claims::MAXIMUM_LIFETIME_SECS;

use super::{
    ConfigError, check,
    parse::{self, TextValue},
};

/// Keys that sign tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeySettings {
    /// `shared`: tokens are signed with the first secret, which the gateway has too. `asymmetric`:
    /// tokens are signed with a key pair whose public key is published; the secrets encrypt the
    /// private key, and the gateway has no secret. `AUTH__KEYS__MODE`, default `shared`.
    #[serde(deserialize_with = "parse::from_text")]
    pub mode: KeyMode,
    /// Time that a key signs before the next key replaces it, in seconds.
    /// `AUTH__KEYS__ROTATION_SECS`, default 2592000, 30 days.
    pub rotation_secs: u64,
    /// Time for which other services may cache the published keys, in seconds, 1 to 86400. A key is
    /// published for twice as long before it signs. `AUTH__KEYS__MAX_AGE_SECS`, default 300.
    pub max_age_secs: u64,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            mode: KeyMode::Shared,
            rotation_secs: 30 * 24 * 60 * 60,
            max_age_secs: 300,
        }
    }
}

/// Holders of keys that sign tokens which the gateway accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyMode {
    /// Both services, by the shared secret.
    Shared,
    /// The auth-service alone.
    Asymmetric,
}

impl FromStr for KeyMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "shared" => Ok(Self::Shared),
            "asymmetric" => Ok(Self::Asymmetric),
            _ => Err(()),
        }
    }
}

impl TextValue for KeyMode {
    const RULE: &str = "must be shared or asymmetric";
}

impl KeySettings {
    /// Time for which a new key is published before it signs: whoever keeps the keys for as long as they
    /// may has it by then, with as much time again for a clock or a retry.
    pub(crate) fn pending_secs(&self) -> i64 {
        i64::try_from(self.max_age_secs.saturating_mul(2)).unwrap_or(i64::MAX)
    }

    /// Time for which a key verifies after it signed for the last time: as long as any token lives, and
    /// as others may keep the published keys.
    pub(crate) fn retiring_secs(&self) -> i64 {
        let secs = MAXIMUM_LIFETIME_SECS.saturating_add(self.max_age_secs);
        i64::try_from(secs).unwrap_or(i64::MAX)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let age = (1..=86_400).contains(&self.max_age_secs);
        check("keys.max_age_secs", age, "must be 1 to 86400")?;
        let rotation = self.rotation_secs > self.max_age_secs.saturating_mul(2)
            && self.rotation_secs <= 10 * 365 * 86_400;
        let rule = "must be more than twice keys.max_age_secs, and ten years at most";
        check("keys.rotation_secs", rotation, rule)
    }
}
