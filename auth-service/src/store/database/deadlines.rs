//! The times that a request waits for the database.

use std::time::Duration;

use crate::store::StoreError;

/// Time for which a connection waits for another process's write.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for which a request waits for a connection, also while a server that has gone away may be on its
/// way back: with the time above, whoever cannot be served is told so within two seconds.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time that a request waits before the database works on it: for a connection, and for the lock
/// of another process.
pub(in crate::store) const WAIT_DEADLINE: Duration = ACQUIRE_TIMEOUT.saturating_add(BUSY_TIMEOUT);

/// Maximum time of a statement, its wait for a connection included: a server that stopped in the
/// middle of one says nothing at all.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(5);

/// The outcome of `work`, unless it takes longer than a statement may.
pub(in crate::store) async fn in_time<T>(
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(STATEMENT_DEADLINE, work)
        .await
        .unwrap_or(Err(StoreError::TooSlow))
}
