//! Rooms: who is in which, the order of their messages, and what is kept of them.

mod announce;
mod log;
mod members;
mod message;
mod position;
mod presence;
mod room;
mod sender;
mod sharing;
mod subscription;

use std::{
    any::Any,
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

pub use self::{
    log::{Appended, Extract, MessageKey, Selection},
    message::{
        Data, Draft, InvalidData, Message, MessageList, is_portable, is_publishable, list, null,
    },
    position::{Epoch, Position, Since},
    presence::{Presence, PresenceMode, Present},
    sender::{Sender, User},
    subscription::{JoinError, SubscribeOptions, Subscriber, Subscription},
};
use self::{
    log::{Kept, LogError, MemoryLogs, RedisLog, RedisLogs, RoomLog},
    message::Parts,
    presence::SharedPresence,
    room::{Room, RoomError},
};
pub use crate::auth::policy::{InvalidRoomName, RoomName};
use crate::{
    cluster::Cluster,
    config::{Config, PresenceSettings},
    outbox::{OutboxContext, SendError},
    timers::Timers,
    transport::Packet,
};

/// All rooms of this gateway. A room exists while somebody is in it, or something of it is kept.
pub struct Rooms {
    rooms: Mutex<HashMap<RoomName, Arc<Room>>>,
    terms: Arc<Terms>,
}

/// A note that somebody is in a room, which is dropped when the last connection has left.
pub type Occupied = Box<dyn Any + Send>;

/// Makes the note for a room that the first connection has entered.
type OnOccupied = Box<dyn Fn(&RoomName) -> Option<Occupied> + Send + Sync>;

/// What all rooms share.
struct Terms {
    logs: Arc<MemoryLogs>,
    /// The logs in Redis, when there are several gateways.
    shared: Option<Arc<RedisLogs>>,
    /// Presence in Redis, when there are several gateways.
    people: Option<Arc<SharedPresence>>,
    #[cfg(test)]
    faults: Option<Arc<log::Faults>>,
    presence: PresenceSettings,
    outboxes: Arc<OutboxContext>,
    timers: Arc<Timers>,
    on_occupied: OnceLock<OnOccupied>,
}

/// Why a message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The room's log cannot be reached now.
    Unavailable,
    /// Too much waits for the clients of this gateway.
    Overloaded,
}

/// The room's log cannot be reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl Rooms {
    /// No rooms yet. With a `cluster`, their logs are in Redis.
    #[must_use]
    pub fn new(
        config: &Config,
        cluster: Option<&Arc<Cluster>>,
        outboxes: &Arc<OutboxContext>,
        timers: &Arc<Timers>,
    ) -> Self {
        let logs = MemoryLogs::new(config.history.clone());
        let shared = cluster
            .map(|cluster| RedisLogs::new(cluster.clone(), config.history.clone(), logs.clone()));
        Self {
            rooms: Mutex::default(),
            terms: Arc::new(Terms {
                logs,
                shared,
                people: cluster.map(|cluster| SharedPresence::new(cluster.clone())),
                #[cfg(test)]
                faults: None,
                presence: config.presence.clone(),
                outboxes: outboxes.clone(),
                timers: timers.clone(),
                on_occupied: OnceLock::new(),
            }),
        }
    }

    /// Has `note` called for each room of this gateway that the first connection enters. What it returns is
    /// dropped when the last one has left. Both happen under the lock of the room, in their order, and must
    /// not wait.
    pub fn on_occupied(
        &self,
        note: impl Fn(&RoomName) -> Option<Occupied> + Send + Sync + 'static,
    ) {
        // A second note is not asked for.
        let _ = self.terms.on_occupied.set(Box::new(note));
    }

    /// Subscribes a client to a room. `answer` makes the packet that tells it so; every message that
    /// is published later follows that packet.
    ///
    /// # Errors
    ///
    /// See [`JoinError`]; then the client is not in the room.
    pub async fn subscribe(
        &self,
        name: &RoomName,
        subscriber: &Subscriber,
        options: &SubscribeOptions,
        answer: impl Fn(&Subscription<'_>) -> Option<Packet>,
    ) -> Result<(), JoinError> {
        loop {
            let room = self.get_or_open(name);
            match room.subscribe(subscriber, options, &answer).await {
                Ok(()) => return Ok(()),
                Err(RoomError::Retired) => {}
                Err(RoomError::Other(error)) => return Err(error),
            }
        }
    }

    /// Takes a connection out of a room; nothing happens when it is not in it.
    pub fn leave(&self, name: &RoomName, connection: &str) {
        if let Some(room) = self.get(name) {
            room.leave(connection);
            self.retire_if_idle(name, &room);
        }
    }

    /// Counts a guest as the user that it has turned out to be.
    pub fn identify(&self, name: &RoomName, subscriber: &Subscriber) {
        if let Some(room) = self.get(name) {
            room.identify(subscriber);
        }
    }

    /// Whether a connection is told who comes to a room and leaves it.
    #[must_use]
    pub fn is_watched_by(&self, name: &RoomName, connection: &str) -> bool {
        self.get(name)
            .is_some_and(|room| room.is_watched_by(connection))
    }

    /// Notes whether a member's grants let it know who is in a room.
    pub fn let_watch(&self, name: &RoomName, connection: &str, may_watch: bool) {
        if let Some(room) = self.get(name) {
            room.let_watch(connection, may_watch);
        }
    }

    /// Gives a message the next number of its room and delivers it to everybody in the room, its
    /// sender included. With a `key`, what was published under it lately is not published again.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, PublishError> {
        if let Some(log) = self.log_of_absent_room(&draft.room) {
            let appended = log.append(draft, key).await;
            let appended = appended.map_err(|_| PublishError::Unavailable)?;
            if !appended.is_duplicate {
                self.terms.outboxes.metrics().message_published();
            }
            return Ok(appended);
        }
        let (room, appended) = loop {
            let room = self.get_or_open(&draft.room);
            match room.publish(draft, key).await {
                Ok(appended) => break (room, appended),
                Err(RoomError::Retired) => {}
                Err(RoomError::Other(error)) => return Err(error),
            }
        };
        if !appended.is_duplicate {
            self.terms.outboxes.metrics().message_published();
        }
        if self.terms.logs.kept_bytes() > self.terms.logs.limit_bytes() {
            self.make_room();
        } else if !self.terms.logs.keep_messages() || self.terms.shared.is_some() {
            self.retire_if_idle(&draft.room, &room);
        }
        Ok(appended)
    }

    /// Returns the log in Redis of a room that nobody here is in. Subscribers who enter it meanwhile get a message
    /// by its channel, as they do from other gateways. Returns `None` when the room has to be opened.
    fn log_of_absent_room(&self, name: &RoomName) -> Option<RedisLog> {
        let logs = self.terms.shared.as_ref()?;
        let is_absent = self.get(name).is_none();
        let is_enough =
            is_absent && !logs.may_go_on_alone() && !self.terms.outboxes.is_overloaded();
        is_enough.then(|| RedisLog::new(name.clone(), logs.clone()))
    }

    /// Reads a part of what is kept of a room.
    ///
    /// # Errors
    ///
    /// When its log cannot be reached.
    pub async fn read(
        &self,
        name: &RoomName,
        selection: &Selection,
    ) -> Result<Extract, Unavailable> {
        loop {
            let room = self.get_or_open(name);
            match room.read(selection).await {
                Ok(extract) => {
                    // Whoever reads keeps no room in being.
                    self.retire_if_idle(name, &room);
                    return Ok(extract);
                }
                Err(LogError::Closed) => {}
                Err(LogError::Unavailable) => return Err(Unavailable),
            }
        }
    }

    /// Describes who is in a room, on whichever gateway.
    pub async fn presence(&self, name: &RoomName, mode: PresenceMode) -> Presence {
        let Some(room) = self.room_of_people(name).await else {
            return Presence::of_nobody(mode);
        };
        let presence = room.presence(mode);
        self.retire_if_idle(name, &room);
        presence
    }

    /// Describes who is in a room to a client by the packet that `answer` makes and, if the client
    /// is in the room, announces changes to it from the same moment on, as `mode` says.
    ///
    /// # Errors
    ///
    /// When the packet cannot be queued.
    pub async fn watch(
        &self,
        name: &RoomName,
        subscriber: &Subscriber,
        mode: PresenceMode,
        answer: impl FnOnce(&Presence) -> Option<Packet>,
    ) -> Result<(), SendError> {
        if let Some(room) = self.room_of_people(name).await {
            let watched = room.watch(subscriber, mode, answer);
            self.retire_if_idle(name, &room);
            return watched;
        }
        match answer(&Presence::of_nobody(mode)) {
            Some(packet) => subscriber.outbox.send(packet),
            None => Ok(()),
        }
    }

    /// Returns a room whose users on other gateways are known, as far as they can be; `None` when nobody
    /// can be in it.
    async fn room_of_people(&self, name: &RoomName) -> Option<Arc<Room>> {
        if self.terms.people.is_none() {
            return self.get(name);
        }
        let room = self.get_or_open(name);
        room.read_peers().await;
        Some(room)
    }

    /// Returns the rooms that somebody is in, each with its number of connections, in no order.
    #[must_use]
    pub fn occupied(&self) -> Vec<(RoomName, usize)> {
        let counts = self
            .all()
            .into_iter()
            .map(|(name, room)| (name, room.connections()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Forgets what is too old, and rooms that nobody needs any more. Expired messages are never
    /// delivered, even before this removes them.
    pub fn sweep(&self) {
        for (name, room) in self.all() {
            self.retire_if_idle(&name, &room);
        }
    }

    /// Makes a quarter of the memory free. Messages are forgotten first: a publisher relies on its ids, and a
    /// subscriber is told of missing messages.
    fn make_room(&self) {
        self.forget_most(Kept::Messages);
        self.forget_most(Kept::Ids);
        self.sweep();
    }

    /// Forgets `kept` of the rooms that keep most of it, and of those the ones that were silent for longest,
    /// until a quarter of the memory is free.
    fn forget_most(&self, kept: Kept) {
        let enough = self.terms.logs.limit_bytes() / 4 * 3;
        if self.terms.logs.kept_bytes() <= enough {
            return;
        }
        let rooms = self.all().into_iter();
        let mut rooms: Vec<_> = rooms
            .map(|(_, room)| (room.log().kept(kept), room))
            .collect();
        // Rooms that differ by less than a factor of two keep as much.
        rooms.sort_unstable_by_key(|((bytes, newest_at), _)| {
            (Reverse(bytes.checked_ilog2()), *newest_at)
        });
        for (_, room) in rooms {
            if self.terms.logs.kept_bytes() <= enough {
                break;
            }
            room.log().forget(kept);
        }
    }

    fn get(&self, name: &RoomName) -> Option<Arc<Room>> {
        self.lock().get(name).cloned()
    }

    fn get_or_open(&self, name: &RoomName) -> Arc<Room> {
        let mut rooms = self.lock();
        // Most rooms are open, and are found without a copy of the name.
        if let Some(room) = rooms.get(name) {
            return room.clone();
        }
        let room = Room::new(name.clone(), self.terms.clone(), self.terms.open_log(name));
        rooms.insert(name.clone(), room.clone());
        room
    }

    /// Returns every room of this moment. They are changed without the lock of all: each may be
    /// busy.
    fn all(&self) -> Vec<(RoomName, Arc<Room>)> {
        let rooms = self.lock();
        rooms
            .iter()
            .map(|(name, room)| (name.clone(), room.clone()))
            .collect()
    }

    fn retire_if_idle(&self, name: &RoomName, room: &Arc<Room>) {
        if room.retire_if_idle()
            && let Entry::Occupied(entry) = self.lock().entry(name.clone())
            && Arc::ptr_eq(entry.get(), room)
        {
            entry.remove();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms {
    fn occupied(&self, name: &RoomName) -> Option<Occupied> {
        self.on_occupied.get()?(name)
    }

    fn open_log(&self, name: &RoomName) -> RoomLog {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return RoomLog::Faulty(log::FaultyLog::new(self.logs.clone(), faults.clone()));
        }
        if let Some(logs) = &self.shared {
            return RoomLog::Redis(Box::new(RedisLog::new(name.clone(), logs.clone())));
        }
        RoomLog::Memory(log::MemoryLog::new(self.logs.clone()))
    }
}

#[cfg(test)]
mod tests;
