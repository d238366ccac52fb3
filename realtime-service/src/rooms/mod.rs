//! Rooms in memory: who is in which, the order of their messages, and what is kept of them.

mod members;
mod name;
pub mod policy;
mod position;
mod room;
pub(crate) mod subscription;

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry as Slot},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use socketioxide::extract::SocketRef;
use tokio::time::Instant;

use self::room::{Outside, Room, Terms};
pub use self::{
    name::{InvalidRoomName, RoomName},
    position::{Epoch, Position},
    room::{Acceptance, Extract},
    subscription::{Entry, Wanted},
};
use crate::{
    config::Config,
    history::Since,
    messages::{Message, MessageKey},
    metrics::{Cause, Metrics},
    presence::{People, Presence, PresenceMode},
    session::Session,
    timers::Timers,
};

/// All rooms of this gateway. A room exists while somebody is in it, or something of it is kept.
pub struct Rooms {
    rooms: Mutex<HashMap<RoomName, Arc<Room>>>,
    terms: Arc<Terms>,
}

/// Why somebody did not enter a room.
#[derive(Debug, PartialEq, Eq)]
pub enum NotEntered<E> {
    /// The session has ended.
    SessionEnded,
    /// What it wants to know could not be told, for this reason.
    Untold(E),
}

impl Rooms {
    /// No rooms yet.
    #[must_use]
    pub fn new(config: &Config, timers: &Arc<Timers>) -> Self {
        Self {
            rooms: Mutex::default(),
            terms: Arc::new(Terms {
                history: config.history.clone(),
                presence: config.presence.clone(),
                outbound_bytes: config.limits.outbound_bytes,
                timers: timers.clone(),
                kept_bytes: AtomicUsize::new(0),
            }),
        }
    }

    /// Puts a session into a room, and tells it where the room stands by `tell` in the same moment:
    /// what is published later, it will receive later. `tell` must not wait.
    ///
    /// # Errors
    ///
    /// When the session has ended meanwhile, or `tell` fails; then it is not in the room.
    pub fn enter<E>(
        &self,
        name: &RoomName,
        (session, socket): (&Arc<Session>, &SocketRef),
        wanted: &Wanted,
        tell: impl Fn(&Entry) -> Result<(), E>,
    ) -> Result<(), NotEntered<E>> {
        loop {
            let room = self.get_or_open(name);
            match room.enter((session, socket), wanted, &tell) {
                Ok(()) => return Ok(()),
                Err(Outside::Gone) => {}
                Err(Outside::Ended) => return Err(NotEntered::SessionEnded),
                Err(Outside::Untold(error)) => return Err(NotEntered::Untold(error)),
            }
        }
    }

    /// Takes a session out of a room; nothing happens when it is not in it.
    pub fn leave(&self, name: &RoomName, session: &Session) {
        session.rooms().remove(name);
        if let Some(room) = self.get(name) {
            room.leave(session);
            self.retire_if_idle(name, &room);
        }
    }

    /// Takes a session out of all its rooms.
    pub fn leave_all(&self, session: &Session) {
        let names = std::mem::take(&mut *session.rooms());
        for name in names {
            self.leave(&name, session);
        }
    }

    /// Counts a guest as the user that it has turned out to be, in all its rooms.
    pub fn identify(&self, session: &Session) {
        let names: Vec<_> = session.rooms().iter().cloned().collect();
        for room in names.iter().filter_map(|name| self.get(name)) {
            room.identify(session);
        }
    }

    /// Gives `message` the next number of its room and sends it to everybody in it, the sender
    /// included if it is there. With a `key`, what was published under it lately is not published
    /// again.
    ///
    /// A member whose queue is full is closed: it may not miss a message without a word.
    pub fn publish(
        &self,
        mut message: Message,
        mut key: Option<MessageKey>,
        metrics: &Metrics,
    ) -> Acceptance {
        let name = message.room.clone();
        let (room, sent) = loop {
            let room = self.get_or_open(&name);
            match room.publish(message, key) {
                Ok(sent) => break (room, sent),
                Err(given_back) => (message, key) = *given_back,
            }
        };
        if !sent.acceptance.is_duplicate {
            metrics.message_published(sent.delivered);
        }
        for session in sent.overflowed {
            tracing::warn!(connection = %session.connection, "closed: it takes messages too slowly");
            session.end(Cause::Overflowed);
        }
        if self.terms.kept_bytes.load(Ordering::Relaxed) > self.terms.history.total_bytes {
            self.make_room();
        } else if self.terms.history.messages == 0 {
            self.retire_if_idle(&name, &room);
        }
        sent.acceptance
    }

    /// What is kept of a room: after `since`, or the last ones, `limit` at most.
    #[must_use]
    pub fn read(&self, name: &RoomName, since: Option<&Since>, limit: usize) -> Extract {
        let room = self.get_or_open(name);
        let extract = room.read(since, limit);
        // Whoever reads keeps no room in being.
        self.retire_if_idle(name, &room);
        extract
    }

    /// Who is in a room.
    #[must_use]
    pub fn presence(&self, name: &RoomName, mode: PresenceMode) -> Presence {
        match self.get(name) {
            Some(room) => room.presence(mode),
            None => People::default().describe(mode, 0, 0),
        }
    }

    /// Tells the same to a session, and of changes from the same moment on, as `mode` says, if it is
    /// in the room. `tell` runs while nobody comes or leaves, so it must not wait.
    ///
    /// # Errors
    ///
    /// Those of `tell`; then nothing changes.
    pub fn watch<E>(
        &self,
        name: &RoomName,
        (session, mode): (&Session, PresenceMode),
        tell: impl FnOnce(&Presence) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.get(name) {
            Some(room) => room.watch(session, mode, tell),
            None => tell(&self.presence(name, mode)),
        }
    }

    /// The rooms that somebody is in, each with its number of sockets, in no order.
    #[must_use]
    pub fn occupied(&self) -> Vec<(RoomName, usize)> {
        let counts = self
            .all()
            .into_iter()
            .map(|(name, room)| (name, room.connections()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Lets go of what is too old, and of rooms that nobody needs any more. Call it now and then.
    pub fn sweep(&self) {
        for (name, room) in self.all() {
            self.retire_if_idle(&name, &room);
        }
    }

    /// Forgets the messages of the rooms that keep most, and of those the ones that were silent for
    /// longest, until a quarter of the memory is free.
    fn make_room(&self) {
        let rooms = self.all().into_iter();
        let mut rooms: Vec<_> = rooms.map(|(_, room)| (room.kept(), room)).collect();
        rooms.sort_unstable_by_key(|((bytes, newest_at), _)| (Reverse(*bytes), *newest_at));
        let enough = self.terms.history.total_bytes / 4 * 3;
        for (_, room) in rooms {
            if self.terms.kept_bytes.load(Ordering::Relaxed) <= enough {
                break;
            }
            room.forget_messages();
        }
        self.sweep();
    }

    fn get(&self, name: &RoomName) -> Option<Arc<Room>> {
        self.lock().get(name).cloned()
    }

    fn get_or_open(&self, name: &RoomName) -> Arc<Room> {
        let open = || Arc::new(Room::new(name.clone(), self.terms.clone()));
        self.lock().entry(name.clone()).or_insert_with(open).clone()
    }

    /// Every room of this moment. What is done with each is done without the lock of all: it may have
    /// to wait for a room in which much goes on.
    fn all(&self) -> Vec<(RoomName, Arc<Room>)> {
        let rooms = self.lock();
        rooms
            .iter()
            .map(|(name, room)| (name.clone(), room.clone()))
            .collect()
    }

    fn retire_if_idle(&self, name: &RoomName, room: &Arc<Room>) {
        if room.is_idle(Instant::now())
            && let Slot::Occupied(slot) = self.lock().entry(name.clone())
            && Arc::ptr_eq(slot.get(), room)
            && room.retire()
        {
            slot.remove();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
