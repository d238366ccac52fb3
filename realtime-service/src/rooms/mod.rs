//! Rooms in memory: who is in which, and the order of their messages.

pub mod policy;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use shared_claims::ids::is_identifier;
use socketioxide::{SendError, SocketError, extract::SocketRef};

use crate::{
    gateway::Gateway,
    messages::{Message, Meta},
    metrics::Cause,
    session::{Session, random_id},
};

/// The name of a room that clients can name: segments split by `:`, none of them empty or a
/// pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RoomName(String);

/// The text is not the name of a room.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a room")]
pub struct InvalidRoomName;

impl RoomName {
    /// Takes `text` for the name of a room.
    ///
    /// # Errors
    ///
    /// When it is empty or too long, or has a control character, an empty segment or a wildcard.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidRoomName> {
        let text = text.into();
        let is_segment = |segment: &str| !segment.is_empty() && !segment.contains(['*', '{', '}']);
        if is_identifier(&text) && text.split(':').all(is_segment) {
            Ok(Self(text))
        } else {
            Err(InvalidRoomName)
        }
    }

    /// Its segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split(':')
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// All rooms of this gateway. A room exists while somebody is in it.
#[derive(Default)]
pub struct Rooms(Mutex<HashMap<RoomName, Arc<Room>>>);

/// Where in a room's stream of messages something stands.
#[derive(Clone, Debug, Serialize)]
pub struct Position {
    /// Which life of the room: it changes when the numbering begins anew.
    pub epoch: String,
    /// The number of the message in that life, from 1; 0 is before the first.
    pub offset: u64,
}

struct Room {
    epoch: String,
    state: Mutex<RoomState>,
}

/// Behind one lock, so that every member gets a room's messages in the order of their numbers.
#[derive(Default)]
struct RoomState {
    offset: u64,
    members: HashMap<String, Member>,
}

struct Member {
    socket: SocketRef,
    session: Arc<Session>,
}

impl Room {
    fn new() -> Self {
        Self {
            epoch: random_id(),
            state: Mutex::default(),
        }
    }

    fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    /// Puts a session into a room, and tells where the room stands: what comes after that it will
    /// receive. `None` when the session has ended meanwhile.
    pub fn join(
        &self,
        name: &RoomName,
        session: &Arc<Session>,
        socket: SocketRef,
    ) -> Option<Position> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut joined = session.rooms();
        // Whoever ends a session takes its rooms under the same lock, after the flag is set.
        if !session.is_live() {
            return None;
        }
        let room = rooms
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Room::new()));
        let mut state = room.state();
        let member = Member {
            socket,
            session: session.clone(),
        };
        state.members.insert(session.connection.clone(), member);
        joined.insert(name.clone());
        Some(room.position(state.offset))
    }

    /// Takes a session out of a room; nothing happens when it is not in it.
    pub fn leave(&self, name: &RoomName, session: &Session) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        session.rooms().remove(name);
        Self::remove(&mut rooms, name, session);
    }

    /// Takes a session out of all its rooms.
    pub fn leave_all(&self, session: &Session) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in std::mem::take(&mut *session.rooms()) {
            Self::remove(&mut rooms, &name, session);
        }
    }

    fn remove(rooms: &mut HashMap<RoomName, Arc<Room>>, name: &RoomName, session: &Session) {
        let Some(room) = rooms.get(name) else { return };
        let mut state = room.state();
        state.members.remove(&session.connection);
        let is_empty = state.members.is_empty();
        drop(state);
        if is_empty {
            rooms.remove(name);
        }
    }

    /// Gives `message` the next number of its room and sends it to everybody in it, the sender
    /// included if it is there.
    ///
    /// A member whose queue is full is closed: it may not miss a message without a word.
    pub fn publish(&self, message: &Message, gateway: &Gateway) -> Position {
        let room = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&message.room)
            .cloned();
        let room = room.unwrap_or_else(|| Arc::new(Room::new()));
        let (mut overflowed, mut delivered) = (Vec::new(), 0);
        let mut state = room.state();
        state.offset += 1;
        let position = room.position(state.offset);
        let meta = Meta::of(message, &position);
        for member in state
            .members
            .values()
            .filter(|member| member.session.is_live())
        {
            if send(member, message, &meta, gateway) {
                delivered += 1;
            } else {
                overflowed.push(member.session.clone());
            }
        }
        drop(state);
        gateway.metrics.message_published(delivered);
        for session in overflowed {
            tracing::warn!(connection = %session.connection, "closed: it takes messages too slowly");
            session.end(Cause::Overflowed);
        }
        position
    }
}

/// Queues a message for a member; `false` when its queue is full.
fn send(member: &Member, message: &Message, meta: &Meta<'_>, gateway: &Gateway) -> bool {
    // Counted before it is sent, or it could be written, and taken off, before it is counted.
    let bytes = message.data.get().len();
    if member.session.backlog().add(bytes) > gateway.limits.outbound_bytes {
        return false;
    }
    let sent = member.socket.emit(&message.event, &(&message.data, meta));
    // What fails otherwise is on its way out, and its disconnect handler will take it from there.
    !matches!(
        sent,
        Err(SendError::Socket(SocketError::InternalChannelFull))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_name_has_segments_that_are_no_patterns() {
        for good in ["lobby", "user:auth0%7C1", "org:acme:a", &"a".repeat(255)] {
            assert!(RoomName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            "a:",
            ":a",
            "a::b",
            "*",
            "a:**",
            "{sub}",
            "a\0",
            "a\u{202E}b",
            &long,
        ] {
            assert!(RoomName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
