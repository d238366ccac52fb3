//! Who is in a room, and the announcements of users who come and leave.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Room, State};
use crate::{
    outbox::SendError,
    rooms::{
        Presence, PresenceMode, Subscriber, User,
        announce::{Announcement, BATCH_INTERVAL, is_crowded},
        presence::Change,
    },
    transport::{Packet, turn::Turn},
};

impl Room {
    /// Counts a guest as the user that it has turned out to be.
    pub(in crate::rooms) fn identify(self: &Arc<Self>, subscriber: &Subscriber) {
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
        self.share(Some(&user));
        let is_first = state.people.enter(&user, subscriber.sender.name.as_ref());
        state.people.show(&user, subscriber.presence.as_ref());
        if is_first {
            let except = Some(&*subscriber.connection);
            self.announce(&mut state, Change::Join, user, except);
        }
    }

    /// Whether a member is told who comes and leaves.
    pub(in crate::rooms) fn is_watched_by(&self, connection: &str) -> bool {
        let mut state = self.lock();
        let member = state.members.get_mut(connection);
        member.is_some_and(|member| member.may_watch && member.mode != PresenceMode::Off)
    }

    /// Notes whether a member's grants let it know who is in the room.
    pub(in crate::rooms) fn let_watch(&self, connection: &str, may_watch: bool) {
        if let Some(member) = self.lock().members.get_mut(connection) {
            member.may_watch = may_watch;
        }
    }

    /// Counts a connection of `user` off. Whether they have left is told when they have not come
    /// back for a while, so that a reconnection makes no noise.
    pub(super) fn part(self: &Arc<Self>, state: &mut State, user: &User) {
        if !state.people.leave(user) {
            return;
        }
        let (room, gone) = (Arc::downgrade(self), user.clone());
        let at = Instant::now() + self.terms.presence.leave_delay();
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
        self.share(Some(user));
    }

    /// Announces that a user has come or left, or adds it to the next batch of a crowded room.
    pub(super) fn announce(
        self: &Arc<Self>,
        state: &mut State,
        change: Change,
        user: User,
        except: Option<&str>,
    ) {
        if !is_crowded(Self::connections_in(state)) {
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

    /// Announces several changes: those that follow one another and are of one kind, together.
    pub(super) fn announce_all(self: &Arc<Self>, state: &mut State, changes: Vec<(Change, User)>) {
        if is_crowded(Self::connections_in(state)) {
            for (change, user) in changes {
                self.announce(state, change, user, None);
            }
            return;
        }
        for (change, user) in changes {
            state.batch.push(change, user);
        }
        self.announce_batch(state);
    }

    /// Announces what the batch has collected.
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
            connections: Self::connections_in(state),
            except,
        };
        let now = self.terms.outboxes.now();
        announcement.announce(&mut state.members, &self.terms.outboxes, now);
    }

    /// Number of connections to all gateways.
    fn connections_in(state: &State) -> usize {
        state.members.connections() + state.people.connections_elsewhere()
    }

    /// Describes who is in the room to a client, and, if it is a member, announces changes to it from
    /// the same moment on, as `mode` says.
    pub(in crate::rooms) fn watch(
        &self,
        subscriber: &Subscriber,
        mode: PresenceMode,
        answer: impl FnOnce(&Presence) -> Option<Packet>,
    ) -> Result<(), SendError> {
        let mut state = self.lock();
        let presence = self.describe(&state, mode);
        if let Some(packet) = answer(&presence) {
            let packet = self.terms.outboxes.share(packet);
            let now = self.terms.outboxes.now();
            subscriber.outbox.queue(&packet, now)?;
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
    pub(in crate::rooms) fn presence(&self, mode: PresenceMode) -> Presence {
        self.describe(&self.lock(), mode)
    }

    fn describe(&self, state: &State, mode: PresenceMode) -> Presence {
        let connections = Self::connections_in(state);
        let limit = self.terms.presence.users;
        Presence {
            partial: self.is_partial(),
            ..state.people.describe(mode, connections, limit, None)
        }
    }
}
