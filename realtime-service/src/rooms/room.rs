//! One room: its members, the order of its messages, what is kept of them, and who is there.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socketioxide::extract::SocketRef;
use tokio::time::Instant;

use super::{
    Epoch, Position, RoomName,
    members::{Change, Member, Members},
    subscription::{Entry, Wanted},
};
use crate::{
    config::{HistorySettings, PresenceSettings},
    history::{History, Since},
    messages::{Message, MessageKey, Published, RecentIds},
    presence::{People, Presence, PresenceMode, User},
    session::{Session, random_id},
    timers::Timers,
};

/// What all rooms share.
pub(super) struct Terms {
    pub(super) history: HistorySettings,
    pub(super) presence: PresenceSettings,
    /// The most bytes that may wait for one client.
    pub(super) outbound_bytes: usize,
    pub(super) timers: Arc<Timers>,
    /// About how many bytes all rooms keep for those who come back.
    pub(super) kept_bytes: AtomicUsize,
}

/// A room that somebody is in, or of which something is kept.
pub(super) struct Room {
    name: RoomName,
    epoch: Epoch,
    terms: Arc<Terms>,
    state: Mutex<State>,
}

/// Behind one lock, so that every member gets a room's messages in the order of their numbers, and
/// a new one all of those that come after what it is told.
#[derive(Default)]
struct State {
    offset: u64,
    members: Members,
    history: History,
    recent_ids: RecentIds,
    people: People,
    /// Whether another room stands in its place by now. Whoever finds it so looks again.
    is_gone: bool,
}

/// What became of a message.
pub struct Acceptance {
    /// Its place in the room.
    pub position: Position,
    /// Whether it had been published before.
    pub is_duplicate: bool,
}

/// A part of what is kept.
pub struct Extract {
    /// Where the room's messages stand.
    pub position: Position,
    /// The messages, oldest first.
    pub messages: Vec<Arc<Published>>,
    /// Whether there is more after the last of them.
    pub more: bool,
    /// Whether nothing is missing before the first of them; `None` when nobody asked.
    pub recovered: Option<bool>,
}

/// What a message has done.
pub(super) struct Sent {
    pub(super) acceptance: Acceptance,
    pub(super) delivered: usize,
    /// Members for which too much waits: they may not miss a message without a word.
    pub(super) overflowed: Vec<Arc<Session>>,
}

/// Why somebody is not in a room.
pub(super) enum Outside<E> {
    /// Another room stands in the place of this one.
    Gone,
    /// Its session has ended.
    Ended,
    /// What it wants to know could not be told.
    Untold(E),
}

impl Room {
    pub(super) fn new(name: RoomName, terms: Arc<Terms>) -> Self {
        Self {
            name,
            epoch: Epoch(random_id().into()),
            terms,
            state: Mutex::default(),
        }
    }

    /// Puts a socket in, and tells it `Entry` in the same moment: what is published before has its
    /// place in it, and what is published after follows it.
    pub(super) fn enter<E>(
        self: &Arc<Self>,
        (session, socket): (&Arc<Session>, &SocketRef),
        wanted: &Wanted,
        tell: impl FnOnce(&Entry) -> Result<(), E>,
    ) -> Result<(), Outside<E>> {
        self.change(|state| {
            if state.is_gone {
                return Err(Outside::Gone);
            }
            state.history.trim(Instant::now(), &self.terms.history);
            let mut joined = session.rooms();
            // Whoever ends a session takes its rooms away after the flag is set.
            if !session.is_live() {
                return Err(Outside::Ended);
            }
            let sender = &session.identity().sender;
            let user = User::of(sender);
            let is_new = !state.members.contains(session);
            let newcomer = user.as_ref().filter(|_| is_new);
            let newcomer = newcomer.map(|user| (user, sender.name.as_ref()));
            let connections = state.members.len() + usize::from(is_new);
            // Nothing has changed yet: who cannot be told has not been there for anybody.
            tell(&self.entry(state, wanted, (newcomer, connections))).map_err(Outside::Untold)?;
            let member = Member::new((session, socket), user.clone(), wanted.presence);
            state.members.insert(member);
            joined.insert(self.name.clone());
            if let Some((user, name)) = newcomer
                && state.people.enter(user, name)
            {
                self.announce(state, "rt:join", (user, Some(&session.connection)));
            }
            Ok(())
        })
    }

    /// What somebody is told who enters: of who is there, with themselves, and so many `connections`.
    fn entry(
        &self,
        state: &State,
        wanted: &Wanted,
        (newcomer, connections): (Option<(&User, Option<&String>)>, usize),
    ) -> Entry {
        let missed = wanted.since.as_ref();
        let missed = missed.map(|since| self.missed(state, since));
        let last = || wanted.history.map(|count| state.history.last(count));
        let is_asked = wanted.presence != PresenceMode::Off;
        let most = self.terms.presence.users;
        Entry {
            position: self.position(state.offset),
            recovered: missed.as_ref().map(Option::is_some),
            messages: missed.flatten().or_else(last),
            presence: is_asked.then(|| {
                let people = &state.people;
                people.describe_with(newcomer, wanted.presence, (connections, most))
            }),
        }
    }

    /// Takes a session out; nothing happens when it is not in.
    pub(super) fn leave(self: &Arc<Self>, session: &Session) {
        self.change(|state| {
            let member = state.members.remove(session);
            if let Some(user) = member.and_then(|member| member.user) {
                self.part(state, &user);
            }
        });
    }

    /// Counts a guest as the user that it has turned out to be.
    pub(super) fn identify(self: &Arc<Self>, session: &Session) {
        let sender = &session.identity().sender;
        let Some(user) = User::of(sender) else { return };
        self.change(|state| {
            let Some(member) = state.members.get_mut(session) else {
                return;
            };
            if member.user.is_some() {
                return;
            }
            member.user = Some(user.clone());
            if state.people.enter(&user, sender.name.as_ref()) {
                self.announce(state, "rt:join", (&user, Some(&session.connection)));
            }
        });
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
                room.change(|state| {
                    if state.people.remove(&gone) {
                        room.announce(state, "rt:leave", (&gone, None));
                    }
                });
            }
        });
        state.people.await_return(user, timer);
    }

    /// Tells the members that `user` has come or left.
    fn announce(
        &self,
        state: &mut State,
        event: &'static str,
        (user, except): (&User, Option<&str>),
    ) {
        let change = Change {
            event,
            room: &self.name,
            user,
            count: state.people.count(),
            except,
        };
        state.members.announce(&change, self.terms.outbound_bytes);
    }

    /// Gives a message the next number, keeps it, and sends it to everybody in the room, its sender
    /// included. What was published before under the same key is not published again. When another
    /// room stands in the place of this one, the message is given back.
    pub(super) fn publish(
        &self,
        message: Message,
        key: Option<MessageKey>,
    ) -> Result<Sent, Box<(Message, Option<MessageKey>)>> {
        let now = Instant::now();
        self.change(|state| {
            if state.is_gone {
                return Err(Box::new((message, key)));
            }
            state.recent_ids.trim(now);
            if let Some(offset) = key.as_ref().and_then(|key| state.recent_ids.find(key)) {
                return Ok(Sent {
                    acceptance: Acceptance {
                        position: self.position(offset),
                        is_duplicate: true,
                    },
                    delivered: 0,
                    overflowed: Vec::new(),
                });
            }
            state.offset += 1;
            if let Some(key) = key {
                state.recent_ids.insert(key, state.offset, now);
            }
            let position = self.position(state.offset);
            let published = Arc::new(Published { message, position });
            let most = self.terms.outbound_bytes;
            let (delivered, overflowed) = state.members.deliver(&published, most);
            let acceptance = Acceptance {
                position: published.position.clone(),
                is_duplicate: false,
            };
            state.history.push(published, now, &self.terms.history);
            Ok(Sent {
                acceptance,
                delivered,
                overflowed,
            })
        })
    }

    /// What is kept: after `since`, or the last ones, `limit` at most.
    pub(super) fn read(&self, since: Option<&Since>, limit: usize) -> Extract {
        self.change(|state| {
            state.history.trim(Instant::now(), &self.terms.history);
            let missed = since.map(|since| self.missed(state, since));
            let recovered = missed.as_ref().map(Option::is_some);
            let last = || state.history.last(limit);
            let mut messages = missed.flatten().unwrap_or_else(last);
            let more = messages.len() > limit;
            messages.truncate(limit);
            Extract {
                position: self.position(state.offset),
                messages,
                more,
                recovered,
            }
        })
    }

    /// Tells a session who is in it, and, if it is a member, of those who come and leave from the same
    /// moment on, as `mode` says.
    pub(super) fn watch<E>(
        &self,
        session: &Session,
        mode: PresenceMode,
        tell: impl FnOnce(&Presence) -> Result<(), E>,
    ) -> Result<(), E> {
        let most = self.terms.presence.users;
        self.change(|state| {
            tell(&state.people.describe(mode, state.members.len(), most))?;
            if let Some(member) = state.members.get_mut(session) {
                member.mode = mode;
            }
            Ok(())
        })
    }

    /// Who is in it.
    pub(super) fn presence(&self, mode: PresenceMode) -> Presence {
        let most = self.terms.presence.users;
        self.change(|state| state.people.describe(mode, state.members.len(), most))
    }

    /// How many sockets are in it.
    pub(super) fn connections(&self) -> usize {
        self.change(|state| state.members.len())
    }

    /// Lets go of what is too old, and tells whether the room is needed no more.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.change(|state| {
            state.history.trim(now, &self.terms.history);
            state.recent_ids.trim(now);
            state.is_idle()
        })
    }

    /// Is gone from now on, if it is needed no more; tells whether it is.
    pub(super) fn retire(&self) -> bool {
        self.change(|state| {
            state.is_gone = state.is_idle();
            state.is_gone
        })
    }

    /// Forgets what it keeps, to make room for others; what its members have seen stands.
    pub(super) fn forget_messages(&self) {
        self.change(|state| {
            state.history.clear();
            state.recent_ids.clear();
        });
    }

    /// About how much it keeps, in bytes, and when the newest of that was published.
    pub(super) fn kept(&self) -> (usize, Option<Instant>) {
        self.change(|state| (state.kept_bytes(), state.history.newest_at()))
    }

    /// What was said after `since`; `None` when it is not all there.
    fn missed(&self, state: &State, since: &Since) -> Option<Vec<Arc<Published>>> {
        let is_same_life = *since.epoch == *self.epoch.0;
        is_same_life.then(|| state.history.after(since.offset, state.offset))?
    }

    fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset,
        }
    }

    /// Does something to the room, and counts what it keeps afterwards.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.kept_bytes();
        let result = work(&mut state);
        let after = state.kept_bytes();
        let total = &self.terms.kept_bytes;
        if after >= before {
            total.fetch_add(after - before, Ordering::Relaxed);
        } else {
            total.fetch_sub(before - after, Ordering::Relaxed);
        }
        result
    }
}

impl State {
    fn kept_bytes(&self) -> usize {
        self.history.bytes() + self.recent_ids.bytes()
    }

    fn is_idle(&self) -> bool {
        self.members.is_empty() && self.people.count() == 0 && self.kept_bytes() == 0
    }
}
