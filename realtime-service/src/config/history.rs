//! What is kept of each room for those who come back.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// What is kept of each room for those who come back, in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistorySettings {
    /// Maximum number of messages that are kept of one room; 0 keeps none.
    /// `REALTIME__HISTORY__MESSAGES`, default 100.
    pub messages: usize,
    /// Time that a message is kept, in seconds. `REALTIME__HISTORY__SECS`, default 300.
    pub secs: u64,
    /// Maximum size of the messages that are kept of one room, in bytes; also the maximum size of
    /// one answer with messages. `REALTIME__HISTORY__BYTES`, default 1048576.
    pub bytes: usize,
    /// Maximum size of the messages that are kept of all rooms, in bytes of memory. Beyond it, the
    /// rooms that keep the most lose their messages, and clients that return to such a room are
    /// told that messages are missing. `REALTIME__HISTORY__TOTAL_BYTES`, default 67108864.
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
