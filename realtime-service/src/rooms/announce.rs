//! Announcements of users who come and leave: each at once in a small room, and many together in a
//! crowded one.

use std::time::Duration;

use serde::Serialize;

use super::{PresenceMode, RoomName, User, members::Members, presence::Change};
use crate::{
    outbox::{self, Now, OutboxContext, SendError},
    timers::Timer,
    transport::Queued,
};

/// Rooms with more connections are crowded.
const CROWD: usize = 50;

/// How long the announcements of a crowded room are collected.
pub(super) const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// What a crowded room has yet to announce.
#[derive(Default)]
pub(super) struct Batch {
    changes: Vec<(Change, User)>,
    /// Runs when the interval is over.
    timer: Option<Timer>,
}

impl Batch {
    /// Adds a change, and returns whether it is the first of the batch.
    pub(super) fn push(&mut self, change: Change, user: User) -> bool {
        self.changes.push((change, user));
        self.timer.is_none()
    }

    pub(super) fn set_timer(&mut self, timer: Timer) {
        self.timer = Some(timer);
    }

    /// Takes the changes out, and begins the next batch.
    pub(super) fn take(&mut self) -> Vec<(Change, User)> {
        self.timer = None;
        std::mem::take(&mut self.changes)
    }
}

/// Whether a room with so many connections announces in batches.
pub(super) fn is_crowded(connections: usize) -> bool {
    connections > CROWD
}

/// An announcement of one or several users.
pub(super) struct Announcement<'a> {
    pub(super) change: Change,
    pub(super) room: &'a RoomName,
    pub(super) users: &'a [User],
    /// How many users there are now.
    pub(super) count: usize,
    /// How many connections there are now.
    pub(super) connections: usize,
    /// The connection that it is about, which knows.
    pub(super) except: Option<&'a str>,
}

/// The payload of `rt:join` and `rt:leave`.
#[derive(Serialize)]
struct Payload<'a> {
    room: &'a RoomName,
    count: usize,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<&'a [User]>,
    /// Whether the subscriber missed an announcement before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    missed: bool,
}

impl Announcement<'_> {
    /// Queues the announcement for the subscribers who want it. A client for which too much waits is
    /// not closed on account of it: it is told with the next one that it has missed some.
    pub(super) fn announce(&self, members: &mut Members, context: &OutboxContext, now: Now) {
        let mut encoded: [Option<Queued>; 4] = Default::default();
        for member in members.iter_mut() {
            let is_meant = member.mode != PresenceMode::Off
                && member.may_watch
                && self.except != Some(&*member.connection);
            if !is_meant {
                continue;
            }
            let is_full = member.mode == PresenceMode::Full;
            let slot = &mut encoded[usize::from(is_full) + 2 * usize::from(member.has_missed)];
            let packet =
                slot.get_or_insert_with(|| self.encode(is_full, member.has_missed, context));
            // Messages go first: half of what may wait is for them alone.
            let limit = member.outbox.limit_bytes() / 2;
            let queued = member.outbox.queue_within(packet, limit, now);
            member.has_missed = queued == Err(SendError::Full);
            if queued.is_ok() {
                member.outbox.flush();
            }
        }
    }

    fn encode(&self, names: bool, missed: bool, context: &OutboxContext) -> Queued {
        let one = self.users.first().filter(|_| self.users.len() == 1);
        let payload = Payload {
            room: self.room,
            count: self.count,
            connections: self.connections,
            user: one.filter(|_| names),
            users: Some(self.users).filter(|_| names && one.is_none()),
            missed,
        };
        let namespace = self.room.namespace();
        let event = outbox::event(namespace, self.change.event(), &payload);
        // Names and numbers are always JSON.
        context.share(event.unwrap_or_else(|_| outbox::disconnect(namespace)))
    }
}
