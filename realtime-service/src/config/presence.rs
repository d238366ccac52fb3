//! Who is told of whom in a room.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// Who is told of whom in a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceSettings {
    /// Delay between the end of the last connection of a user and `rt:leave`, in seconds. A user
    /// who reconnects within the delay causes no `rt:leave` and no `rt:join`.
    /// `REALTIME__PRESENCE__LEAVE_DELAY_SECS`, default 5.
    pub leave_delay_secs: u64,
    /// Maximum number of users that one answer or announcement names. An answer for more
    /// users has `truncated: true` and their number. `REALTIME__PRESENCE__USERS`, default 1000.
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
    /// Delay between the end of the last connection of a user and `rt:leave`.
    #[must_use]
    pub fn leave_delay(&self) -> Duration {
        Duration::from_secs(self.leave_delay_secs)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_fine = self.leave_delay_secs <= 300;
        check("presence.leave_delay_secs", is_fine, "must be at most 300")?;
        let is_fine = self.users <= 10_000;
        check("presence.users", is_fine, "must be at most 10000")
    }
}
