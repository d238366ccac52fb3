//! Settings of a gateway that hands its clients over to other gateways.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// Settings of a gateway that hands its clients over to other gateways.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainSettings {
    /// Time over which a gateway that shuts down spreads `rt:drain`, in seconds, up to an hour. Each
    /// client is closed soon after its own `rt:drain`, and the others are served meanwhile. 0 sends it to
    /// all clients at once: a gateway alone has no other gateway to send them to.
    /// `REALTIME__DRAIN__WINDOW_SECS`, default 0.
    pub window_secs: u64,
}

impl DrainSettings {
    /// Maximum of a window, in seconds.
    pub const MAXIMUM_WINDOW_SECS: u64 = 3600;

    /// See [`DrainSettings::window_secs`].
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_secs(self.window_secs)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_fine = self.window_secs <= Self::MAXIMUM_WINDOW_SECS;
        check("drain.window_secs", is_fine, "must be at most 3600")
    }
}
