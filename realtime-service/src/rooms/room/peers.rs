//! The users of a room on other gateways: read from Redis, followed by the room's channel, and announced
//! to the members here as they come and leave.

use std::{
    collections::HashSet,
    sync::{
        Arc, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
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

/// Parts by which a room knows the users on other gateways.
pub(super) struct Peers {
    shared: Arc<SharedPresence>,
    channel: String,
    listener: OnceLock<Arc<Ear>>,
    /// The generation of the connection in which the users were read; 0 before.
    read_in: AtomicU64,
    /// Whether a message was missed since the last read began.
    has_missed: AtomicBool,
    /// Runs when gateways that Redis had nothing of are dead.
    expiry: std::sync::Mutex<Option<Timer>>,
    /// One read at a time.
    reading: Mutex<()>,
}

/// Takes the messages about who is in a room.
struct Ear(Weak<Room>);

impl Peers {
    pub(super) fn new(room: &RoomName, shared: Arc<SharedPresence>) -> Self {
        Self {
            channel: shared.channel(room),
            shared,
            listener: OnceLock::new(),
            read_in: AtomicU64::new(0),
            has_missed: AtomicBool::new(false),
            expiry: std::sync::Mutex::default(),
            reading: Mutex::default(),
        }
    }

    fn is_read(&self) -> bool {
        let link = self.shared.cluster().link();
        let read_in = self.read_in.load(Ordering::Acquire);
        link.is_ok_and(|link| link.generation() == read_in)
            && !self.has_missed.load(Ordering::Acquire)
    }

    /// Notes that the users have to be read, and has them read soon.
    fn miss(&self, room: &RoomName) {
        self.has_missed.store(true, Ordering::Release);
        self.shared.mark_outdated(room);
    }

    /// Ends the subscription to the room's channel.
    pub(super) fn ignore(&self) {
        if let Some(ear) = self.listener.get() {
            let ear: Weak<Ear> = Arc::downgrade(ear);
            let ear: Weak<dyn Listener> = ear;
            self.shared.cluster().ignore(&self.channel, &ear);
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
        let limit = peers.shared.cluster().timeout();
        let read = timeout(limit, self.read_all(peers)).await;
        let is_read = read == Ok(Ok(()));
        if !is_read {
            peers.miss(&self.name);
        }
        is_read
    }

    async fn read_all(self: &Arc<Self>, peers: &Peers) -> Result<(), Away> {
        let _reading = peers.reading.lock().await;
        let listener = peers
            .listener
            .get_or_init(|| Arc::new(Ear(Arc::downgrade(self))));
        while !peers.is_read() {
            let link = peers.shared.cluster().link()?;
            let ear: Weak<Ear> = Arc::downgrade(listener);
            let listening = peers.shared.cluster().listen(&peers.channel, ear);
            listening.await?;
            peers.has_missed.store(false, Ordering::Release);
            self.read_pages(peers, &link).await?;
            peers.read_in.store(link.generation(), Ordering::Release);
        }
        Ok(())
    }

    async fn read_pages(self: &Arc<Self>, peers: &Peers, link: &Link) -> Result<(), Away> {
        self.lock().people.begin_read();
        let pages = peers.shared.read(&self.name, link).await?;
        let further =
            self.apply(|elsewhere, flips| elsewhere.finish_read(pages, Instant::now(), flips));
        for (id, mut cursor) in further.places {
            while cursor != 0 {
                let place = (&*id, cursor);
                let (next, rows) = peers.shared.read_on(&self.name, link, place).await?;
                let is_last = next == 0;
                let is_needed =
                    self.apply(|elsewhere, flips| elsewhere.read_on(&id, rows, is_last, flips));
                cursor = if is_needed { next } else { 0 };
            }
        }
        if further.has_missing {
            self.expire_missing(peers);
        }
        Ok(())
    }

    /// Removes the gateways that Redis had nothing of, when their leases have certainly run out.
    fn expire_missing(self: &Arc<Self>, peers: &Peers) {
        let (room, lease) = (Arc::downgrade(self), peers.shared.cluster().lease());
        let timer = self.terms.timers.schedule(Instant::now() + lease, move || {
            if let Some(room) = room.upgrade() {
                room.apply(|elsewhere, flips| {
                    elsewhere.remove_missing(Instant::now() - lease, flips);
                });
            }
        });
        let mut expiry = peers.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        *expiry = Some(timer);
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
        for (change, user) in changes {
            self.announce(&mut state, change, user, None);
        }
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
