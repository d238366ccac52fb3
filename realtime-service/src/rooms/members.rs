//! The sockets in a room, and how they are told what goes on in it.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use serde_json::json;
use shared_claims::authorization::Action;
use socketioxide::extract::SocketRef;

use super::RoomName;
use crate::{
    messages::Published,
    presence::{PresenceMode, User},
    session::Session,
};

/// The sockets in a room, by their connections.
#[derive(Default)]
pub(super) struct Members(HashMap<String, Member>);

/// A socket in a room.
pub(super) struct Member {
    pub(super) socket: SocketRef,
    pub(super) session: Arc<Session>,
    pub(super) user: Option<User>,
    pub(super) mode: PresenceMode,
    /// Whether it was not told of somebody who came or left, since too much waited for it.
    has_missed: bool,
    /// Whether a message did not fit into its queue. Its session ends on account of that, and until
    /// then nothing may follow in the place of what is missing.
    is_short: bool,
}

/// Somebody has come or left.
pub(super) struct Change<'a> {
    /// `rt:join` or `rt:leave`.
    pub(super) event: &'static str,
    /// Where.
    pub(super) room: &'a RoomName,
    /// Who.
    pub(super) user: &'a User,
    /// How many users there are now.
    pub(super) count: usize,
    /// The connection that it is about, which knows.
    pub(super) except: Option<&'a str>,
}

impl Member {
    pub(super) fn new(
        (session, socket): (&Arc<Session>, &SocketRef),
        user: Option<User>,
        mode: PresenceMode,
    ) -> Self {
        Self {
            socket: socket.clone(),
            session: session.clone(),
            user,
            mode,
            has_missed: false,
            is_short: false,
        }
    }

    /// Queues an event; `false` when too much waits already.
    fn emit(&self, event: &str, data: &impl Serialize, bytes: usize, most: usize) -> bool {
        self.session
            .send(&self.socket, (event, data), (bytes, most))
    }

    /// Whether it is to be told who comes and leaves.
    fn watches(&self, room: &RoomName) -> bool {
        self.mode != PresenceMode::Off
            && self.session.is_live()
            && self.session.identity().grants.allow(Action::Presence, room)
    }
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, session: &Session) -> bool {
        self.0.contains_key(&session.connection)
    }

    pub(super) fn get_mut(&mut self, session: &Session) -> Option<&mut Member> {
        self.0.get_mut(&session.connection)
    }

    pub(super) fn insert(&mut self, member: Member) {
        self.0.insert(member.session.connection.clone(), member);
    }

    pub(super) fn remove(&mut self, session: &Session) -> Option<Member> {
        self.0.remove(&session.connection)
    }

    /// Queues a message for every member; gives how many there were, and those for which too much
    /// waits: they may not miss a message without a word.
    pub(super) fn deliver(
        &mut self,
        published: &Published,
        most: usize,
    ) -> (usize, Vec<Arc<Session>>) {
        let (mut delivered, mut overflowed) = (0, Vec::new());
        let (event, arguments) = (&published.message.event, published.arguments());
        let bytes = published.message.data.bytes();
        let live = |member: &&mut Member| member.session.is_live() && !member.is_short;
        for member in self.0.values_mut().filter(live) {
            if member.emit(event, &arguments, bytes, most) {
                delivered += 1;
            } else {
                member.is_short = true;
                overflowed.push(member.session.clone());
            }
        }
        (delivered, overflowed)
    }

    /// Tells those who want to know that somebody has come or left. A client for which too much
    /// waits is not closed on account of it: it is told with the next one that it has missed some.
    pub(super) fn announce(&mut self, change: &Change<'_>, most: usize) {
        let counted = json!({
            "room": change.room, "count": change.count, "connections": self.len(),
        });
        let mut named = counted.clone();
        named["user"] = json!(change.user);
        for (connection, member) in &mut self.0 {
            if change.except == Some(connection) || !member.watches(change.room) {
                continue;
            }
            let mut data = match member.mode {
                PresenceMode::Full => named.clone(),
                PresenceMode::Count | PresenceMode::Off => counted.clone(),
            };
            if member.has_missed {
                data["missed"] = json!(true);
            }
            let bytes = data.to_string().len();
            // Messages go first: half of what may wait is for them alone.
            member.has_missed = !member.emit(change.event, &data, bytes, most / 2);
        }
    }
}
