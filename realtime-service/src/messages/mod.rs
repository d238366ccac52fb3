//! Messages: what is published, what may not be, and what subscribers get with it.

mod data;
mod portable;
mod publish;
mod recent_ids;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use shared_claims::ids::is_identifier;

pub(crate) use self::{data::null, publish::publish};
pub use self::{
    data::{Data, InvalidData},
    portable::is_portable,
    recent_ids::{ID_LIFETIME, MessageKey, RecentIds},
};
use crate::{
    rooms::{Position, RoomName},
    session::Sender,
};

/// The longest name of an event, in bytes.
const MAXIMUM_EVENT_BYTES: usize = 128;

/// How deep the arrays and objects of a message may nest: what every client's parser can take.
const MAXIMUM_DEPTH: usize = 100;

/// Names that Socket.IO's clients and event emitters keep for themselves, and our own: a peer's
/// listener for one of these must never be fired by another peer.
const RESERVED_EVENTS: [&str; 14] = [
    "authenticate",
    "authenticated",
    "unauthorized",
    "connect",
    "connecting",
    "connect_error",
    "connect_timeout",
    "disconnect",
    "disconnecting",
    "error",
    "ping",
    "pong",
    "newListener",
    "removeListener",
];

/// Prefixes of such names.
const RESERVED_PREFIXES: [&str; 2] = ["rt:", "reconnect"];

/// Whether clients may publish events of this name.
#[must_use]
pub fn is_publishable(event: &str) -> bool {
    is_identifier(event)
        && event.len() <= MAXIMUM_EVENT_BYTES
        && !RESERVED_EVENTS.contains(&event)
        && !RESERVED_PREFIXES
            .iter()
            .any(|prefix| event.starts_with(prefix))
}

/// A message on its way to a room.
pub struct Message {
    /// Where to.
    pub room: RoomName,
    /// The name of the event that subscribers listen for.
    pub event: String,
    /// What it says.
    pub data: Data,
    /// Its id: the publisher's, or a random one.
    pub id: String,
    /// Who sent it.
    pub from: Sender,
    /// When it came, in milliseconds since the epoch.
    pub ts: u64,
}

/// A message with its place in its room.
pub struct Published {
    /// The message.
    pub message: Message,
    /// Its place.
    pub position: Position,
}

/// What a subscriber gets with a message, as the second argument of its event.
#[derive(Serialize)]
pub struct Meta<'a> {
    room: &'a RoomName,
    #[serde(flatten)]
    position: &'a Position,
    id: &'a str,
    ts: u64,
    from: &'a Sender,
}

impl Published {
    /// The arguments of its event.
    #[must_use]
    pub fn arguments(&self) -> (&Data, Meta<'_>) {
        (&self.message.data, self.meta())
    }

    /// What a subscriber gets with it.
    #[must_use]
    pub fn meta(&self) -> Meta<'_> {
        let Message {
            room, id, ts, from, ..
        } = &self.message;
        Meta {
            room,
            position: &self.position,
            id,
            ts: *ts,
            from,
        }
    }
}

/// As it is read later: its event, and the arguments of it.
impl Serialize for Published {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("Published", 3)?;
        members.serialize_field("event", &self.message.event)?;
        members.serialize_field("data", &self.message.data)?;
        members.serialize_field("meta", &self.meta())?;
        members.end()
    }
}

/// Milliseconds since the epoch.
#[must_use]
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a JSON text nests its arrays and objects no deeper than every client can parse.
#[must_use]
pub fn is_shallow(json: &str) -> bool {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAXIMUM_DEPTH {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_peers_listen_for_by_themselves_cannot_be_published() {
        for name in RESERVED_EVENTS {
            assert!(!is_publishable(name), "{name}");
        }
        for name in ["rt:join", "reconnect", "reconnect_attempt", "", "a\0"] {
            assert!(!is_publishable(name), "{name:?}");
        }
        assert!(!is_publishable(&"a".repeat(129)));
        for name in [
            "message",
            "chat:typing",
            "connected",
            "Disconnect",
            &"a".repeat(128),
        ] {
            assert!(is_publishable(name), "{name}");
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        assert!(is_shallow(&format!(
            "{}{}",
            "[".repeat(100),
            "]".repeat(100)
        )));
        assert!(!is_shallow(&format!(
            "{}{}",
            "[".repeat(101),
            "]".repeat(101)
        )));
        assert!(is_shallow(&format!("\"{}\"", "[".repeat(1000))));
        assert!(!is_shallow(&format!(
            "[\"\\\"\", {}",
            "{\"a\":".repeat(101)
        )));
        assert!(is_shallow(&"[],".repeat(1000)));
    }
}
