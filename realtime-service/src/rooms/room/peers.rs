//! The users of a room on other gateways: read from Redis, followed by the room's channel, and announced
//! to the members here as they come and leave.

use std::{
    collections::HashSet,
    sync::{
        Arc, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::Room;
use crate::{
    cluster::{Away, Link, Listener, name_of},
    rooms::{
        RoomName, User,
        presence::{Elsewhere, Flip, Notice, Rows, SharedPresence},
    },
    timers::Timer,
    transport::turn::Turn,
};

/// Maximum number of reads in a row, when each missed a message.
const MAXIMUM_READS: usize = 3;

/// Parts by which a room knows the users on other gateways.
pub(super) struct Peers {
    shared: Arc<SharedPresence>,
    listener: OnceLock<Arc<Ear>>,
    /// The generation of the connection in which the users were read; 0 before.
    read_in: AtomicU64,
    /// Number of times that a message was missed.
    missed: AtomicU64,
    /// The number when the last complete read began.
    missed_before: AtomicU64,
    /// Runs when gateways that Redis had nothing of are dead.
    expiry: std::sync::Mutex<Option<Timer>>,
    /// One read at a time.
    reading: Mutex<()>,
}

/// Takes the messages about who is in a room.
struct Ear(Weak<Room>);

impl Peers {
    pub(super) fn new(shared: Arc<SharedPresence>) -> Self {
        Self {
            shared,
            listener: OnceLock::new(),
            read_in: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            missed_before: AtomicU64::new(0),
            expiry: std::sync::Mutex::default(),
            reading: Mutex::default(),
        }
    }

    fn is_read(&self) -> bool {
        let link = self.shared.cluster().link();
        let read_in = self.read_in.load(Ordering::Acquire);
        link.is_ok_and(|link| link.generation() == read_in)
            && self.missed.load(Ordering::Acquire) == self.missed_before.load(Ordering::Acquire)
    }

    /// Notes that the users have to be read, and has them read soon.
    fn miss(&self, room: &RoomName) {
        self.missed.fetch_add(1, Ordering::AcqRel);
        self.shared.mark_outdated(room);
    }

    /// Schedules [`Room::expire_missing`] for the instant `at`, unless it is scheduled already: for an earlier
    /// instant, since leases are equally long.
    fn expire_at(&self, room: &Arc<Room>, at: Instant) {
        let mut expiry = self.lock_expiry();
        if expiry.is_some() {
            return;
        }
        let (timers, room) = (&room.terms.timers, Arc::downgrade(room));
        *expiry = Some(timers.schedule(at, move || {
            if let Some(room) = room.upgrade()
                && let Some(peers) = &room.peers
            {
                room.expire_missing(peers);
            }
        }));
    }

    fn lock_expiry(&self) -> MutexGuard<'_, Option<Timer>> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the subscription to the channel of `room`.
    pub(super) fn ignore(&self, room: &RoomName) {
        if let Some(ear) = self.listener.get() {
            let ear: Weak<Ear> = Arc::downgrade(ear);
            let ear: Weak<dyn Listener> = ear;
            let channel = self.shared.channel(room);
            self.shared.cluster().ignore(&channel, &ear);
        }
    }
}

impl Room {
    /// Notes that the number of connections has changed, or the row of a user, for other gateways to know.
    pub(super) fn share(&self, user: Option<&User>) {
        if let Some(peers) = &self.peers {
            peers.shared.mark(&self.name, user);
        }
    }

    /// Returns the rows of this gateway about the users that have changed, or all of them; `None` when
    /// nobody is here.
    pub(in crate::rooms) fn own_rows(&self, changed: Option<&HashSet<User>>) -> Option<Rows> {
        let state = self.lock();
        let connections = state.members.connections();
        (connections > 0 || state.people.has_own()).then(|| Rows {
            connections,
            rows: state.people.rows(changed),
        })
    }

    /// Whether users of other gateways may be missing, or may have left.
    pub(super) fn is_partial(&self) -> bool {
        let peers = self.peers.as_ref();
        peers.is_some_and(|peers| !peers.is_read())
    }

    /// Reads the users on other gateways, unless that was done in this connection to Redis, and follows
    /// them from then on. Returns whether they are known; they are read later when Redis does not answer
    /// in time.
    pub(in crate::rooms) async fn read_peers(self: &Arc<Self>) -> bool {
        let Some(peers) = self.peers.as_ref().filter(|peers| !peers.is_read()) else {
            return true;
        };
        let is_read = self.read_all(peers).await.is_ok();
        if !is_read {
            peers.shared.mark_outdated(&self.name);
        }
        is_read
    }

    /// Reads the users on other gateways as [`Self::read_peers`] does, unless Redis is silent. Then they are
    /// read later.
    pub(super) async fn read_peers_unless_silent(self: &Arc<Self>) {
        let Some(peers) = self.peers.as_ref().filter(|peers| !peers.is_read()) else {
            return;
        };
        let reading = self.read_peers();
        let is_read = match peers.shared.cluster().link() {
            Ok(link) => link.unless_silent(reading).await.is_ok(),
            Err(Away) => false,
        };
        if !is_read {
            peers.shared.mark_outdated(&self.name);
        }
    }

    async fn read_all(self: &Arc<Self>, peers: &Peers) -> Result<(), Away> {
        let limit = peers.shared.cluster().timeout();
        let waiting = timeout(limit, peers.reading.lock());
        let _reading = waiting.await.map_err(|_| Away)?;
        for _ in 0..MAXIMUM_READS {
            if peers.is_read() {
                break;
            }
            let link = peers.shared.cluster().link()?;
            self.listen_to_peers(peers)?.await?;
            let missed = peers.missed.load(Ordering::Acquire);
            self.read_pages(peers, &link, limit).await?;
            peers.missed_before.store(missed, Ordering::Release);
            peers.read_in.store(link.generation(), Ordering::Release);
        }
        peers.is_read().then_some(()).ok_or(Away)
    }

    /// Subscribes to the room's channel. A room that has been retired leaves it to its successor.
    fn listen_to_peers(
        self: &Arc<Self>,
        peers: &Peers,
    ) -> Result<impl Future<Output = Result<(), Away>> + use<>, Away> {
        let listener = peers
            .listener
            .get_or_init(|| Arc::new(Ear(Arc::downgrade(self))));
        let ear: Weak<Ear> = Arc::downgrade(listener);
        let state = self.lock();
        let cluster = (!state.is_retired).then(|| peers.shared.cluster());
        let channel = peers.shared.channel(&self.name);
        Ok(cluster.ok_or(Away)?.listen(&channel, ear))
    }

    /// Reads all pages. Each answer of Redis has to arrive within `limit`.
    async fn read_pages(
        self: &Arc<Self>,
        peers: &Peers,
        link: &Link,
        limit: Duration,
    ) -> Result<(), Away> {
        self.lock().people.begin_read();
        let reading = timeout(limit, peers.shared.read(&self.name, link));
        let pages = reading.await.map_err(|_| Away)??;
        let further =
            self.apply(|elsewhere, flips| elsewhere.finish_read(pages, Instant::now(), flips));
        for (id, mut cursor) in further.places {
            while cursor != 0 {
                let place = (&*id, cursor);
                let reading = timeout(limit, peers.shared.read_on(&self.name, link, place));
                let (next, rows) = reading.await.map_err(|_| Away)??;
                let is_last = next == 0;
                let is_needed =
                    self.apply(|elsewhere, flips| elsewhere.read_on(&id, rows, is_last, flips));
                cursor = if is_needed { next } else { 0 };
            }
        }
        if further.has_missing {
            let lease = peers.shared.cluster().lease();
            peers.expire_at(self, Instant::now() + lease);
        }
        Ok(())
    }

    /// Removes the gateways that Redis had nothing of for as long as a lease.
    fn expire_missing(self: &Arc<Self>, peers: &Peers) {
        *peers.lock_expiry() = None;
        let lease = peers.shared.cluster().lease();
        let before = Instant::now() - lease;
        let next = self.apply(|elsewhere, flips| elsewhere.remove_missing(before, flips));
        if let Some(since) = next {
            peers.expire_at(self, since + lease);
        }
    }

    /// Forgets all other gateways: Redis has been away for longer than their leases.
    pub(in crate::rooms) fn forget_peers(self: &Arc<Self>) {
        self.apply(Elsewhere::clear);
    }

    /// Changes what is known of other gateways, and announces who has come and left.
    fn apply<T>(self: &Arc<Self>, change: impl FnOnce(&mut Elsewhere, &mut Vec<Flip>) -> T) -> T {
        let _turn = Turn::begin();
        let mut state = self.lock();
        let (changes, output) = state.people.change_elsewhere(change);
        self.announce_all(&mut state, changes);
        output
    }
}

impl Listener for Ear {
    fn receive(self: Arc<Self>, payload: &[u8], _: u64) {
        let Some(room) = self.0.upgrade() else {
            return;
        };
        let Some(notice) = Notice::parse(payload) else {
            tracing::error!(room = %room.name, "a message about presence cannot be read");
            return;
        };
        let Some(peers) = &room.peers else {
            return;
        };
        if name_of(notice.id()) == peers.shared.cluster().gateway() {
            return;
        }
        if !room.apply(|elsewhere, flips| elsewhere.hear(notice, flips)) {
            peers.miss(&room.name);
        }
    }

    fn resume(self: Arc<Self>, _: u64) {
        if let Some(room) = self.0.upgrade()
            && let Some(peers) = &room.peers
        {
            peers.miss(&room.name);
        }
    }
}

#[cfg(test)]
mod tests;
