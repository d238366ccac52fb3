//! The file of the queue. The only place with its SQL.
//!
//! Of each subject, the oldest event is its head, and heads alone are delivered: so events of one
//! subject keep their order. A dead letter is no head, and the event after it is.

mod books;
mod due;

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::{
    books::{NewBook, Opening},
    due::Due,
};

/// Time for which a command waits while the gateway writes, and the gateway while a command does.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

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
    CREATE INDEX events_of_subject ON events (backend, subject, seq) WHERE dead_at IS NULL;
    CREATE INDEX heads ON events (backend, next_at) WHERE is_head = 1;
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
    /// How often it was sent.
    pub attempts: u32,
    /// When it was given up; `None` while it is to be delivered.
    pub dead_at: Option<u64>,
    /// Why it was not delivered the last time.
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

/// The open file.
pub struct Store(Connection);

impl Store {
    /// Opens the file, for its owner alone.
    ///
    /// # Errors
    ///
    /// When it cannot be used, does not exist and is not to be created, or is of another version.
    pub fn open(path: &Path, is_created: bool) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options.create(is_created).open(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
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
        connection.execute_batch(books::TABLES)?;
        Ok(Self(connection))
    }

    /// Runs `work` in one transaction, which is durable when this returns.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. Then nothing of it is in the file.
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
        self.advance(sql, params![seq])
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

    /// Gives an event up; the next one of its subject is the head.
    pub(super) fn bury(&self, seq: i64, now: u64, problem: &str) -> Result<()> {
        let sql =
            "UPDATE events SET dead_at = ?2, is_head = 0, problem = ?3, attempts = attempts + 1
            WHERE seq = ?1 RETURNING backend, subject";
        self.advance(sql, params![seq, signed(now), problem])
    }

    /// Runs a statement that takes a head away, and makes the next event of its subject the head.
    fn advance(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<()> {
        let mut statement = self.0.prepare_cached(sql)?;
        let subject: Option<(String, String)> = statement
            .query_row(parameters, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match subject {
            Some((backend, subject)) => self.choose_head(&backend, &subject),
            None => Ok(()),
        }
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

    /// Returns what waits for a back end.
    pub(super) fn levels(&self, backend: &str) -> Result<Levels> {
        let count = |condition: &str| {
            let sql = format!("SELECT COUNT(*) FROM events WHERE backend = ?1 AND {condition}");
            let mut statement = self.0.prepare_cached(&sql)?;
            statement.query_row([backend], |row| unsigned(row, 0))
        };
        let oldest = "SELECT created_at FROM events WHERE backend = ?1 AND dead_at IS NULL
            ORDER BY seq LIMIT 1";
        let mut oldest = self.0.prepare_cached(oldest)?;
        Ok(Levels {
            queued: count("dead_at IS NULL")?,
            dead: count("dead_at IS NOT NULL")?,
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
        let sql =
            "SELECT id, backend, bytes, created_at, next_at, attempts, dead_at, problem, seq FROM events
            WHERE (dead_at IS NOT NULL) = ?1 AND seq > ?3 ORDER BY seq LIMIT ?2";
        let mut statement = self.0.prepare(sql)?;
        let rows = statement.query_map(params![is_dead, limit, after], stored)?;
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

    /// Has dead letters delivered after all: the one with this id, or all of them. Returns how many. Runs in
    /// a transaction.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn replay(&self, id: Option<&str>, now: u64) -> Result<usize> {
        let sql = "UPDATE events SET dead_at = NULL, attempts = 0, created_at = ?2, next_at = ?2
            WHERE dead_at IS NOT NULL AND (?1 IS NULL OR id = ?1) RETURNING backend, subject";
        let mut statement = self.0.prepare(sql)?;
        let rows = statement.query_map(params![id, signed(now)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        let subjects: Vec<(String, String)> = rows.collect::<Result<_>>()?;
        for (backend, subject) in &subjects {
            self.choose_head(backend, subject)?;
        }
        Ok(subjects.len())
    }

    /// Removes the event with this id, or all dead letters. Returns how many. Runs in a transaction.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn drop_events(&self, id: Option<&str>) -> Result<usize> {
        let Some(id) = id else {
            let sql = "DELETE FROM events WHERE dead_at IS NOT NULL";
            return self.0.execute(sql, []);
        };
        let seq = "SELECT seq FROM events WHERE id = ?1";
        let seq: Option<i64> = self.0.query_row(seq, [id], |row| row.get(0)).optional()?;
        seq.map_or(Ok(0), |seq| self.remove(seq).map(|()| 1))
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
