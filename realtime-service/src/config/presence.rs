//! Who is told of whom in a room.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// Who is told of whom in a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceSettings {
    /// Seconds that somebody may be away before the others are told, so that a reconnection makes
    /// no noise. `REALTIME__PRESENCE__LEAVE_DELAY_SECS`, default 5.
    pub leave_delay_secs: u64,
    /// Users that one answer names; of a room with more it names as many, and says how many there
    /// are. `REALTIME__PRESENCE__USERS`, default 1000.
    pub users: usize,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            leave_delay_secs: 5,
            users: 1000,
        }
    }
}

impl PresenceSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_fine = self.leave_delay_secs <= 300;
        check("presence.leave_delay_secs", is_fine, "must be at most 300")?;
        let is_fine = self.users <= 10_000;
        check("presence.users", is_fine, "must be at most 10000")
    }
}
