//! One room: the delivery of its messages in the order of their offsets, and who is in it.

mod attendance;
mod delivery;
mod epochs;
mod following;
mod peers;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::OptionFuture;
use tokio::time::Instant;

use self::{delivery::Backlog, epochs::Epochs, following::Following, peers::Peers};
use super::{
    JoinError, MessageList, Occupied, Presence, PresenceMode, RoomName, SubscribeOptions,
    Subscriber, Subscription, Terms, User,
    announce::Batch,
    list,
    log::{Extract, LogError, RoomLog, Selection},
    members::Members,
    position::Place,
    presence::{Change, People},
};
use crate::{
    outbox::{Now, SendError},
    transport::{Packet, turn::Turn},
};

/// How long a subscription waits before it looks again whether delivery has reached its answer.
const DELIVERY_PAUSE: Duration = Duration::from_millis(5);

/// A room that somebody is in, or of which something is kept.
pub(super) struct Room {
    name: RoomName,
    terms: Arc<Terms>,
    log: RoomLog,
    /// The way to the users on other gateways, when there are several.
    peers: Option<Peers>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The place up to which messages were delivered.
    delivered: Place,
    epochs: Epochs,
    backlog: Backlog,
    members: Members,
    /// Whether a connection is in it, and the note of that.
    is_occupied: bool,
    occupied: Option<Occupied>,
    people: People,
    batch: Batch,
    /// Whether another room has taken the place of this one.
    is_retired: bool,
}

/// A subscription whose part of the log was read.
struct Entry<'a> {
    subscriber: &'a Subscriber,
    options: &'a SubscribeOptions,
    extract: &'a Extract,
    messages: Option<&'a MessageList>,
    /// Number of epochs before the extract's.
    life: u64,
    /// Whether the client is a member, and continues from the last message that was queued for it.
    is_continued: bool,
}

/// Why a room did not do what it was asked for.
pub(super) enum RoomError<E> {
    /// Another room has taken its place.
    Retired,
    /// Another reason.
    Other(E),
}

impl Room {
    pub(super) fn new(name: RoomName, terms: Arc<Terms>, log: RoomLog) -> Arc<Self> {
        let state = State {
            epochs: Epochs::of(log.epoch()),
            ..State::default()
        };
        let peers = terms.people.as_ref();
        let peers = peers.map(|people| Peers::new(people.clone()));
        Arc::new(Self {
            name,
            terms,
            log,
            peers,
            state: Mutex::new(state),
        })
    }

    /// Subscribes a client: it joins, the log is read, and then the client gets its answer and,
    /// after that, every message that the answer does not cover.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        subscriber: &Subscriber,
        options: &SubscribeOptions,
        answer: impl Fn(&Subscription) -> Option<Packet>,
    ) -> Result<(), RoomError<JoinError>> {
        let was_live = self.join(subscriber)?;
        let (extract, life) = self.read_for(subscriber, options).await?;
        // A member that names no last message gets all messages up to the answer before the answer.
        let is_continued = was_live && options.since.is_none();
        if is_continued {
            let offset = extract.position.offset;
            let place = Place { life, offset };
            self.await_delivery(place, subscriber).await?;
        }
        if options.presence != PresenceMode::Off {
            self.read_peers_unless_silent().await;
        }
        // The messages are encoded without the room's lock.
        let is_recovered = options.since.is_some() && extract.recovered == Some(true);
        let messages = (is_recovered || options.history.is_some())
            .then(|| list(extract.messages.iter().map(AsRef::as_ref)));
        let entry = Entry {
            subscriber,
            options,
            extract: &extract,
            messages: messages.as_ref(),
            life,
            is_continued,
        };
        loop {
            subscriber.outbox.wait_for_room().await;
            match self.admit(&entry, &answer) {
                Err(SendError::Full) => {}
                Err(SendError::Closed) => return Err(RoomError::Other(JoinError::SessionEnded)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Reads the part of the log that a subscriber asks for. Returns it with the number of epochs before
    /// its own.
    async fn read_for(
        self: &Arc<Self>,
        subscriber: &Subscriber,
        options: &SubscribeOptions,
    ) -> Result<(Extract, u64), RoomError<JoinError>> {
        let selection = Selection {
            since: options.since.clone(),
            last: options.history.unwrap_or_default(),
            limit: None,
        };
        loop {
            let reading = self.listen_and_read(&selection);
            let reading = match options.needs_log() {
                true => reading.await,
                false => self.log.unless_silent(reading).await,
            };
            let extract = match reading {
                Err(LogError::Unavailable) => {
                    self.extract_alone(options).ok_or(LogError::Unavailable)
                }
                answer => answer,
            };
            let extract = match extract {
                Ok(extract) => extract,
                Err(LogError::Closed) => return Err(RoomError::Retired),
                Err(LogError::Unavailable) => {
                    self.leave(&subscriber.connection);
                    return Err(RoomError::Other(JoinError::Unavailable));
                }
            };
            if let Some(life) = self.adopt(&extract) {
                return Ok((extract, life));
            }
        }
    }

    /// Listens to other gateways, from when this returns, whatever becomes of the future, which reads the log.
    fn listen_and_read(
        self: &Arc<Self>,
        selection: &Selection,
    ) -> impl Future<Output = Result<Extract, LogError>> {
        let log = self.log.redis();
        let listening = log.map(|log| log.listen(Arc::<Self>::downgrade(self)));
        async move {
            // What is lost before the channel is confirmed is read then.
            let _ = OptionFuture::from(listening).await;
            self.log.read(selection).await
        }
    }

    /// Follows the log to what was read of it. Returns the number of epochs before that one; `None` when
    /// it has ended, or messages after it were not delivered.
    fn adopt(self: &Arc<Self>, extract: &Extract) -> Option<u64> {
        let _turn = Turn::begin();
        let mut state = self.lock();
        let (position, generation) = (&extract.position, extract.generation);
        let followed = self.follow(&mut state, position, generation, position.offset);
        if followed == Following::Former || position.offset < state.epochs.start {
            let is_disputed = state.backlog.is_disputed;
            drop(state);
            if is_disputed {
                self.catch_up(0);
            }
            return None;
        }
        let life = state.delivered.life;
        drop(state);
        if followed == Following::Begun {
            self.catch_up(position.offset);
        }
        Some(life)
    }

    /// Adds a subscriber that waits for its answer. Returns whether it was a member before.
    fn join(&self, subscriber: &Subscriber) -> Result<bool, RoomError<JoinError>> {
        let mut state = self.lock();
        if state.is_retired {
            return Err(RoomError::Retired);
        }
        // Whoever ends a session closes its outbox before it leaves its rooms.
        if !subscriber.outbox.is_open_now() {
            return Err(RoomError::Other(JoinError::SessionEnded));
        }
        Ok(state.members.join(subscriber))
    }

    /// Waits until the messages up to `place` are delivered, or the outbox is closed. Gives up when they
    /// cannot be read.
    async fn await_delivery(
        self: &Arc<Self>,
        place: Place,
        subscriber: &Subscriber,
    ) -> Result<(), RoomError<JoinError>> {
        if self.lock().delivered < place {
            self.catch_up(place.offset);
        }
        while self.lock().delivered < place && subscriber.outbox.is_open_now() {
            if self.log.is_away() {
                self.leave(&subscriber.connection);
                return Err(RoomError::Other(JoinError::Unavailable));
            }
            tokio::time::sleep(DELIVERY_PAUSE).await;
        }
        Ok(())
    }

    /// Answers a subscription, and lets its messages follow.
    fn admit(
        self: &Arc<Self>,
        entry: &Entry<'_>,
        answer: impl Fn(&Subscription) -> Option<Packet>,
    ) -> Result<(), SendError> {
        let Entry {
            subscriber,
            options,
            ..
        } = entry;
        let now = self.terms.outboxes.now();
        let _turn = Turn::begin();
        let mut state = self.lock();
        let user = User::of(&subscriber.sender);
        let was_member = state
            .members
            .get_mut(&subscriber.connection)
            .is_some_and(|member| member.user.is_some());
        let is_first = user
            .as_ref()
            .filter(|_| !was_member)
            .is_some_and(|user| state.people.enter(user, subscriber.sender.name.as_ref()));
        if let Err(error) = self.queue_answer(&mut state, entry, answer, now) {
            self.share(user.as_ref());
            // A client that cannot be answered has never been in the room.
            match user.as_ref().filter(|_| !was_member) {
                Some(user) if is_first => state.people.undo_enter(user),
                // The others know that the user is here.
                Some(user) => self.part(&mut state, user),
                None => {}
            }
            return Err(error);
        }
        if !std::mem::replace(&mut state.is_occupied, true) {
            state.occupied = self.terms.occupied(&self.name);
        }
        let may_watch = subscriber.may_watch;
        if let Some(user) = &user {
            let presence = subscriber.presence.as_ref();
            state.people.show(user, presence);
        }
        if let Some(member) = state.members.get_mut(&subscriber.connection) {
            if user.is_some() {
                member.user.clone_from(&user);
            }
            (member.mode, member.may_watch) = (options.presence, may_watch);
        }
        self.share(user.as_ref());
        if is_first && let Some(user) = user {
            let except = Some(&*subscriber.connection);
            self.announce(&mut state, Change::Join, user, except);
        }
        subscriber.outbox.flush();
        Ok(())
    }

    /// Queues the answer to a subscription, and the messages before and after it.
    fn queue_answer(
        &self,
        state: &mut State,
        entry: &Entry<'_>,
        answer: impl Fn(&Subscription) -> Option<Packet>,
        now: Now,
    ) -> Result<(), SendError> {
        let (subscriber, extract) = (entry.subscriber, entry.extract);
        let place = Place {
            life: entry.life,
            offset: extract.position.offset,
        };
        if entry.is_continued {
            let members = &mut state.members;
            members.release_until(&subscriber.connection, place, now)?;
        }
        let mode = entry.options.presence;
        let is_counted = state.members.is_counted(&subscriber.connection);
        let here = state.members.connections() + usize::from(!is_counted);
        let connections = here + state.people.connections_elsewhere();
        let subscription = Subscription {
            position: &extract.position,
            recovered: extract.recovered,
            messages: entry.messages,
            presence: (mode != PresenceMode::Off).then(|| {
                let (limit, user) = (self.terms.presence.users, User::of(&subscriber.sender));
                let people = &state.people;
                let presence = people.describe(mode, connections, limit, user.as_ref());
                Presence {
                    partial: self.is_partial(),
                    ..presence
                }
            }),
        };
        if let Some(packet) = answer(&subscription) {
            let packet = self.terms.outboxes.share(packet);
            subscriber.outbox.queue(&packet, now)?;
        }
        state.members.go_live(&subscriber.connection, place, now)
    }

    /// Takes a connection out; nothing happens when it is not in.
    pub(super) fn leave(self: &Arc<Self>, connection: &str) {
        let mut state = self.lock();
        let Some(member) = state.members.remove(connection) else {
            return;
        };
        self.share(member.user.as_ref());
        if state.members.connections() == 0 {
            state.is_occupied = false;
            state.occupied = None;
        }
        if let Some(user) = member.user {
            self.part(&mut state, &user);
        }
    }

    /// Reads a part of what is kept.
    pub(super) async fn read(&self, selection: &Selection) -> Result<Extract, LogError> {
        self.log.read(selection).await
    }

    /// How many connections are in it.
    pub(super) fn connections(&self) -> usize {
        self.lock().members.connections()
    }

    /// Forgets what is too old, and retires a room that nobody is in and of which nothing is kept;
    /// returns whether it is retired.
    pub(super) fn retire_if_idle(&self) -> bool {
        let is_empty = self.log.trim(Instant::now());
        let mut state = self.lock();
        let is_idle = is_empty && state.members.is_empty() && !state.people.has_own();
        if is_idle && self.log.close_if_empty() {
            state.is_retired = true;
            self.log.ignore();
            if let Some(peers) = &self.peers {
                peers.ignore(&self.name);
            }
        }
        state.is_retired
    }

    pub(super) fn log(&self) -> &RoomLog {
        &self.log
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
