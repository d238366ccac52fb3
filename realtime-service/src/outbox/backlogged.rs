//! The sessions that packets wait for, to find the one that has taken nothing for longest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::{Duration, Instant};

use crate::transport::EngineSession;

/// How long a session must have taken nothing to be closed in favour of others: nobody is closed who
/// reads.
const MINIMUM_STALL: Duration = Duration::from_millis(500);

/// The sessions that packets wait for. Those for which nothing waits any more stay listed until the
/// list is next cleaned.
#[derive(Default)]
pub(super) struct Backlogged(Mutex<List>);

#[derive(Default)]
struct List {
    sessions: Vec<Weak<EngineSession>>,
    /// At which length the list is cleaned next.
    clean_at: usize,
}

/// The list is not cleaned while it is shorter than this.
const MINIMUM_LENGTH: usize = 1024;

impl Backlogged {
    /// Lists a session that had nothing waiting.
    pub(super) fn insert(&self, session: &Arc<EngineSession>) {
        let mut list = self.lock();
        if list.sessions.len() >= list.clean_at.max(MINIMUM_LENGTH) {
            list.clean();
            list.clean_at = 2 * list.sessions.len();
        }
        list.sessions.push(Arc::downgrade(session));
    }

    /// Removes and returns the session that has taken nothing for longest.
    pub(super) fn take_slowest(&self, now: Instant) -> Option<Arc<EngineSession>> {
        let mut list = self.lock();
        list.clean();
        let stalled = list.sessions.iter().filter_map(Weak::upgrade);
        let stalled = stalled.filter_map(|session| Some((session.blocked_for(now)?, session)));
        let slowest = stalled
            .filter(|(time, _)| *time >= MINIMUM_STALL)
            .max_by_key(|(time, _)| *time);
        let (_, slowest) = slowest?;
        list.sessions
            .retain(|session| !std::ptr::eq(session.as_ptr(), Arc::as_ptr(&slowest)));
        Some(slowest)
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn clean(&mut self) {
        let mut seen = std::collections::HashSet::new();
        self.sessions.retain(|session| {
            seen.insert(session.as_ptr()) && session.upgrade().is_some_and(|one| one.waiting() > 0)
        });
    }
}
