//! The progress of a queue's copy in Redis, which the thread of the file and the task of the copy share. Whoever waits
//! for a change is told once the copy has it too, or has fallen behind.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    backends::queue::{
        Told,
        store::{Edition, Store},
    },
    ids::random_id,
};

/// Maximum number of changes that the file keeps for a copy that is behind. With more, the copy is written anew.
const MAXIMUM_CHANGES: i64 = 100_000;

/// The progress of a queue's copy in Redis.
pub(in crate::backends::queue) struct Progress {
    state: Mutex<State>,
    /// Notified when the file has changed.
    pub(super) changed: Notify,
}

struct State {
    /// The id of the queue.
    id: Arc<str>,
    /// The copy that changes are added to; `None` when it has to be written anew.
    edition: Option<Edition>,
    /// Whether it is known that nobody has adopted the queue, or the gateway goes on without knowing. Until
    /// then the file keeps what it has noted about the copy before.
    is_settled: bool,
    /// The last change of the file.
    last: i64,
    /// Whether changes are told once the copy has them. While Redis is away, the disk is enough.
    is_awaited: bool,
    /// Ends of transactions, each with its last change.
    waiting: VecDeque<(i64, Vec<Told>)>,
}

impl State {
    /// Ends the wait for the copy.
    fn fall_back(&mut self) -> Vec<Told> {
        self.is_awaited = false;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting.flat_map(|(_, told)| told).collect()
    }
}

impl Progress {
    /// Has the changes of a file numbered. Runs in a transaction.
    pub(in crate::backends::queue) fn begin(store: &Store) -> rusqlite::Result<Self> {
        let state = State {
            id: store.begin_copy(&random_id())?.into(),
            edition: None,
            is_settled: false,
            last: store.last_change()?,
            is_awaited: false,
            waiting: VecDeque::new(),
        };
        Ok(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// Writes the progress to the file, at the beginning of a transaction.
    pub(in crate::backends::queue) fn note(&self, store: &Store) -> rusqlite::Result<()> {
        let (id, edition) = {
            let state = self.lock();
            if !state.is_settled {
                return Ok(());
            }
            (state.id.clone(), state.edition.clone())
        };
        store.note_copy(&id, edition.as_ref())
    }

    /// Tells the end of a transaction that is durable, once the copy has its `last` change.
    pub(in crate::backends::queue) fn tell(&self, last: i64, told: Vec<Told>) {
        let mut state = self.lock();
        state.last = last;
        let missing = state
            .edition
            .as_ref()
            .map_or(0, |edition| last - edition.version);
        let mut now = Vec::new();
        if missing > MAXIMUM_CHANGES {
            state.edition = None;
            now = state.fall_back();
        }
        match state.is_awaited && missing > 0 {
            true => state.waiting.push_back((last, told)),
            false => now.extend(told),
        }
        drop(state);
        if missing > 0 {
            self.changed.notify_one();
        }
        tell(now);
    }

    /// Has the file note the copy from now on.
    pub(super) fn settle(&self) {
        self.lock().is_settled = true;
    }

    /// Returns the id of the queue.
    pub(super) fn id(&self) -> Arc<str> {
        self.lock().id.clone()
    }

    /// Gives the queue another id. Nothing of it is copied under this one yet.
    pub(super) fn set_id(&self, id: Arc<str>) {
        self.lose_edition();
        self.lock().id = id;
    }

    /// Returns the copy that changes are added to.
    pub(super) fn edition(&self) -> Option<Edition> {
        self.lock().edition.clone()
    }

    /// Has the file keep all changes from now on, and returns the name of the copy that is written. What is read from
    /// the file from now on has the changes before.
    pub(super) fn begin_edition(&self) -> Edition {
        let mut state = self.lock();
        let edition = Edition {
            name: random_id(),
            version: state.last,
        };
        state.edition = Some(edition.clone());
        edition
    }

    /// Notes that a copy has all changes up to `edition.version`, and tells those who waited for them. Returns whether
    /// nobody has waited for the copy before.
    pub(super) fn advance(&self, edition: &Edition) -> bool {
        let mut state = self.lock();
        let is_same = |current: &&mut Edition| current.name == edition.name;
        let Some(current) = state.edition.as_mut().filter(is_same) else {
            return false;
        };
        current.version = current.version.max(edition.version);
        let was_awaited = std::mem::replace(&mut state.is_awaited, true);
        let done = state
            .waiting
            .partition_point(|(last, _)| *last <= edition.version);
        let done: Vec<Told> = state
            .waiting
            .drain(..done)
            .flat_map(|(_, told)| told)
            .collect();
        drop(state);
        tell(done);
        !was_awaited
    }

    /// Has nobody wait for the copy until it has advanced. Returns whether somebody might have waited.
    pub(in crate::backends::queue) fn fall_back(&self) -> bool {
        let mut state = self.lock();
        let was_awaited = state.is_awaited;
        let told = state.fall_back();
        drop(state);
        tell(told);
        was_awaited
    }

    /// Has the copy written anew.
    pub(super) fn lose_edition(&self) {
        self.lock().edition = None;
        self.fall_back();
    }

    /// Whether the copy has the change `last`, and follows further ones.
    pub(super) fn has(&self, last: i64) -> bool {
        let state = self.lock();
        let version = state.edition.as_ref().map(|edition| edition.version);
        state.is_awaited && version >= Some(last)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(told: Vec<Told>) {
    told.into_iter().for_each(|tell| tell(true));
}
