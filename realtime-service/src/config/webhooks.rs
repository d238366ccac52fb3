//! The file in which events wait that are delivered later.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// The durable queue of events for back ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// SQLite file with the lifecycle events and those of `mode = "notify"` that are not delivered yet,
    /// created when it does not exist, and there is an entry of `[[lifecycle]]` or one of `[[events]]` with
    /// this mode. An acknowledged event survives a restart. With
    /// `cluster.url`, Redis has a copy. `REALTIME__WEBHOOKS__FILE`, default `latchkey-webhooks.db`.
    pub file: PathBuf,
    /// Maximum number of events in the file, dead letters and the events that open connections will end with
    /// included. Further events are answered `backend_busy`, and further lifecycle events are not sent. `REALTIME__WEBHOOKS__ENTRIES`, default 100000.
    pub entries: u64,
    /// Maximum size of these events, in bytes. `REALTIME__WEBHOOKS__BYTES`, default 268435456.
    pub bytes: u64,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            file: PathBuf::from("latchkey-webhooks.db"),
            entries: 100_000,
            bytes: 256 * 1024 * 1024,
        }
    }
}

impl WebhookSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_named = !self.file.as_os_str().is_empty();
        check("webhooks.file", is_named, "must name a file")?;
        let is_count = (1..=10_000_000).contains(&self.entries);
        check("webhooks.entries", is_count, "must be 1 to 10000000")?;
        let is_size = (65_536..=1 << 40).contains(&self.bytes);
        check("webhooks.bytes", is_size, "must be 65536 to 1099511627776")
    }
}
