//! The time, as the database and tokens have it.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

/// Returns a time in seconds since the epoch.
///
/// # Errors
///
/// When the clock stands before 1970.
pub(crate) fn seconds_since_epoch(now: SystemTime) -> anyhow::Result<i64> {
    let since = now
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    Ok(i64::try_from(since.as_secs())?)
}
