//! The sessions of all clients, to find the one that has taken nothing for longest.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{sync::Mutex, transport::EngineSession};

/// How long a session must have taken nothing to be closed in favour of others: nobody is closed who
/// reads.
const MINIMUM_STALL: Duration = Duration::from_millis(500);

/// Minimum time between two searches, each of which looks at every session.
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
    /// The sessions that the last search found stalled and that were not taken since, the slowest one last.
    stalled: Vec<Stalled>,
    /// When the last search was.
    searched_at: Option<Instant>,
}

/// A session that has taken nothing since a moment.
struct Stalled {
    since: Instant,
    session: Weak<EngineSession>,
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
    ///
    /// One search finds all stalled sessions in their order. A session that stalls after it has done so for a
    /// shorter time than all of them, so the next search comes when none of them is left.
    pub(super) fn take_slowest(&self, now: Instant) -> Option<Arc<EngineSession>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slowest) = list.pop_stalled(now) {
            return Some(slowest);
        }
        let is_recent = |at: Instant| now < at + SEARCH_PAUSE;
        if list.searched_at.is_some_and(is_recent) {
            return None;
        }
        list.search(now);
        list.pop_stalled(now)
    }
}

impl List {
    /// Finds all stalled sessions.
    fn search(&mut self, now: Instant) {
        self.searched_at = Some(now);
        let stalled = self.sessions.values().filter_map(|session| {
            let since = stalled_since(&*session.upgrade()?, now)?;
            Some(Stalled {
                since,
                session: session.clone(),
            })
        });
        self.stalled = stalled.collect();
        self.stalled
            .sort_unstable_by_key(|stalled| Reverse(stalled.since));
    }

    /// Takes out the slowest session of the last search. Passes over sessions that have ended, or have taken
    /// something since the search.
    fn pop_stalled(&mut self, now: Instant) -> Option<Arc<EngineSession>> {
        while let Some(Stalled { since, session }) = self.stalled.pop() {
            let slowest = session.upgrade();
            let slowest = slowest.filter(|session| stalled_since(session, now) == Some(since));
            if let Some(session) = slowest {
                self.sessions.remove(&Arc::as_ptr(&session).addr());
                return Some(session);
            }
        }
        self.stalled = Vec::new();
        None
    }
}

/// Returns since when a session has taken nothing, if that is long enough to close the session.
fn stalled_since(session: &EngineSession, now: Instant) -> Option<Instant> {
    let time = session.blocked_for(now)?;
    now.checked_sub(time).filter(|_| time >= MINIMUM_STALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        metrics::Metrics,
        transport::{Packet, Queued, TransportContext, testing},
    };

    fn session(transport: &Arc<TransportContext>, clients: &Clients) -> Arc<EngineSession> {
        let session = testing::session(transport);
        clients.insert(&session);
        let packet = Queued::new(Packet::engine("4"), None);
        assert!(session.push(packet).is_some());
        session
    }

    #[tokio::test(start_paused = true)]
    async fn one_search_finds_all_stalled_sessions_and_spares_those_that_read_since() {
        let (metrics, timers) = (Arc::new(Metrics::new()), Arc::default());
        let transport = TransportContext::new(&Config::default(), &metrics, &timers);
        let clients = Clients::default();
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(session(&transport, &clients));
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let taken = || {
            let slowest = clients.take_slowest(Instant::now())?;
            Some(Arc::as_ptr(&slowest))
        };
        let address = |index: usize| Some(Arc::as_ptr(&sessions[index]));
        assert_eq!(taken(), None, "nobody has stalled");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(), address(0));
        let _read = sessions[1].queue().take(usize::MAX);
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(taken(), address(2));
        let late = session(&transport, &clients);
        assert_eq!(taken(), address(3));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(), Some(Arc::as_ptr(&late)), "a new search");
        assert_eq!(taken(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn searches_are_apart_however_many_sessions_are_closed() {
        let (metrics, timers) = (Arc::new(Metrics::new()), Arc::default());
        let transport = TransportContext::new(&Config::default(), &metrics, &timers);
        let clients = Clients::default();
        let _first = session(&transport, &clients);
        let later = Instant::now() + Duration::from_secs(60);
        assert!(clients.take_slowest(later).is_some());
        // A session that no search has found, since none is due.
        let _second = session(&transport, &clients);
        assert!(clients.take_slowest(later).is_none());
        assert!(clients.take_slowest(later + SEARCH_PAUSE).is_some());
    }
}
