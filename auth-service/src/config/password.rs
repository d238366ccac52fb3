//! Rules for passwords, and the cost of verifying one.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{ConfigError, check, or_one_per_core};
use crate::credentials::hash::{
    Cost, MAXIMUM_LANES, MAXIMUM_MEMORY_KIB, MAXIMUM_PASSES, MINIMUM_WORK,
};

/// Rules for passwords, and the cost of verifying one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordSettings {
    /// Number of threads that hash passwords; 0 is one per core. `AUTH__PASSWORD__THREADS`, default
    /// 0.
    pub threads: usize,
    /// Maximum number of logins that wait for such a thread. Further ones are answered 503.
    /// `AUTH__PASSWORD__QUEUE`, default 16.
    pub queue: usize,
    /// Maximum time that a login waits for a thread, in milliseconds. Then it is answered 503.
    /// `AUTH__PASSWORD__QUEUE_DEADLINE_MS`, default 1000.
    pub queue_deadline_ms: u64,
    /// Memory cost of a new hash, in KiB, 8192 to 131072. A hash of another cost is renewed at the
    /// next login. `AUTH__PASSWORD__MEMORY_KIB`, default 19456.
    pub memory_kib: u32,
    /// Number of passes of a new hash over its memory, 1 to 16; the memory in KiB times the passes is at
    /// least 12288, the floor of an import. `AUTH__PASSWORD__PASSES`, default 2.
    pub passes: u32,
    /// Number of lanes of a new hash, 1 to 8. `AUTH__PASSWORD__LANES`, default 1.
    pub lanes: u32,
    /// Minimum strength of a new password, as zxcvbn scores it: 0 (any) to 4.
    /// `AUTH__PASSWORD__MINIMUM_SCORE`, default 3.
    pub minimum_score: u8,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            queue: 16,
            queue_deadline_ms: 1000,
            memory_kib: Cost::DEFAULT_M_COST,
            passes: Cost::DEFAULT_T_COST,
            lanes: Cost::DEFAULT_P_COST,
            minimum_score: 3,
        }
    }
}

impl PasswordSettings {
    pub(crate) fn thread_count(&self) -> usize {
        or_one_per_core(self.threads)
    }

    /// Cost of a new hash.
    pub(crate) fn cost(&self) -> anyhow::Result<Cost> {
        Cost::new(self.memory_kib, self.passes, self.lanes, None)
            .ok()
            .context("these are no parameters of Argon2")
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let threads = self.threads <= 256;
        check("password.threads", threads, "must be at most 256")?;
        let queue = (1..=10_000).contains(&self.queue);
        check("password.queue", queue, "must be 1 to 10000")?;
        let deadline = (1..=60_000).contains(&self.queue_deadline_ms);
        check("password.queue_deadline_ms", deadline, "must be 1 to 60000")?;
        let memory = (8 * 1024..=MAXIMUM_MEMORY_KIB).contains(&self.memory_kib);
        check("password.memory_kib", memory, "must be 8192 to 131072")?;
        let passes = (1..=MAXIMUM_PASSES).contains(&self.passes);
        check("password.passes", passes, "must be 1 to 16")?;
        let work = u64::from(self.memory_kib) * u64::from(self.passes);
        let rule = "must be more for this memory: memory_kib times passes is at least 12288";
        check("password.passes", work >= MINIMUM_WORK, rule)?;
        let lanes = (1..=MAXIMUM_LANES).contains(&self.lanes);
        check("password.lanes", lanes, "must be 1 to 8")?;
        check(
            "password.minimum_score",
            self.minimum_score <= 4,
            "must be 0 to 4",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{
        Password,
        hash::{SALT_BYTES, hash_password},
        schemes,
    };

    #[test]
    fn a_hash_of_the_cheapest_settings_is_imported_and_cheaper_settings_are_refused() {
        for (memory_kib, passes, is_fine) in [
            (8192, 1, false),
            (8192, 2, true),
            (12_287, 1, false),
            (12_288, 1, true),
        ] {
            let settings = PasswordSettings {
                memory_kib,
                passes,
                ..PasswordSettings::default()
            };
            assert_eq!(settings.check().is_ok(), is_fine, "{memory_kib} {passes}");
            let password = Password::parse("open sesame".to_owned()).expect("a password");
            let cost = settings.cost().expect("a cost");
            let hash = hash_password(&password, [7; SALT_BYTES], &cost).expect("a hash");
            let imported = schemes::import(hash.as_str(), &Cost::DEFAULT);
            assert_eq!(imported.is_ok(), is_fine, "{memory_kib} {passes}");
        }
    }
}
