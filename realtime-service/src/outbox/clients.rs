//! The sessions of all clients, to find the one that has taken nothing for longest.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{sync::Mutex, transport::EngineSession};

/// How long a session must have taken nothing to be closed in favour of others: nobody is closed who
/// reads.
const MINIMUM_STALL: Duration = Duration::from_millis(500);

/// How long a search that found nobody stands: it looks at every session.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// The list is not cleaned while it is shorter than this.
const MINIMUM_LENGTH: usize = 1024;

/// The sessions of all clients. Those that have ended stay listed until the list is next cleaned.
#[derive(Default)]
pub(super) struct Clients(Mutex<List>);

#[derive(Default)]
struct List {
    /// By their address: a session has one entry, however often it connects.
    sessions: HashMap<usize, Weak<EngineSession>>,
    /// At which length the list is cleaned next.
    clean_at: usize,
    /// When a search found nobody.
    searched_at: Option<Instant>,
}

impl Clients {
    /// Lists a session, unless it is listed.
    pub(super) fn insert(&self, session: &Arc<EngineSession>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.sessions.len() >= list.clean_at.max(MINIMUM_LENGTH) {
            list.sessions
                .retain(|_, session| session.strong_count() > 0);
            list.clean_at = 2 * list.sessions.len();
        }
        list.sessions
            .entry(Arc::as_ptr(session).addr())
            .or_insert_with(|| Arc::downgrade(session));
    }

    /// Removes and returns the session that has taken nothing for longest.
    pub(super) fn take_slowest(&self, now: Instant) -> Option<Arc<EngineSession>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: Instant| now < at + SEARCH_PAUSE;
        if list.searched_at.is_some_and(is_recent) {
            return None;
        }
        let stalled = list.sessions.iter().filter_map(|(address, session)| {
            let session = session.upgrade()?;
            let time = session.blocked_for(now)?;
            (time >= MINIMUM_STALL).then_some((time, *address, session))
        });
        let slowest = stalled.max_by_key(|(time, ..)| *time);
        let Some((_, address, session)) = slowest else {
            list.searched_at = Some(now);
            return None;
        };
        list.sessions.remove(&address);
        Some(session)
    }
}
