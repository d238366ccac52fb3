//! Rules for passwords, and the cost of verifying one.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{ConfigError, check, or_one_per_core};
use crate::credentials::hash::{Cost, MAXIMUM_LANES, MAXIMUM_MEMORY_KIB, MAXIMUM_PASSES};

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
    /// Number of passes of a new hash over its memory, 1 to 16. `AUTH__PASSWORD__PASSES`, default
    /// 2.
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
        let lanes = (1..=MAXIMUM_LANES).contains(&self.lanes);
        check("password.lanes", lanes, "must be 1 to 8")?;
        check(
            "password.minimum_score",
            self.minimum_score <= 4,
            "must be 0 to 4",
        )
    }
}
