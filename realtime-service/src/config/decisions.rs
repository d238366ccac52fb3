//! The decisions of back ends that are kept.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// The most entries and bytes that can be set.
const MAXIMUM: usize = 1 << 30;

/// Decisions of back ends about rooms, kept for as long as each of them says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionSettings {
    /// Maximum number of decisions that are kept. Beyond it, those that were least used are forgotten, and
    /// their back ends are asked again. `REALTIME__DECISIONS__ENTRIES`, default 100000.
    pub entries: usize,
    /// Maximum size of the decisions that are kept, in bytes. `REALTIME__DECISIONS__BYTES`, default
    /// 33554432 (32 MiB).
    pub bytes: usize,
}

impl Default for DecisionSettings {
    fn default() -> Self {
        Self {
            entries: 100_000,
            bytes: 32 * 1024 * 1024,
        }
    }
}

impl DecisionSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (setting, value) in [
            ("decisions.entries", self.entries),
            ("decisions.bytes", self.bytes),
        ] {
            let is_fine = (1..=MAXIMUM).contains(&value);
            check(setting, is_fine, "must be 1 to 1073741824")?;
        }
        Ok(())
    }
}
