//! One room: the delivery of its messages in the order of their offsets, and who is in it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use super::{
    Draft, JoinError, Message, Presence, PresenceMode, PublishError, RoomName, SubscribeOptions,
    Subscriber, Subscription, Terms, User,
    announce::{Announcement, BATCH_INTERVAL, Batch, Change, is_crowded},
    log::{Appended, Extract, LogError, MessageKey, RoomLog, Selection},
    members::{Delivery, Members},
    presence::People,
};
use crate::{
    outbox::{self, SendError},
    transport::{Packet, turn::Turn},
};

/// How long delivery waits before it reads a log again that could not be reached.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

/// A room that somebody is in, or of which something is kept.
pub(super) struct Room {
    name: RoomName,
    terms: Arc<Terms>,
    log: RoomLog,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The offset up to which messages were delivered.
    delivered: u64,
    /// The newest offset that is known to be in the log, when a message before it was missing.
    newest: u64,
    /// Whether a task reads messages from the log that were not delivered.
    is_catching_up: bool,
    members: Members,
    people: People,
    batch: Batch,
    /// Whether another room has taken the place of this one.
    is_retired: bool,
}

impl State {
    /// Whether messages are missing that are in the log; when none is, the task ends.
    fn must_catch_up(&mut self) -> bool {
        self.is_catching_up = self.delivered < self.newest;
        self.is_catching_up
    }
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
        Arc::new(Self {
            name,
            terms,
            log,
            state: Mutex::default(),
        })
    }

    /// Appends a message to the log, and delivers it.
    pub(super) async fn publish(
        self: &Arc<Self>,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, RoomError<PublishError>> {
        if self.terms.outboxes.is_overloaded() {
            return Err(RoomError::Other(PublishError::Overloaded));
        }
        let appended = match self.log.append(draft, key).await {
            Ok(appended) => appended,
            Err(LogError::Closed) => return Err(RoomError::Retired),
            Err(LogError::Unavailable) => {
                return Err(RoomError::Other(PublishError::Unavailable));
            }
        };
        match &appended.message {
            Some(message) => self.receive(message),
            None if appended.is_duplicate => {}
            None => self.catch_up(appended.position.offset),
        }
        Ok(appended)
    }

    /// Delivers a message that follows the one before, and reads the log when one is missing between
    /// them.
    fn receive(self: &Arc<Self>, message: &Arc<Message>) {
        // Before the lock, so that packets leave after it is released.
        let _turn = Turn::begin();
        let mut state = self.lock();
        if message.offset() <= state.delivered {
            return;
        }
        if message.offset() > state.delivered + 1 {
            drop(state);
            return self.catch_up(message.offset());
        }
        self.deliver(&mut state, message);
    }

    /// Delivers the next message to the members.
    fn deliver(&self, state: &mut State, message: &Arc<Message>) {
        state.delivered = message.offset();
        let delivery = Delivery {
            offset: message.offset(),
            packet: self.terms.outboxes.share(message.packet().clone()),
        };
        let delivered = state.members.deliver(&delivery, self.terms.outboxes.now());
        self.terms.outboxes.metrics().message_delivered(delivered);
    }

    /// Reads from the log what was not delivered, up to `offset` at least; one task does it.
    fn catch_up(self: &Arc<Self>, offset: u64) {
        let mut state = self.lock();
        state.newest = state.newest.max(offset);
        if std::mem::replace(&mut state.is_catching_up, true) {
            return;
        }
        drop(state);
        let room = self.clone();
        tokio::spawn(async move {
            while room.lock().must_catch_up() {
                if room.deliver_missing().await.is_err() {
                    tokio::time::sleep(CATCH_UP_PAUSE).await;
                }
            }
        });
    }

    /// Delivers what the log has beyond what was delivered. Messages that it does not keep any more
    /// are announced as a gap.
    async fn deliver_missing(&self) -> Result<(), LogError> {
        let newest = Selection {
            last: usize::MAX,
            ..Selection::default()
        };
        let extract = self.log.read(&newest).await?;
        let _turn = Turn::begin();
        let mut state = self.lock();
        for message in &extract.messages {
            if message.offset() <= state.delivered {
                continue;
            }
            if message.offset() > state.delivered + 1 {
                self.announce_gap(&mut state, &extract, message.offset() - 1);
            }
            self.deliver(&mut state, message);
        }
        if state.delivered < extract.position.offset {
            self.announce_gap(&mut state, &extract, extract.position.offset);
        }
        Ok(())
    }

    /// Tells the members that the messages up to `until` are not kept any more.
    fn announce_gap(&self, state: &mut State, extract: &Extract, until: u64) {
        let gap = json!({
            "room": self.name, "epoch": extract.position.epoch,
            "from": state.delivered + 1, "to": until,
        });
        state.delivered = until;
        tracing::warn!(room = %self.name, %gap, "messages were lost before they were delivered");
        if let Ok(packet) = outbox::event("/", "rt:gap", &gap) {
            let packet = self.terms.outboxes.share(packet);
            state.members.notify(&packet, self.terms.outboxes.now());
        }
    }

    /// Lets a client in: it joins, the log is read, and then it gets its answer and, after that,
    /// every message that the answer does not cover.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        subscriber: &Subscriber,
        options: &SubscribeOptions,
        answer: impl Fn(&Subscription) -> Option<Packet>,
    ) -> Result<(), RoomError<JoinError>> {
        self.join(subscriber)?;
        let selection = Selection {
            since: options.since.clone(),
            last: options.history.unwrap_or_default(),
            limit: None,
        };
        let extract = match self.log.read(&selection).await {
            Ok(extract) => extract,
            Err(LogError::Closed) => return Err(RoomError::Retired),
            Err(LogError::Unavailable) => {
                self.leave(&subscriber.connection);
                return Err(RoomError::Other(JoinError::Unavailable));
            }
        };
        loop {
            subscriber.outbox.wait_for_room().await;
            match self.admit(subscriber, options, &extract, &answer) {
                Err(SendError::Full) => {}
                Err(SendError::Closed) => return Err(RoomError::Other(JoinError::SessionEnded)),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn join(&self, subscriber: &Subscriber) -> Result<(), RoomError<JoinError>> {
        let mut state = self.lock();
        if state.is_retired {
            return Err(RoomError::Retired);
        }
        // Whoever ends a session closes its outbox before it leaves its rooms.
        if !subscriber.outbox.is_open_now() {
            return Err(RoomError::Other(JoinError::SessionEnded));
        }
        state.members.join(subscriber);
        Ok(())
    }

    /// Answers a subscription, and lets its messages follow.
    fn admit(
        self: &Arc<Self>,
        subscriber: &Subscriber,
        options: &SubscribeOptions,
        extract: &Extract,
        answer: impl Fn(&Subscription) -> Option<Packet>,
    ) -> Result<(), SendError> {
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
        let is_asked = options.presence != PresenceMode::Off;
        let connections = state.members.connections() + usize::from(!was_member);
        let subscription = Subscription {
            position: &extract.position,
            recovered: extract.recovered,
            messages: (options.since.is_some() && extract.recovered == Some(true)
                || options.history.is_some())
            .then_some(&extract.messages),
            presence: is_asked.then(|| {
                let limit = self.terms.presence.users;
                let people = &state.people;
                people.describe(options.presence, connections, limit, user.as_ref())
            }),
        };
        if let Some(packet) = answer(&subscription) {
            let packet = self.terms.outboxes.share(packet);
            if let Err(error) = subscriber.outbox.queue(&packet, now) {
                // Whoever cannot be answered has not been there for anybody.
                state
                    .people
                    .undo_enter(user.as_ref().filter(|_| !was_member));
                return Err(error);
            }
        }
        subscriber.outbox.flush();
        let offset = extract.position.offset;
        state.members.go_live(&subscriber.connection, offset, now)?;
        if let Some(member) = state.members.get_mut(&subscriber.connection) {
            member.user.clone_from(&user);
            member.mode = options.presence;
            member.may_watch = subscriber.may_watch;
        }
        if is_first && let Some(user) = user {
            let except = Some(&*subscriber.connection);
            self.announce(&mut state, Change::Join, user, except);
        }
        Ok(())
    }

    /// Takes a connection out; nothing happens when it is not in.
    pub(super) fn leave(self: &Arc<Self>, connection: &str) {
        let mut state = self.lock();
        let member = state.members.remove(connection);
        if let Some(user) = member.and_then(|member| member.user) {
            self.part(&mut state, &user);
        }
    }

    /// Counts a guest as the user that it has turned out to be.
    pub(super) fn identify(self: &Arc<Self>, subscriber: &Subscriber) {
        let Some(user) = User::of(&subscriber.sender) else {
            return;
        };
        let _turn = Turn::begin();
        let mut state = self.lock();
        let Some(member) = state.members.get_mut(&subscriber.connection) else {
            return;
        };
        if member.user.is_some() {
            return;
        }
        member.user = Some(user.clone());
        if state.people.enter(&user, subscriber.sender.name.as_ref()) {
            let except = Some(&*subscriber.connection);
            self.announce(&mut state, Change::Join, user, except);
        }
    }

    /// Notes whether a member's grants let it know who is in the room.
    pub(super) fn let_watch(&self, connection: &str, may_watch: bool) {
        if let Some(member) = self.lock().members.get_mut(connection) {
            member.may_watch = may_watch;
        }
    }

    /// Counts a connection of `user` off. Whether they have left is told when they have not come
    /// back for a while, so that a reconnection makes no noise.
    fn part(self: &Arc<Self>, state: &mut State, user: &User) {
        if !state.people.leave(user) {
            return;
        }
        let (room, gone) = (Arc::downgrade(self), user.clone());
        let at = Instant::now() + Duration::from_secs(self.terms.presence.leave_delay_secs);
        let timer = self.terms.timers.schedule(at, move || {
            if let Some(room) = room.upgrade() {
                room.remove(&gone);
            }
        });
        state.people.await_return(user, timer);
    }

    fn remove(self: &Arc<Self>, user: &User) {
        let _turn = Turn::begin();
        let mut state = self.lock();
        if state.people.remove(user) {
            self.announce(&mut state, Change::Leave, user.clone(), None);
        }
    }

    /// Announces that a user has come or left, or adds it to the next batch of a crowded room.
    fn announce(
        self: &Arc<Self>,
        state: &mut State,
        change: Change,
        user: User,
        except: Option<&str>,
    ) {
        if !is_crowded(state.members.connections()) {
            self.announce_batch(state);
            return self.announce_now(state, change, &[user], except);
        }
        if state.batch.push(change, user) {
            let room = Arc::downgrade(self);
            let at = Instant::now() + BATCH_INTERVAL;
            let timer = self.terms.timers.schedule(at, move || {
                if let Some(room) = room.upgrade() {
                    let _turn = Turn::begin();
                    room.announce_batch(&mut room.lock());
                }
            });
            state.batch.set_timer(timer);
        }
    }

    /// Announces what a crowded room has collected.
    fn announce_batch(&self, state: &mut State) {
        let changes = state.batch.take();
        for run in changes.chunk_by(|(one, _), (other, _)| one == other) {
            for part in run.chunks(self.terms.presence.users.max(1)) {
                let users: Vec<User> = part.iter().map(|(_, user)| user.clone()).collect();
                self.announce_now(state, part[0].0, &users, None);
            }
        }
    }

    fn announce_now(
        &self,
        state: &mut State,
        change: Change,
        users: &[User],
        except: Option<&str>,
    ) {
        let announcement = Announcement {
            change,
            room: &self.name,
            users,
            count: state.people.count(),
            connections: state.members.connections(),
            except,
        };
        let now = self.terms.outboxes.now();
        announcement.announce(&mut state.members, &self.terms.outboxes, now);
    }

    /// Reads a part of what is kept.
    pub(super) async fn read(&self, selection: &Selection) -> Result<Extract, LogError> {
        self.log.read(selection).await
    }

    /// Describes who is in the room to a client, and, if it is a member, tells it of changes from
    /// the same moment on, as `mode` says.
    pub(super) fn watch(
        &self,
        subscriber: &Subscriber,
        mode: PresenceMode,
        answer: impl FnOnce(&Presence) -> Option<Packet>,
    ) -> Result<(), SendError> {
        let mut state = self.lock();
        let presence = self.describe(&state, mode);
        if let Some(packet) = answer(&presence) {
            let packet = self.terms.outboxes.share(packet);
            subscriber
                .outbox
                .queue(&packet, self.terms.outboxes.now())?;
        }
        if let Some(member) = state.members.get_mut(&subscriber.connection) {
            member.mode = mode;
            member.may_watch = subscriber.may_watch;
        }
        drop(state);
        subscriber.outbox.flush();
        Ok(())
    }

    /// Describes who is in the room.
    pub(super) fn presence(&self, mode: PresenceMode) -> Presence {
        self.describe(&self.lock(), mode)
    }

    fn describe(&self, state: &State, mode: PresenceMode) -> Presence {
        let connections = state.members.connections();
        let limit = self.terms.presence.users;
        state.people.describe(mode, connections, limit, None)
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
        let is_idle = is_empty && state.members.is_empty() && state.people.count() == 0;
        if is_idle && self.log.close_if_empty() {
            state.is_retired = true;
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
