//! The events in the file as metrics, operators and commands see them: counted, listed, replayed and dropped.

use rusqlite::{OptionalExtension as _, Result, Row, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Store, signed, unsigned};

/// Maximum number of dead letters that one transaction replays or drops. Events are stored between two of them.
pub const SLICE: usize = 1000;

/// Indexes with all that [`Store::levels`] and [`Store::list`] return. A row has its body before most columns, so
/// that reading one of those walks over the pages of the body. Files of the same version may have others.
pub(super) const INDEXES: &str = "
    DROP INDEX IF EXISTS dead_letters;
    DROP INDEX IF EXISTS waiting;
    CREATE INDEX IF NOT EXISTS ages ON events (backend, dead_at, seq, created_at);
    CREATE INDEX IF NOT EXISTS listed_dead ON events
        (seq, id, backend, bytes, created_at, next_at, attempts, dead_at, problem) WHERE dead_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS listed_waiting ON events
        (seq, id, backend, bytes, created_at, next_at, attempts, dead_at, problem) WHERE dead_at IS NULL;
";

const QUEUED: &str = "SELECT COUNT(*) FROM events WHERE backend = ?1 AND dead_at IS NULL";
const DEAD: &str = "SELECT COUNT(*) FROM events WHERE backend = ?1 AND dead_at IS NOT NULL";
const OLDEST: &str = "SELECT created_at FROM events WHERE backend = ?1 AND dead_at IS NULL
    ORDER BY seq LIMIT 1";
const LIST_WAITING: &str =
    "SELECT id, backend, bytes, created_at, next_at, attempts, dead_at, problem, seq FROM events
    WHERE dead_at IS NULL AND seq > ?2 ORDER BY seq LIMIT ?1";
const LIST_DEAD: &str =
    "SELECT id, backend, bytes, created_at, next_at, attempts, dead_at, problem, seq FROM events
    WHERE dead_at IS NOT NULL AND seq > ?2 ORDER BY seq LIMIT ?1";

/// An event in the file, without its content. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoredEvent {
    /// The id.
    pub id: String,
    /// The name of the back end.
    pub backend: String,
    /// The size of the body, in bytes.
    pub bytes: u64,
    /// When it was stored.
    pub created_at: u64,
    /// When it is tried next.
    pub next_at: u64,
    /// Number of times that it was sent.
    pub attempts: u32,
    /// When it was given up; `None` while it is to be delivered.
    pub dead_at: Option<u64>,
    /// Reason why it was not delivered the last time.
    pub problem: Option<String>,
    /// Its number in the queue: a later event has a larger one.
    pub seq: i64,
}

/// The number of events and their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) queued: u64,
    pub(crate) dead: u64,
    /// When the oldest event was stored that is to be delivered.
    pub(crate) oldest_at: Option<u64>,
}

impl Store {
    /// Returns what waits for a back end.
    pub(in super::super) fn levels(&self, backend: &str) -> Result<Levels> {
        let count = |sql: &str| {
            let mut statement = self.0.prepare_cached(sql)?;
            statement.query_row([backend], |row| unsigned(row, 0))
        };
        let mut oldest = self.0.prepare_cached(OLDEST)?;
        Ok(Levels {
            queued: count(QUEUED)?,
            dead: count(DEAD)?,
            oldest_at: oldest
                .query_row([backend], |row| unsigned(row, 0))
                .optional()?,
        })
    }

    /// Lists events in their order: dead letters, or those that are to be delivered; those alone whose
    /// number is larger than `after`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn list(&self, is_dead: bool, limit: u32, after: i64) -> Result<Vec<StoredEvent>> {
        let sql = match is_dead {
            true => LIST_DEAD,
            false => LIST_WAITING,
        };
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map(params![limit, after], stored)?;
        rows.collect()
    }

    /// Returns an event and its body.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn find(&self, id: &str) -> Result<Option<(StoredEvent, Vec<u8>)>> {
        let sql =
            "SELECT id, backend, bytes, created_at, next_at, attempts, dead_at, problem, seq, body
            FROM events WHERE id = ?1";
        let mut statement = self.0.prepare(sql)?;
        statement
            .query_row([id], |row| Ok((stored(row)?, row.get(9)?)))
            .optional()
    }

    /// Has dead letters delivered after all: the one with this id, or the first [`SLICE`] of them. Returns how
    /// many. Runs in a transaction.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn replay(&self, id: Option<&str>, now: u64) -> Result<usize> {
        let seqs = self.dead_letters(id)?;
        let sql = "UPDATE events SET dead_at = NULL, attempts = 0, created_at = ?2, next_at = ?2
            WHERE seq = ?1 RETURNING backend, subject";
        let replay = |seq: &i64| self.advance(sql, params![seq, signed(now)]);
        seqs.iter().try_for_each(|seq| replay(seq).map(drop))?;
        Ok(seqs.len())
    }

    /// Removes the event with this id, or the first [`SLICE`] dead letters. Returns how many. Runs in a
    /// transaction.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn drop_events(&self, id: Option<&str>) -> Result<usize> {
        let seqs = match id {
            Some(id) => {
                let seq = "SELECT seq FROM events WHERE id = ?1";
                let seq = self.0.query_row(seq, [id], |row| row.get(0)).optional()?;
                seq.into_iter().collect()
            }
            None => self.dead_letters(None)?,
        };
        seqs.iter().try_for_each(|seq| self.remove(*seq))?;
        Ok(seqs.len())
    }

    /// Returns the number of the dead letter with this id, or of the first [`SLICE`] dead letters.
    fn dead_letters(&self, id: Option<&str>) -> Result<Vec<i64>> {
        let Some(id) = id else {
            let sql = "SELECT seq FROM events WHERE dead_at IS NOT NULL ORDER BY seq LIMIT ?1";
            let mut statement = self.0.prepare_cached(sql)?;
            let rows = statement.query_map([signed(SLICE as u64)], |row| row.get(0))?;
            return rows.collect();
        };
        let sql = "SELECT seq FROM events WHERE id = ?1 AND dead_at IS NOT NULL";
        let seq = self.0.query_row(sql, [id], |row| row.get(0)).optional()?;
        Ok(seq.into_iter().collect())
    }
}

fn stored(row: &Row<'_>) -> Result<StoredEvent> {
    let dead_at: Option<i64> = row.get(6)?;
    Ok(StoredEvent {
        id: row.get(0)?,
        backend: row.get(1)?,
        bytes: unsigned(row, 2)?,
        created_at: unsigned(row, 3)?,
        next_at: unsigned(row, 4)?,
        attempts: row.get(5)?,
        dead_at: dead_at.and_then(|at| u64::try_from(at).ok()),
        problem: row.get(7)?,
        seq: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::assert_search, *};

    #[test]
    fn counts_and_lists_read_indexes_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&directory.path().join("queue.db"), true).expect("a file");
        for (sql, index) in [
            (QUEUED, "COVERING INDEX ages"),
            (DEAD, "COVERING INDEX"),
            (OLDEST, "COVERING INDEX ages"),
            (LIST_DEAD, "COVERING INDEX listed_dead"),
            (LIST_WAITING, "COVERING INDEX listed_waiting"),
        ] {
            assert_search(&store, sql, index);
        }
    }
}
