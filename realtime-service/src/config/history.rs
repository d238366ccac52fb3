//! What is kept of each room for those who come back.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// Maximum `history.bytes` with a cluster: Redis closes a connection with subscriptions when more waits
/// in its output buffer for a minute.
const MAXIMUM_SHARED_BYTES: usize = 8 << 20;

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
    /// one answer with messages. With `cluster.url` at most 8388608.
    /// `REALTIME__HISTORY__BYTES`, default 1048576.
    pub bytes: usize,
    /// Maximum size of the messages and ids that are kept of all rooms, in bytes of memory. Beyond it, the
    /// rooms that keep the most lose their messages, and clients that return to such a room are
    /// told that messages are missing. Messages in Redis do not count: see [cluster](cluster.md).
    /// `REALTIME__HISTORY__TOTAL_BYTES`, default 67108864.
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
    pub(super) fn check(&self, is_shared: bool) -> Result<(), ConfigError> {
        let is_fine = self.messages <= 10_000;
        check("history.messages", is_fine, "must be at most 10000")?;
        let is_fine = (1..=86_400).contains(&self.secs);
        check("history.secs", is_fine, "must be 1 to 86400")?;
        let is_fine = (1024..=1 << 30).contains(&self.bytes);
        check("history.bytes", is_fine, "must be 1024 to 1073741824")?;
        let is_fine = !is_shared || self.bytes <= MAXIMUM_SHARED_BYTES;
        let problem = "must be at most 8388608 with cluster.url";
        check("history.bytes", is_fine, problem)?;
        let is_fine = self.total_bytes >= self.bytes;
        let problem = "must not be less than history.bytes";
        check("history.total_bytes", is_fine, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_cluster_the_log_of_a_room_fits_into_the_output_buffer_of_redis() {
        let settings = |bytes| HistorySettings {
            bytes,
            ..HistorySettings::default()
        };
        for (bytes, is_shared, is_fine) in [
            (8_388_608, true, true),
            (8_388_609, true, false),
            (8_388_609, false, true),
        ] {
            assert_eq!(settings(bytes).check(is_shared).is_ok(), is_fine, "{bytes}");
        }
    }
}
