//! Whether the database can be written now. That it can be read does not say so: a disk that is
//! full, or a standby, answers every question.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{FailureKind, Store, StoreError, database::on_pool};

/// Time for which a write that succeeded speaks for the next one. Without visitors who write, this is
/// how often a row is written only to see whether it can be.
const WRITE_IS_FRESH: Duration = Duration::from_secs(30);

/// Interval of writes while they fail, however often somebody asks.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Outcome of the last write.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWrite(Arc<Mutex<Outcome>>);

#[derive(Clone, Copy, Debug, Default)]
enum Outcome {
    /// Nothing was written yet, or it is not known whether it could be.
    #[default]
    Unknown,
    Succeeded(Instant),
    Failed(Instant, FailureKind),
}

/// Knowledge about whether the database can be written.
enum Known {
    Fine,
    Broken(FailureKind),
    TryIt,
}

impl LastWrite {
    fn succeeded(&self) {
        *self.lock() = Outcome::Succeeded(Instant::now());
    }

    fn is_in_doubt(&self) {
        let mut outcome = self.lock();
        if matches!(*outcome, Outcome::Succeeded(_)) {
            *outcome = Outcome::Unknown;
        }
    }

    fn failed(&self, trouble: FailureKind) {
        *self.lock() = Outcome::Failed(Instant::now(), trouble);
    }

    fn known(&self) -> Known {
        match *self.lock() {
            Outcome::Succeeded(at) if at.elapsed() < WRITE_IS_FRESH => Known::Fine,
            Outcome::Failed(at, trouble) if at.elapsed() < RETRY_INTERVAL => Known::Broken(trouble),
            _ => Known::TryIt,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reason that the database is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database cannot be read.
    #[error("the database cannot be read")]
    Reading(#[source] StoreError),
    /// The database cannot be written.
    #[error("the database cannot be written")]
    Writing(#[source] StoreError),
    /// The file is not where it was.
    #[error("the database file was moved, replaced or removed")]
    Lost,
    /// The database could not be written a moment ago.
    #[error("the database could not be written a moment ago")]
    StillNotWriting(FailureKind),
}

impl NotReady {
    /// Returns the kind of the failure.
    #[must_use]
    pub fn trouble(&self) -> FailureKind {
        match self {
            Self::Reading(error) | Self::Writing(error) => error.trouble(),
            Self::Lost => FailureKind::Damaged,
            Self::StillNotWriting(trouble) => *trouble,
        }
    }

    /// The whole story in one line for the log.
    #[must_use]
    pub fn story(&self) -> String {
        match self {
            Self::Reading(error) | Self::Writing(error) => format!("{self}: {}", error.story()),
            Self::Lost | Self::StillNotWriting(_) => self.to_string(),
        }
    }
}

impl Store {
    /// Asks whether the database can be read and written. `now` is in seconds since the epoch.
    ///
    /// Nothing is written when a write has succeeded lately.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub async fn check_ready(&self, now: i64) -> Result<(), NotReady> {
        if self.file.as_ref().is_some_and(|file| !file.is_in_place()) {
            return Err(NotReady::Lost);
        }
        self.try_reading().await.map_err(NotReady::Reading)?;
        match self.last_write.known() {
            Known::Fine => return Ok(()),
            Known::Broken(trouble) => return Err(NotReady::StillNotWriting(trouble)),
            Known::TryIt => {}
        }
        match self.try_writing(now).await {
            Ok(()) => {
                self.last_write.succeeded();
                Ok(())
            }
            Err(error) => {
                self.last_write.failed(error.trouble());
                Err(NotReady::Writing(error))
            }
        }
    }

    /// A request failed on the database: an earlier write that succeeded says nothing any more.
    pub fn doubt_writes(&self) {
        self.last_write.is_in_doubt();
    }

    /// So that a test need not wait until it is tried again.
    #[cfg(test)]
    pub(super) fn forget_last_write(&self) {
        *self.last_write.lock() = Outcome::Unknown;
    }

    async fn try_reading(&self) -> Result<(), StoreError> {
        on_pool!(&self.readers, |pool| {
            sqlx::query("select 1 from users limit 1")
                .execute(pool)
                .await?;
        });
        Ok(())
    }

    /// The number is another one each time: SQLite does not write a row that stays the same.
    async fn try_writing(&self, now: i64) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| {
            sqlx::query(
                "insert into write_probes (id, number, tried_at) values (1, 1, $1) \
                 on conflict (id) do update \
                 set number = write_probes.number + 1, tried_at = $1",
            )
            .bind(now)
            .execute(pool)
            .await?;
        });
        Ok(())
    }
}
