//! The events whose time has come, one by one or in batches.

use std::collections::HashSet;

use rusqlite::{Result, params};

use super::{Store, signed, unsigned};

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
    /// are read.
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

    fn heads(&self, backend: &str, now: u64, limit: usize) -> Result<Vec<Candidate>> {
        let sql = "SELECT seq, subject, attempts, bytes FROM events
            WHERE is_head = 1 AND backend = ?1 AND next_at <= ?2 ORDER BY next_at, seq LIMIT ?3";
        let mut statement = self.0.prepare_cached(sql)?;
        let rows =
            statement.query_map(params![backend, signed(now), signed(limit as u64)], |row| {
                Ok(Candidate {
                    seq: row.get(0)?,
                    subject: row.get(1)?,
                    attempts: row.get(2)?,
                    bytes: unsigned(row, 3)?,
                })
            })?;
        rows.collect()
    }

    /// Adds a head and the events behind it, as far as there is room. Returns whether the head was added.
    fn add_run(&self, backend: &str, head: &Candidate, batches: &mut Batches) -> Result<bool> {
        if !batches.add(head.seq, head.bytes, true) {
            return Ok(false);
        }
        let sql = "SELECT seq, bytes, is_head FROM events
            WHERE backend = ?1 AND subject = ?2 AND dead_at IS NULL AND seq > ?3 ORDER BY seq LIMIT ?4";
        let mut statement = self.0.prepare_cached(sql)?;
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
