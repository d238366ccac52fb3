//! The side of the file that its copy in Redis is made from: the id of the queue, and the numbers of all changes that
//! the copy may lack.
//!
//! Triggers number the changes, so that those of a command in another process count too. Without a cluster the file
//! has none of this.

use std::collections::HashSet;

use rusqlite::{OptionalExtension as _, Result, params};

use super::{
    Store,
    row::{self, Place},
};

/// Number of rows of a page, and its size in bytes, unless its last row is larger.
const PAGE_ROWS: usize = 500;
const PAGE_BYTES: usize = 256 * 1024;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS copy (id TEXT NOT NULL, edition TEXT, base INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS changes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        is_book INTEGER NOT NULL,
        place INTEGER NOT NULL
    ) STRICT;
    CREATE TRIGGER IF NOT EXISTS event_entered AFTER INSERT ON events BEGIN
        INSERT INTO changes (is_book, place) VALUES (0, new.seq);
    END;
    CREATE TRIGGER IF NOT EXISTS event_noted AFTER UPDATE OF attempts, next_at, dead_at ON events BEGIN
        INSERT INTO changes (is_book, place) VALUES (0, new.seq);
    END;
    CREATE TRIGGER IF NOT EXISTS event_removed AFTER DELETE ON events BEGIN
        INSERT INTO changes (is_book, place) VALUES (0, old.seq);
    END;
    CREATE TRIGGER IF NOT EXISTS book_entered AFTER INSERT ON books BEGIN
        INSERT INTO changes (is_book, place) VALUES (1, new.number);
    END;
    CREATE TRIGGER IF NOT EXISTS book_removed AFTER DELETE ON books BEGIN
        INSERT INTO changes (is_book, place) VALUES (1, old.number);
    END;
";

const NO_TABLES: &str = "
    DROP TRIGGER IF EXISTS event_entered;
    DROP TRIGGER IF EXISTS event_noted;
    DROP TRIGGER IF EXISTS event_removed;
    DROP TRIGGER IF EXISTS book_entered;
    DROP TRIGGER IF EXISTS book_removed;
    DROP TABLE IF EXISTS changes;
    DROP TABLE IF EXISTS copy;
";

/// The copy that the changes of the file are numbered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edition {
    /// The random name of the copy, from when it was written anew.
    pub(crate) name: String,
    /// The number up to which the copy has all changes.
    pub(crate) version: i64,
}

/// Rows of the file for the copy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Each row by its place; `None` when there is none any more.
    pub(crate) rows: Vec<(Place, Option<Vec<u8>>)>,
    /// The last change that the page has, or else the one before the page.
    pub(crate) version: i64,
    pub(crate) is_last: bool,
}

impl Store {
    /// Has all changes numbered from now on, under the id that the file has or else under `id`. Returns the id.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(in super::super) fn begin_copy(&self, id: &str) -> Result<String> {
        self.whole(|| {
            self.0.execute_batch(TABLES)?;
            let sql = "INSERT INTO copy SELECT ?1, NULL, 0 WHERE NOT EXISTS (SELECT 1 FROM copy)";
            self.0.execute(sql, [id])?;
            self.0
                .query_row("SELECT id FROM copy", [], |row| row.get(0))
        })
    }

    /// Has no changes numbered any more, and forgets the id.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(in super::super) fn end_copy(&self) -> Result<()> {
        self.whole(|| self.0.execute_batch(NO_TABLES))
    }

    /// Returns the number of the last change; 0 before the first one.
    pub(in super::super) fn last_change(&self) -> Result<i64> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'";
        let mut statement = self.0.prepare_cached(sql)?;
        let last = statement.query_row([], |row| row.get(0)).optional()?;
        Ok(last.unwrap_or_default())
    }

    /// Notes the id and which copy the changes are kept for, and forgets those that it has. Without a copy that changes
    /// could be added to, all are forgotten.
    pub(in super::super) fn note_copy(&self, id: &str, edition: Option<&Edition>) -> Result<()> {
        let name = edition.map(|edition| &edition.name);
        let version = edition.map_or(i64::MAX, |edition| edition.version);
        let sql = "UPDATE copy SET id = ?1, edition = ?2, base = ?3
            WHERE id IS NOT ?1 OR edition IS NOT ?2 OR base IS NOT ?3";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.execute(params![id, name, version])?;
        let sql = "DELETE FROM changes WHERE number <= ?1";
        self.0.prepare_cached(sql)?.execute([version])?;
        Ok(())
    }

    /// Returns a page of what has changed since the change `version`, as it is now.
    pub(in super::super) fn changes_since(&self, version: i64) -> Result<Page> {
        let sql = "SELECT number, is_book, place FROM changes WHERE number > ?1
            ORDER BY number LIMIT ?2";
        let mut statement = self.0.prepare_cached(sql)?;
        let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
        let changes = statement.query_map(params![version, limit], |row| {
            let (is_book, number) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, Place { is_book, number }))
        })?;
        let changes: Vec<(i64, Place)> = changes.collect::<Result<_>>()?;
        let mut page = Page {
            rows: Vec::new(),
            version,
            is_last: changes.len() < PAGE_ROWS,
        };
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        for (number, place) in changes {
            if bytes >= PAGE_BYTES {
                page.is_last = false;
                break;
            }
            page.version = number;
            if seen.insert(place) {
                let row = self.row_at(place)?;
                bytes += row.as_ref().map_or(0, Vec::len);
                page.rows.push((place, row));
            }
        }
        Ok(page)
    }

    /// Returns a page of all rows behind a place. Its version is not used.
    pub(in super::super) fn rows_after(&self, after: Place) -> Result<Page> {
        let sql = match after.is_book {
            false => "SELECT seq FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            true => "SELECT number FROM books WHERE number > ?1 ORDER BY number LIMIT ?2",
        };
        let mut statement = self.0.prepare_cached(sql)?;
        let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
        let numbers = statement.query_map([after.number, limit], |row| row.get(0))?;
        let numbers: Vec<i64> = numbers.collect::<Result<_>>()?;
        let mut page = Page {
            rows: Vec::new(),
            version: 0,
            is_last: numbers.is_empty(),
        };
        let mut bytes = 0;
        for number in numbers {
            if bytes >= PAGE_BYTES {
                break;
            }
            let place = Place { number, ..after };
            let row = self.row_at(place)?;
            bytes += row.as_ref().map_or(0, Vec::len);
            page.rows.push((place, row));
        }
        Ok(page)
    }

    fn row_at(&self, place: Place) -> Result<Option<Vec<u8>>> {
        let (sql, encode): (_, fn(&rusqlite::Row<'_>) -> _) = match place.is_book {
            false => (row::SELECT_EVENT, row::encode_event),
            true => (row::SELECT_BOOK, row::encode_book),
        };
        let mut statement = self.0.prepare_cached(sql)?;
        statement.query_row([place.number], encode).optional()
    }

    /// Removes what another gateway has adopted: all that is as it was in the copy `adopted`. Without the
    /// numbers of the changes since then, nothing is known and everything is kept. The file has the id `id` from
    /// now on. Returns how many events and books were removed.
    pub(in super::super) fn drop_adopted(&self, adopted: &Edition, id: &str) -> Result<usize> {
        let sql = "SELECT 1 FROM copy WHERE edition = ?1 AND base <= ?2";
        let known = self
            .0
            .query_row(sql, params![adopted.name, adopted.version], |_| Ok(()));
        let mut removed = 0;
        if known.optional()?.is_some() {
            for sql in [
                "DELETE FROM events WHERE seq NOT IN
                    (SELECT place FROM changes WHERE is_book = 0 AND number > ?1)",
                "DELETE FROM books WHERE number NOT IN
                    (SELECT place FROM changes WHERE is_book = 1 AND number > ?1)",
            ] {
                // The triggers number these removals too, and beyond all that is compared.
                removed += self.0.execute(sql, [adopted.version])?;
            }
            self.choose_missing_heads()?;
        }
        self.note_copy(id, None)?;
        Ok(removed)
    }
}
