//! Books: the closing event of each open connection and occupied room, kept beside the events until it is due.
//!
//! A book takes the place of its event in every bound, so that the event always fits when the book closes. A
//! process that is killed leaves its books open, and the next one closes them.

use rusqlite::{OptionalExtension as _, Result, params};

use super::{NewEvent, Store, signed};

/// The books, in the order in which they were opened. Files of the same version may lack them.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS books (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        backend TEXT NOT NULL,
        subject TEXT NOT NULL,
        draft BLOB NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS books_of_subject ON books (backend, subject, bytes);
    CREATE TRIGGER IF NOT EXISTS book_opened AFTER INSERT ON books BEGIN
        UPDATE totals SET entries = entries + 1, bytes = bytes + new.bytes;
    END;
    CREATE TRIGGER IF NOT EXISTS book_closed AFTER DELETE ON books BEGIN
        UPDATE totals SET entries = entries - 1, bytes = bytes - old.bytes;
    END;
";

/// Size of an opening in memory besides its body and its draft, in bytes.
const WAITING_BYTES: usize = 512;

/// A closing event without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewBook {
    /// The id of the event.
    pub(crate) id: String,
    /// The name of the back end.
    pub(crate) backend: String,
    /// The subject of the event.
    pub(crate) subject: String,
    /// The body without what the end adds.
    pub(crate) draft: Vec<u8>,
    /// The size of the longest body that the draft can become, in bytes.
    pub(crate) bytes: u64,
}

/// The beginning of a connection or of the use of a room, for one back end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    /// The event that says so.
    pub(crate) event: Option<NewEvent>,
    /// The event that ends it.
    pub(crate) book: Option<NewBook>,
}

impl Opening {
    /// Size of the opening in the memory of this process, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let body = self.event.as_ref().map_or(0, |event| event.body.len());
        let draft = self.book.as_ref().map_or(0, |book| book.draft.len());
        body + draft + WAITING_BYTES
    }

    /// The back end, the subject, and the size of all of it: number and bytes.
    fn load(&self) -> Option<(&str, &str, (u64, u64))> {
        let event = self.event.as_ref();
        let event = event.map(|one| (&one.backend, &one.subject, one.body.len() as u64));
        let book = self.book.as_ref();
        let book = book.map(|one| (&one.backend, &one.subject, one.bytes));
        let (backend, subject, _) = event.or(book)?;
        let entries = u64::from(event.is_some()) + u64::from(book.is_some());
        let bytes = [event, book]
            .iter()
            .flatten()
            .map(|(.., bytes)| bytes)
            .sum();
        Some((backend, subject, (entries, bytes)))
    }
}

/// Completes the draft of a closing event.
pub(crate) type Completion<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

impl Store {
    /// Stores an opening whole, if `fits` says so of the events that are there in all, of those of its
    /// subject, and of its own number and bytes. Returns whether it did.
    pub(in super::super) fn open_book(
        &self,
        opening: &Opening,
        now: u64,
        fits: impl Fn((u64, u64), (u64, u64), (u64, u64)) -> bool,
    ) -> Result<bool> {
        let Some((backend, subject, load)) = opening.load() else {
            return Ok(true);
        };
        if !fits(self.totals()?, self.totals_of(backend, subject)?, load) {
            return Ok(false);
        }
        self.whole(|| {
            if let Some(book) = &opening.book {
                self.insert_book(book)?;
            }
            match &opening.event {
                Some(event) => self.append(event, now),
                None => Ok(()),
            }
        })?;
        Ok(true)
    }

    fn insert_book(&self, book: &NewBook) -> Result<()> {
        let sql =
            "INSERT INTO books (id, backend, subject, draft, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
        let NewBook {
            id,
            backend,
            subject,
            draft,
            bytes,
        } = book;
        let mut statement = self.0.prepare_cached(sql)?;
        statement.execute(params![id, backend, subject, draft, signed(*bytes)])?;
        Ok(())
    }

    /// Stores the closing event of a book in its place. Nothing happens when there is no such book.
    pub(in super::super) fn close_book(
        &self,
        id: &str,
        now: u64,
        complete: Completion<'_>,
    ) -> Result<()> {
        let sql = "DELETE FROM books WHERE id = ?1 RETURNING backend, subject, draft";
        self.whole(|| {
            let mut statement = self.0.prepare_cached(sql)?;
            let book = statement.query_row([id], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    complete(&row.get::<_, Vec<u8>>(2)?),
                ))
            });
            let Some((backend, subject, Some(body))) = book.optional()? else {
                return Ok(());
            };
            let event = NewEvent {
                id: id.to_owned(),
                backend,
                subject,
                body,
            };
            self.append(&event, now)
        })
    }

    /// Closes the books that another process has left open, in their order. Returns how many. Runs in a
    /// transaction.
    pub(in super::super) fn close_all_books(
        &self,
        now: u64,
        complete: Completion<'_>,
    ) -> Result<usize> {
        let mut statement = self.0.prepare("SELECT id FROM books ORDER BY number")?;
        let ids: Vec<String> = statement
            .query_map([], |row| row.get(0))?
            .collect::<Result<_>>()?;
        for id in &ids {
            self.close_book(id, now, complete)?;
        }
        Ok(ids.len())
    }

    /// Runs `work` whole or not at all, within a transaction.
    pub(super) fn whole<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.0.execute_batch("SAVEPOINT whole")?;
        let done = work();
        self.0.execute_batch(match done {
            Ok(_) => "RELEASE whole",
            Err(_) => "ROLLBACK TO whole; RELEASE whole",
        })?;
        done
    }
}
