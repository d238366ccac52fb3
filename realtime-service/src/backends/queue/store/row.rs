//! A row of the file in its copy: a line of JSON, and the body of the event or the draft of the book behind it.

use rusqlite::{Result, Row, params};
use serde::{Deserialize, Serialize};

use super::{Completion, NewEvent, Store, signed, unsigned};

pub(super) const SELECT_EVENT: &str =
    "SELECT id, backend, subject, created_at, next_at, attempts, dead_at, problem, body
    FROM events WHERE seq = ?1";
pub(super) const SELECT_BOOK: &str =
    "SELECT id, backend, subject, draft FROM books WHERE number = ?1";

/// The place of a row in the file. Events precede books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) is_book: bool,
    pub(crate) number: i64,
}

impl Place {
    /// The place before the first event, and the one before the first book.
    pub(crate) const BEFORE_EVENTS: Self = Self {
        is_book: false,
        number: 0,
    };
    pub(crate) const BEFORE_BOOKS: Self = Self {
        is_book: true,
        number: 0,
    };

    /// Returns the name of the row in the copy. The order of the names is that of the places.
    pub(crate) fn name(self) -> String {
        let kind = if self.is_book { 'o' } else { 'e' };
        format!("{kind}{:020}", self.number)
    }
}

/// An event or a book without its body or draft.
#[derive(Serialize, Deserialize)]
struct Head {
    id: String,
    backend: String,
    subject: String,
    /// `None` for a book.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

/// The progress of an event. Times are in milliseconds since the Unix epoch.
#[derive(Serialize, Deserialize)]
struct Progress {
    created_at: u64,
    next_at: u64,
    attempts: u32,
    dead_at: Option<u64>,
    problem: Option<String>,
}

pub(super) fn encode_event(row: &Row<'_>) -> Result<Vec<u8>> {
    let dead_at: Option<i64> = row.get(6)?;
    let progress = Progress {
        created_at: unsigned(row, 3)?,
        next_at: unsigned(row, 4)?,
        attempts: row.get(5)?,
        dead_at: dead_at.and_then(|at| u64::try_from(at).ok()),
        problem: row.get(7)?,
    };
    encode(row, Some(progress), row.get(8)?)
}

pub(super) fn encode_book(row: &Row<'_>) -> Result<Vec<u8>> {
    encode(row, None, row.get(3)?)
}

fn encode(row: &Row<'_>, progress: Option<Progress>, body: Vec<u8>) -> Result<Vec<u8>> {
    let head = Head {
        id: row.get(0)?,
        backend: row.get(1)?,
        subject: row.get(2)?,
        progress,
    };
    // Texts and numbers are always JSON.
    let head = serde_json::to_vec(&head).unwrap_or_default();
    Ok([&head[..], b"\n", &body].concat())
}

fn decode(row: &[u8]) -> Option<(Head, Vec<u8>)> {
    let end = row.iter().position(|byte| *byte == b'\n')?;
    let head = serde_json::from_slice(&row[..end]).ok()?;
    Some((head, row[end + 1..].to_vec()))
}

impl Store {
    /// Stores a row of the copy of another file: an event behind those of its subject that are here, and the closing
    /// event of a book. Nothing happens when an event with this id is here. Returns false when the row cannot be
    /// read.
    pub(in super::super) fn import(
        &self,
        row: &[u8],
        now: u64,
        complete: Completion<'_>,
    ) -> Result<bool> {
        let Some((head, body)) = decode(row) else {
            return Ok(false);
        };
        let Head {
            id,
            backend,
            subject,
            progress,
        } = head;
        let Some(progress) = progress else {
            let Some(body) = complete(&body) else {
                return Ok(false);
            };
            let event = NewEvent {
                id,
                backend,
                subject,
                body,
            };
            return self.append(&event, now).map(|()| true);
        };
        let sql = "INSERT INTO events (id, backend, subject, body, bytes, created_at, next_at,
                attempts, dead_at, problem, is_head)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?9 IS NULL AND NOT EXISTS (
                SELECT 1 FROM events WHERE backend = ?2 AND subject = ?3 AND dead_at IS NULL))
            ON CONFLICT (id) DO NOTHING";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.execute(params![
            id,
            backend,
            subject,
            body,
            signed(body.len() as u64),
            signed(progress.created_at),
            signed(progress.next_at),
            progress.attempts,
            progress.dead_at.map(signed),
            progress.problem,
        ])?;
        Ok(true)
    }
}
