//! A room's log in the memory of this process.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::time::Instant;

use super::{
    Appended, Draft, Extract, Kept, LogError, Message, MessageKey, Position, Selection, Since,
    history::History, recent_ids::RecentIds,
};
use crate::{config::HistorySettings, ids::random_id, rooms::Epoch};

/// What all logs in memory share.
pub(crate) struct MemoryLogs {
    settings: HistorySettings,
    /// How many bytes all of them keep.
    kept_bytes: AtomicUsize,
}

/// A room's log in memory.
pub(in crate::rooms) struct MemoryLog {
    epoch: Epoch,
    logs: Arc<MemoryLogs>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    offset: u64,
    history: History,
    recent_ids: RecentIds,
    is_closed: bool,
}

impl MemoryLogs {
    /// Logs that keep what `settings` say.
    #[must_use]
    pub(crate) fn new(settings: HistorySettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            kept_bytes: AtomicUsize::new(0),
        })
    }

    /// How many bytes all logs keep.
    #[must_use]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    /// How many bytes they may keep.
    #[must_use]
    pub(crate) fn limit_bytes(&self) -> usize {
        self.settings.total_bytes
    }

    /// Whether any message is kept.
    #[must_use]
    pub(crate) fn keep_messages(&self) -> bool {
        self.settings.messages > 0
    }
}

impl MemoryLog {
    /// An empty log in a new epoch.
    pub(in crate::rooms) fn new(logs: Arc<MemoryLogs>) -> Self {
        Self {
            epoch: Epoch::new(random_id()),
            logs,
            state: Mutex::default(),
        }
    }

    pub(super) fn append(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
        now: Instant,
    ) -> Result<Appended, LogError> {
        self.change(|state| {
            if state.is_closed {
                return Err(LogError::Closed);
            }
            state.recent_ids.trim(now);
            let key = key.map(|key| state.recent_ids.fingerprint(key));
            if let Some(offset) = key.and_then(|key| state.recent_ids.find(key)) {
                return Ok(Appended {
                    position: self.position(offset),
                    message: None,
                    is_duplicate: true,
                    original: None,
                    generation: 0,
                });
            }
            state.offset += 1;
            if let Some(key) = key {
                state.recent_ids.insert(key, state.offset, now);
            }
            let position = self.position(state.offset);
            let message = Arc::new(Message::encode(draft, &position));
            state
                .history
                .push(message.clone(), now, &self.logs.settings);
            Ok(Appended {
                position,
                message: Some(message),
                is_duplicate: false,
                original: None,
                generation: 0,
            })
        })
    }

    pub(super) fn read(&self, selection: &Selection, now: Instant) -> Extract {
        self.change(|state| {
            state.history.trim(now, &self.logs.settings);
            let missed = selection.since.as_ref();
            let missed = missed.map(|since| self.missed(state, since));
            let recovered = missed.as_ref().map(Option::is_some);
            // Who reads page by page goes on at the first message that is kept.
            let is_page = missed.is_some() && selection.limit.is_some();
            let last = if is_page { usize::MAX } else { selection.last };
            let kept = || state.history.last(last);
            let mut messages = missed.flatten().unwrap_or_else(kept);
            let limit = selection.limit.unwrap_or(usize::MAX);
            let more = messages.len() > limit;
            messages.truncate(limit);
            Extract {
                position: self.position(state.offset),
                messages,
                more,
                recovered,
                generation: 0,
            }
        })
    }

    /// The place of the newest message.
    pub(in crate::rooms) fn newest(&self) -> Position {
        self.position(self.lock().offset)
    }

    pub(super) fn trim(&self, now: Instant) -> bool {
        self.change(|state| {
            state.history.trim(now, &self.logs.settings);
            state.recent_ids.trim(now);
            state.kept_bytes() == 0
        })
    }

    pub(super) fn close_if_empty(&self) -> bool {
        self.change(|state| {
            state.is_closed |= state.kept_bytes() == 0;
            state.is_closed
        })
    }

    pub(super) fn kept(&self, kept: Kept) -> (usize, Option<Instant>) {
        let state = self.lock();
        match kept {
            Kept::Messages => (state.history.bytes(), state.history.newest_at()),
            Kept::Ids => (state.recent_ids.bytes(), state.recent_ids.newest_at()),
        }
    }

    pub(super) fn forget(&self, kept: Kept) {
        self.change(|state| match kept {
            Kept::Messages => state.history.clear(),
            Kept::Ids => state.recent_ids.clear(),
        });
    }

    /// The messages after `since`; `None` when some of them are not kept.
    fn missed(&self, state: &State, since: &Since) -> Option<Vec<Arc<Message>>> {
        let is_same_epoch = *since.epoch == *self.epoch.0;
        is_same_epoch.then(|| state.history.after(since.offset, state.offset))?
    }

    fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset,
        }
    }

    /// Changes the log, and counts what it keeps afterwards.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.kept_bytes();
        let result = work(&mut state);
        let after = state.kept_bytes();
        let total = &self.logs.kept_bytes;
        if after >= before {
            total.fetch_add(after - before, Ordering::Relaxed);
        } else {
            total.fetch_sub(before - after, Ordering::Relaxed);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        self.forget(Kept::Messages);
        self.forget(Kept::Ids);
    }
}

impl State {
    fn kept_bytes(&self) -> usize {
        self.history.bytes() + self.recent_ids.bytes()
    }
}
