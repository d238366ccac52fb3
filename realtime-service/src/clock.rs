//! The wall clock, and time as numbers.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time of the wall clock. Unlike the clock of timers it can be set, and it runs while the
/// machine is suspended.
#[must_use]
pub(crate) fn wall_now() -> SystemTime {
    #[cfg(test)]
    if let Some(time) = for_test::now() {
        return time;
    }
    SystemTime::now()
}

/// Returns whole seconds since the Unix epoch; 0 for an earlier time.
#[must_use]
pub(crate) fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Returns milliseconds since the Unix epoch; 0 for an earlier time.
#[must_use]
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A wall clock that a test sets for its own thread. Tests with a paused clock run on one thread.
#[cfg(test)]
pub(crate) mod for_test {
    use std::{
        cell::Cell,
        time::{Duration, SystemTime},
    };

    use tokio::time::Instant;

    thread_local! {
        /// What the clock showed when it was set, and when that was.
        static SET: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
    }

    /// Sets the wall clock. From then on it runs as fast as the clock of timers.
    pub(crate) fn set(time: SystemTime) {
        SET.set(Some((time, Instant::now())));
    }

    /// Sets the wall clock ahead of what it shows.
    pub(crate) fn jump(by: Duration) {
        set(super::wall_now() + by);
    }

    /// Sets the wall clock behind what it shows.
    pub(crate) fn jump_back(by: Duration) {
        set(super::wall_now() - by);
    }

    pub(super) fn now() -> Option<SystemTime> {
        SET.get().map(|(time, at)| time + at.elapsed())
    }
}
