//! Time as numbers.

use std::time::{SystemTime, UNIX_EPOCH};

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
