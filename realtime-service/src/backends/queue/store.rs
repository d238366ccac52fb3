//! The file of the queue. The only place with its SQL.
//!
//! Of each subject, the oldest event is its head, and heads alone are delivered: so events of one
//! subject keep their order. A dead letter is no head, and the event after it is.

mod books;
mod copy;
mod due;
mod inspection;
mod row;

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use self::books::Completion;
pub use self::inspection::{SLICE, StoredEvent};
pub(crate) use self::{
    books::{NewBook, Opening},
    copy::{Edition, Page},
    due::{BatchLimits, Due, LONGEST_HOLD},
    inspection::Levels,
    row::Place,
};

/// Time for which a command waits while the gateway writes, and the gateway while a command does.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The version of the tables, in `user_version`.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        backend TEXT NOT NULL,
        subject TEXT NOT NULL,
        body BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        is_head INTEGER NOT NULL,
        dead_at INTEGER,
        problem TEXT
    ) STRICT;
    CREATE TABLE totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
    INSERT INTO totals VALUES (0, 0);
    CREATE TRIGGER entered AFTER INSERT ON events BEGIN
        UPDATE totals SET entries = entries + 1, bytes = bytes + new.bytes;
    END;
    CREATE TRIGGER removed AFTER DELETE ON events BEGIN
        UPDATE totals SET entries = entries - 1, bytes = bytes - old.bytes;
    END;
    CREATE INDEX dead ON events (backend, seq) WHERE dead_at IS NOT NULL;
";

/// The sizes of a subject's events, so that their sum reads no bodies. Files of the same version may lack
/// the index.
const SHARES: &str =
    "CREATE INDEX IF NOT EXISTS shares_of_subject ON events (backend, subject, bytes)";

/// An event that is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The id, which is the `webhook-id` of each attempt.
    pub id: String,
    /// The name of the back end.
    pub backend: String,
    /// Whose event it is: events of one subject are delivered in their order.
    pub subject: String,
    /// The body of the request.
    pub body: Vec<u8>,
}

/// The open file.
pub struct Store(Connection);

impl Store {
    /// Opens the file, for its owner alone.
    ///
    /// # Errors
    ///
    /// When it cannot be used, does not exist and is not to be created, or is of another version.
    pub fn open(path: &Path, is_created: bool) -> anyhow::Result<Self> {
        Self::open_within(path, is_created, BUSY_TIMEOUT)
    }

    /// Does the same. Writers wait for `busy_timeout` while another process writes.
    pub(super) fn open_within(
        path: &Path,
        is_created: bool,
        busy_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options.create(is_created).open(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(busy_timeout)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                let version = format!("PRAGMA user_version = {VERSION};");
                connection.execute_batch(&format!("BEGIN; {TABLES} {version} COMMIT;"))?;
            }
            VERSION => {}
            other => anyhow::bail!("the file has tables of version {other}"),
        }
        connection.execute_batch(SHARES)?;
        connection.execute_batch(due::INDEXES)?;
        connection.execute_batch(inspection::INDEXES)?;
        connection.execute_batch(books::TABLES)?;
        Ok(Self(connection))
    }

    /// Runs `work` in one transaction, which is durable when this returns.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. Then nothing of it is in the file. `work` is dropped without a call when
    /// another process writes for longer than the gateway waits.
    pub fn commit<T>(&mut self, work: impl FnOnce(&Self) -> T) -> Result<T> {
        self.0.execute_batch("BEGIN IMMEDIATE")?;
        let done = work(self);
        match self.0.execute_batch("COMMIT") {
            Ok(()) => Ok(done),
            Err(error) => {
                let _ = self.0.execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Stores an event at the end of its subject's. Nothing happens when an event with this id is there.
    pub(super) fn append(&self, event: &NewEvent, now: u64) -> Result<()> {
        let sql =
            "INSERT INTO events (id, backend, subject, body, bytes, created_at, next_at, is_head)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, NOT EXISTS (
                SELECT 1 FROM events WHERE backend = ?2 AND subject = ?3 AND dead_at IS NULL))
            ON CONFLICT (id) DO NOTHING";
        let NewEvent {
            id,
            backend,
            subject,
            body,
        } = event;
        let bytes = signed(body.len() as u64);
        let mut statement = self.0.prepare_cached(sql)?;
        statement.execute(params![id, backend, subject, body, bytes, signed(now)])?;
        Ok(())
    }

    /// Removes a delivered event; the next one of its subject is the head.
    pub(super) fn remove(&self, seq: i64) -> Result<()> {
        let sql = "DELETE FROM events WHERE seq = ?1 RETURNING backend, subject";
        self.advance(sql, params![seq]).map(drop)
    }

    /// Notes that an event was not delivered, and when it is tried next.
    pub(super) fn retry(
        &self,
        seq: i64,
        (attempts, next_at): (u32, u64),
        problem: &str,
    ) -> Result<()> {
        let sql = "UPDATE events SET attempts = ?2, next_at = ?3, problem = ?4 WHERE seq = ?1";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.execute(params![seq, attempts, signed(next_at), problem])?;
        Ok(())
    }

    /// Gives an event up that was sent so often; the next one of its subject is the head.
    pub(super) fn bury(&self, seq: i64, (attempts, now): (u32, u64), problem: &str) -> Result<()> {
        let sql = "UPDATE events SET dead_at = ?3, is_head = 0, problem = ?4, attempts = ?2
            WHERE seq = ?1 RETURNING backend, subject";
        self.advance(sql, params![seq, attempts, signed(now), problem])
            .map(drop)
    }

    /// Runs a statement that changes one event, and makes the first event of its subject the head that can be: both
    /// or neither. Returns whether there was such an event.
    fn advance(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<bool> {
        self.whole(|| {
            let mut statement = self.0.prepare_cached(sql)?;
            let subject: Option<(String, String)> = statement
                .query_row(parameters, |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let is_found = subject.is_some();
            if let Some((backend, subject)) = subject {
                self.choose_head(&backend, &subject)?;
            }
            Ok(is_found)
        })
    }

    /// Chooses the head of each subject that has events to be delivered and no head. Returns how many.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(super) fn choose_missing_heads(&self) -> Result<usize> {
        let sql = "UPDATE events SET is_head = 1 WHERE seq IN (SELECT MIN(seq) FROM events
            WHERE dead_at IS NULL GROUP BY backend, subject HAVING MAX(is_head) = 0)";
        self.0.execute(sql, [])
    }

    fn choose_head(&self, backend: &str, subject: &str) -> Result<()> {
        let sql =
            "UPDATE events SET is_head = 1 WHERE is_head = 0 AND seq = (SELECT MIN(seq) FROM events
            WHERE backend = ?1 AND subject = ?2 AND dead_at IS NULL)";
        self.0.prepare_cached(sql)?.execute([backend, subject])?;
        Ok(())
    }

    /// Returns the number of all events and their size in bytes, dead letters and books included.
    pub(super) fn totals(&self) -> Result<(u64, u64)> {
        let mut statement = self.0.prepare_cached("SELECT entries, bytes FROM totals")?;
        statement.query_row([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
    }

    /// Returns the number of events of a subject for a back end and their size in bytes, dead letters and
    /// books included.
    pub(super) fn totals_of(&self, backend: &str, subject: &str) -> Result<(u64, u64)> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM (
            SELECT bytes FROM events WHERE backend = ?1 AND subject = ?2
            UNION ALL SELECT bytes FROM books WHERE backend = ?1 AND subject = ?2)";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.query_row([backend, subject], |row| {
            Ok((unsigned(row, 0)?, unsigned(row, 1)?))
        })
    }
}

/// Returns a number as SQLite has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    let number: i64 = row.get(column)?;
    Ok(u64::try_from(number).unwrap_or_default())
}

#[cfg(test)]
mod tests;
