//! The Engine.IO heartbeat.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// The longest time that can be set, in seconds.
const LONGEST_SECS: u64 = 3600;

/// The shortest time that can be set in milliseconds. The engine looks at a session about as often.
const SHORTEST_MS: u64 = 100;

/// The Engine.IO heartbeat: times in seconds, each of which a time in milliseconds can replace.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Time between two pings, in seconds. `REALTIME__HEARTBEAT__INTERVAL_SECS`, default 25.
    pub interval_secs: u64,
    /// Time in which a client must answer a ping, in seconds. `REALTIME__HEARTBEAT__TIMEOUT_SECS`,
    /// default 20.
    pub timeout_secs: u64,
    /// Time between two pings, in milliseconds, 100 to 3600000. Replaces `heartbeat.interval_secs`;
    /// 0 does not. `REALTIME__HEARTBEAT__INTERVAL_MS`, default 0.
    pub interval_ms: u64,
    /// Time in which a client must answer a ping, in milliseconds, 100 to 3600000. Replaces
    /// `heartbeat.timeout_secs`; 0 does not. `REALTIME__HEARTBEAT__TIMEOUT_MS`, default 0.
    pub timeout_ms: u64,
}

impl Default for Heartbeat {
    /// The times of Socket.IO's server.
    fn default() -> Self {
        Self {
            interval_secs: 25,
            timeout_secs: 20,
            interval_ms: 0,
            timeout_ms: 0,
        }
    }
}

impl Heartbeat {
    /// Returns the time between two pings.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        effective(self.interval_ms, self.interval_secs)
    }

    /// Returns the time in which a client must answer a ping.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        effective(self.timeout_ms, self.timeout_secs)
    }

    /// Maximum time between two heartbeats of a live client: ping interval plus ping timeout.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        self.interval().saturating_add(self.timeout())
    }

    /// Checks each time.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (setting, secs) in [
            ("heartbeat.interval_secs", self.interval_secs),
            ("heartbeat.timeout_secs", self.timeout_secs),
        ] {
            let is_fine = (1..=LONGEST_SECS).contains(&secs);
            check(setting, is_fine, "must be 1 to 3600")?;
        }
        for (setting, ms) in [
            ("heartbeat.interval_ms", self.interval_ms),
            ("heartbeat.timeout_ms", self.timeout_ms),
        ] {
            let is_fine = ms == 0 || (SHORTEST_MS..=LONGEST_SECS * 1000).contains(&ms);
            check(setting, is_fine, "must be 100 to 3600000, or 0")?;
        }
        Ok(())
    }
}

/// The time in milliseconds, or the one in seconds if that is 0.
const fn effective(ms: u64, secs: u64) -> Duration {
    match ms {
        0 => Duration::from_secs(secs),
        ms => Duration::from_millis(ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_replace_seconds_each_for_itself() {
        let heartbeat = Heartbeat::default();
        let secs = Duration::from_secs;
        assert_eq!(
            (heartbeat.interval(), heartbeat.timeout()),
            (secs(25), secs(20))
        );
        let heartbeat = Heartbeat {
            interval_ms: 300,
            ..heartbeat
        };
        assert_eq!(heartbeat.interval(), Duration::from_millis(300));
        assert_eq!(heartbeat.timeout(), secs(20));
        assert_eq!(heartbeat.idle_timeout(), Duration::from_millis(20_300));
    }

    #[test]
    fn a_time_out_of_range_is_refused_by_name() {
        let with = |interval_ms, timeout_ms| Heartbeat {
            interval_ms,
            timeout_ms,
            ..Heartbeat::default()
        };
        assert!(with(100, 3_600_000).check().is_ok());
        for (bad, setting) in [
            (with(99, 100), "heartbeat.interval_ms"),
            (with(100, 3_600_001), "heartbeat.timeout_ms"),
        ] {
            let error = bad.check().expect_err("out of range").to_string();
            assert!(error.starts_with(setting), "{error}");
        }
    }
}
