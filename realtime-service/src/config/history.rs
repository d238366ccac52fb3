//! What is kept of each room for those who come back.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// What is kept of each room for those who come back, in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistorySettings {
    /// Messages of one room; 0 keeps none. `REALTIME__HISTORY__MESSAGES`, default 100.
    pub messages: usize,
    /// Seconds that a message is kept. `REALTIME__HISTORY__SECS`, default 300.
    pub secs: u64,
    /// Bytes of one room, of which the last messages are kept; it is also the most that one answer
    /// carries. `REALTIME__HISTORY__BYTES`, default 1048576.
    pub bytes: usize,
    /// Bytes of all rooms. When there are more, the rooms with the most forget theirs: who comes
    /// back to one of them is told that messages are missing. `REALTIME__HISTORY__TOTAL_BYTES`,
    /// default 67108864.
    pub total_bytes: usize,
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self {
            messages: 100,
            secs: 300,
            bytes: 1024 * 1024,
            total_bytes: 64 * 1024 * 1024,
        }
    }
}

impl HistorySettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_fine = self.messages <= 10_000;
        check("history.messages", is_fine, "must be at most 10000")?;
        let is_fine = (1..=86_400).contains(&self.secs);
        check("history.secs", is_fine, "must be 1 to 86400")?;
        let is_fine = (1024..=1 << 30).contains(&self.bytes);
        check("history.bytes", is_fine, "must be 1024 to 1073741824")?;
        let is_fine = self.total_bytes >= self.bytes;
        let problem = "must not be less than history.bytes";
        check("history.total_bytes", is_fine, problem)
    }
}
