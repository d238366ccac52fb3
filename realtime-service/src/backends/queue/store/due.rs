//! The events whose time has come, one by one or in batches.

use std::{collections::HashSet, time::Duration};

use rusqlite::{Result, params};

use super::{Store, signed, unsigned};

/// The longest time for which a delivery that failed is not repeated. An event that is to be sent later than that was
/// dated by another clock, and is due.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(72 * 60);

/// Indexes with all that tells which events are due: those that were never sent, those that failed, and the events
/// of one subject. A row has its body before most columns. Files of the same version may have others.
pub(super) const INDEXES: &str = "
    DROP INDEX IF EXISTS events_of_subject;
    DROP INDEX IF EXISTS heads;
    CREATE INDEX IF NOT EXISTS runs ON events (backend, subject, seq, is_head, bytes, dead_at)
        WHERE dead_at IS NULL;
    CREATE INDEX IF NOT EXISTS new_heads ON events (backend, next_at, seq, subject, attempts, bytes)
        WHERE is_head = 1 AND attempts = 0;
    CREATE INDEX IF NOT EXISTS failed_heads ON events (backend, next_at, seq, subject, attempts, bytes)
        WHERE is_head = 1 AND attempts > 0;
";

const NEW_HEADS: &str = "SELECT seq, subject, attempts, bytes, next_at FROM events
    WHERE is_head = 1 AND attempts = 0 AND backend = ?1 AND next_at BETWEEN ?2 AND ?3
    ORDER BY next_at, seq LIMIT ?4";
const FAILED_HEADS: &str = "SELECT seq, subject, attempts, bytes, next_at FROM events
    WHERE is_head = 1 AND attempts > 0 AND backend = ?1 AND next_at BETWEEN ?2 AND ?3
    ORDER BY next_at, seq LIMIT ?4";
const RUN: &str = "SELECT seq, bytes, is_head FROM events
    WHERE backend = ?1 AND subject = ?2 AND dead_at IS NULL AND seq > ?3 ORDER BY seq LIMIT ?4";

/// Maximum size of the events of one batch, in bytes, for any back end. A larger event is sent alone.
const BATCH_BYTES: u64 = 256 * 1024;

/// Bounds of the batches that are read at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Maximum number of batches.
    pub(crate) batches: usize,
    /// Maximum number of events of one batch.
    pub(crate) events: usize,
    /// Maximum size of a batch of several events, in bytes. It is 256 KiB at most.
    pub(crate) bytes: u64,
}

/// An event whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub(crate) created_at: u64,
    pub(crate) attempts: u32,
    /// Whether it is the first one of its subject.
    pub(crate) is_head: bool,
}

/// Place of an event that may be sent.
struct Candidate {
    seq: i64,
    subject: String,
    attempts: u32,
    bytes: u64,
    next_at: u64,
}

/// Batches that are being filled.
struct Batches {
    done: Vec<Vec<i64>>,
    open: Vec<i64>,
    open_bytes: u64,
    limits: BatchLimits,
}

impl Batches {
    /// Adds an event to the open batch; `is_next` allows another batch to be opened for it. Returns whether
    /// there was room.
    fn add(&mut self, seq: i64, bytes: u64, is_next: bool) -> bool {
        // A comma follows each event.
        let bytes = bytes + 1;
        let maximum = self.limits.bytes.min(BATCH_BYTES);
        let is_full = self.open.len() == self.limits.events
            || (!self.open.is_empty() && self.open_bytes + bytes > maximum);
        if is_full && !(is_next && self.done.len() + 1 < self.limits.batches) {
            return false;
        }
        if is_full {
            self.finish();
        }
        self.open.push(seq);
        self.open_bytes += bytes;
        true
    }

    /// Adds a batch of a single event. Returns whether there was room.
    fn add_alone(&mut self, seq: i64) -> bool {
        let is_full = self.done.len() + usize::from(!self.open.is_empty()) >= self.limits.batches;
        if !is_full {
            self.done.push(vec![seq]);
        }
        !is_full
    }

    fn finish(&mut self) {
        self.done.push(std::mem::take(&mut self.open));
        self.open_bytes = 0;
    }
}

impl Store {
    /// Returns batches of events of `backend` whose time has come, within `limits` and without the heads
    /// `under_way`. A batch has heads, the longest due first, and behind each head the events of
    /// the same subject in their order. An event that failed before is alone. Only the bodies of these events
    /// are read. A clock that was set back holds no event that was not sent yet, and any other for
    /// [`LONGEST_HOLD`] at most.
    pub(in super::super) fn due(
        &self,
        backend: &str,
        now: u64,
        limits: BatchLimits,
        under_way: &HashSet<i64>,
    ) -> Result<Vec<Vec<Due>>> {
        let mut batches = Batches {
            done: Vec::new(),
            open: Vec::new(),
            open_bytes: 0,
            limits,
        };
        let places = limits.batches * limits.events;
        let heads = self.heads(backend, now, places + under_way.len())?;
        let heads: Vec<_> = heads
            .into_iter()
            .filter(|one| !under_way.contains(&one.seq))
            .collect();
        for head in heads {
            let is_added = match limits.events == 1 || head.attempts > 0 {
                true => batches.add_alone(head.seq),
                false => self.add_run(backend, &head, &mut batches)?,
            };
            if !is_added {
                break;
            }
        }
        if !batches.open.is_empty() {
            batches.finish();
        }
        let read = |batch: Vec<i64>| batch.into_iter().map(|seq| self.read(seq)).collect();
        batches.done.into_iter().map(read).collect()
    }

    /// Returns at most `limit` heads whose time has come, the longest due first. Those that another clock has dated
    /// are before all others.
    fn heads(&self, backend: &str, now: u64, limit: usize) -> Result<Vec<Candidate>> {
        let horizon = now + LONGEST_HOLD.as_secs() * 1000;
        let mut heads = Vec::new();
        for (sql, times) in [
            (NEW_HEADS, (now + 1, u64::MAX)),
            (FAILED_HEADS, (horizon + 1, u64::MAX)),
            (NEW_HEADS, (0, now)),
            (FAILED_HEADS, (0, now)),
        ] {
            heads.extend(self.heads_between(sql, backend, times, limit)?);
        }
        let is_misdated = |head: &Candidate| head.next_at > now;
        heads.sort_by_key(|head| (!is_misdated(head), head.next_at, head.seq));
        heads.truncate(limit);
        Ok(heads)
    }

    fn heads_between(
        &self,
        sql: &str,
        backend: &str,
        (first, last): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let limit = signed(limit as u64);
        let parameters = params![backend, signed(first), signed(last), limit];
        let rows = statement.query_map(parameters, |row| {
            Ok(Candidate {
                seq: row.get(0)?,
                subject: row.get(1)?,
                attempts: row.get(2)?,
                bytes: unsigned(row, 3)?,
                next_at: unsigned(row, 4)?,
            })
        })?;
        rows.collect()
    }

    /// Adds a head and the events behind it, as far as there is room. Returns whether the head was added.
    fn add_run(&self, backend: &str, head: &Candidate, batches: &mut Batches) -> Result<bool> {
        if !batches.add(head.seq, head.bytes, true) {
            return Ok(false);
        }
        let mut statement = self.0.prepare_cached(RUN)?;
        let limit = signed(batches.limits.events as u64);
        let rows = statement.query_map(params![backend, head.subject, head.seq, limit], |row| {
            Ok((row.get(0)?, unsigned(row, 1)?, row.get(2)?))
        })?;
        for row in rows {
            let (seq, bytes, is_head): (i64, u64, bool) = row?;
            // A replayed event is a head beside the one that was there.
            if is_head || !batches.add(seq, bytes, false) {
                break;
            }
        }
        Ok(true)
    }

    fn read(&self, seq: i64) -> Result<Due> {
        let sql = "SELECT id, body, created_at, attempts, is_head FROM events WHERE seq = ?1";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.query_row([seq], |row| {
            Ok(Due {
                seq,
                id: row.get(0)?,
                body: row.get(1)?,
                created_at: unsigned(row, 2)?,
                attempts: row.get(3)?,
                is_head: row.get(4)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::assert_search, *};

    #[test]
    fn what_is_due_is_found_by_indexes_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&directory.path().join("queue.db"), true).expect("a file");
        for (sql, index) in [
            (NEW_HEADS, "COVERING INDEX new_heads"),
            (FAILED_HEADS, "COVERING INDEX failed_heads"),
            (RUN, "COVERING INDEX runs"),
        ] {
            assert_search(&store, sql, index);
        }
    }
}
