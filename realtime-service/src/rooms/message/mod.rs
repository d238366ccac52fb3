//! Messages: what may be published, and what subscribers get.

mod data;
mod scan;

use std::ops::Range;

use axum::body::Bytes;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use shared_claims::ids::is_identifier;

pub use self::data::{Data, InvalidData, is_portable, null};
use super::{Position, RoomName, Sender};
use crate::{
    outbox::{self, append_json},
    transport::Packet,
};

/// The longest name of an event, in bytes.
const MAXIMUM_EVENT_BYTES: usize = 128;

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

/// Expected size of what stands beside the data in a packet, in bytes.
const EXPECTED_META_BYTES: usize = 1024;

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

/// A message on its way to a room, which will number it.
pub struct Draft {
    /// The room.
    pub room: RoomName,
    /// The name of the event that subscribers listen for.
    pub event: String,
    /// The content.
    pub data: Data,
    /// Its id: the publisher's, or a random one.
    pub id: String,
    /// The sender.
    pub from: Sender,
    /// When it was published, in milliseconds since the Unix epoch.
    pub ts: u64,
}

/// A message with its place in its room, in the packet that its subscribers get.
pub struct Message {
    offset: u64,
    packet: Packet,
    /// Where the parts are in the text of the packet.
    event: Range<usize>,
    data: Range<usize>,
    meta: Range<usize>,
    /// Where the number of each attachment is in `data`.
    digits: Box<[Range<usize>]>,
}

/// A message without its place. Its event, its id and its sender are values, or JSON that was encoded before.
pub(in crate::rooms) struct Parts<'a, Text, From> {
    pub(in crate::rooms) room: &'a RoomName,
    pub(in crate::rooms) event: Text,
    pub(in crate::rooms) data: &'a Data,
    pub(in crate::rooms) id: Text,
    pub(in crate::rooms) from: From,
    pub(in crate::rooms) ts: u64,
}

impl Message {
    /// Encodes `draft` with its place in its room.
    #[must_use]
    pub fn encode(draft: &Draft, position: &Position) -> Self {
        Self::join(
            &Parts {
                room: &draft.room,
                event: &draft.event,
                data: &draft.data,
                id: &draft.id,
                from: &draft.from,
                ts: draft.ts,
            },
            position,
        )
    }

    /// Joins the parts of a message with its place in its room.
    pub(in crate::rooms) fn join<Text: Serialize, From: Serialize>(
        parts: &Parts<'_, Text, From>,
        position: &Position,
    ) -> Self {
        let (data, attachments) = (parts.data.json(), parts.data.attachments());
        let (mut event_bytes, mut meta_bytes) = (0, 0);
        let write = |json: &mut Vec<u8>| {
            // Otherwise the buffer of a large message would grow twice.
            json.reserve(data.len() + EXPECTED_META_BYTES);
            json.push(b'[');
            event_bytes = append_json(json, "", &parts.event);
            json.push(b',');
            json.extend_from_slice(data.as_bytes());
            json.push(b',');
            // A derived `Serialize` would look at each byte of the names.
            meta_bytes = append_json(json, r#"{"room":"#, parts.room)
                + append_json(json, r#","epoch":"#, &position.epoch)
                + append_json(json, r#","offset":"#, &position.offset)
                + append_json(json, r#","id":"#, &parts.id)
                + append_json(json, r#","ts":"#, &parts.ts)
                + append_json(json, r#","from":"#, &parts.from)
                + "}".len();
            json.extend_from_slice(b"}]");
        };
        let packet = outbox::event_of(parts.room.namespace(), write, attachments);
        let end = packet.text_bytes() - "]".len();
        let meta = end - meta_bytes..end;
        let data = meta.start - 1 - data.len()..meta.start - 1;
        let event = data.start - 1 - event_bytes..data.start - 1;
        let digits = parts.data.placeholders().iter();
        Self {
            offset: position.offset,
            packet,
            event,
            data,
            meta,
            digits: digits.map(|place| place.digits.clone()).collect(),
        }
    }

    /// Its number in the room.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The packet that its subscribers get.
    #[must_use]
    pub fn packet(&self) -> &Packet {
        &self.packet
    }

    /// The memory that it takes, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let digits = self.digits.len() * size_of::<Range<usize>>();
        size_of::<Self>() + digits + self.packet.memory()
    }

    /// The name of its event.
    #[must_use]
    pub fn event(&self) -> String {
        serde_json::from_str(self.part(&self.event)).unwrap_or_default()
    }

    /// Its content, with `{"base64": …}` in the places of binary data.
    #[must_use]
    pub fn data(&self) -> Value {
        data::with_base64(self.part(&self.data), self.packet.attachments())
    }

    /// The second argument of its event: the room, its place and its sender.
    #[must_use]
    pub fn meta(&self) -> Value {
        serde_json::from_str(self.part(&self.meta)).unwrap_or_default()
    }

    fn part(&self, part: &Range<usize>) -> &str {
        &self.packet.text()[part.clone()]
    }

    /// Appends `{"event":…,"data":…,"meta":…}` to `json`, and its attachments to `attachments`,
    /// under the numbers that they have there.
    fn append_to(&self, json: &mut String, attachments: &mut Vec<Bytes>) {
        json.push_str("{\"event\":");
        json.push_str(self.part(&self.event));
        json.push_str(",\"data\":");
        let (data, first) = (self.part(&self.data), attachments.len());
        let mut end = 0;
        for digits in &self.digits {
            json.push_str(&data[end..digits.start]);
            let number: usize = data[digits.clone()].parse().unwrap_or_default();
            json.push_str(&(first + number).to_string());
            end = digits.end;
        }
        json.push_str(&data[end..]);
        json.push_str(",\"meta\":");
        json.push_str(self.part(&self.meta));
        json.push('}');
        attachments.extend(self.packet.attachments().map(Bytes::copy_from_slice));
    }
}

/// Messages as they are read later: a JSON array, with placeholders for the attachments.
pub struct MessageList {
    /// The array.
    pub json: Box<RawValue>,
    /// The binary data of all messages.
    pub attachments: Vec<Bytes>,
}

/// Encodes messages for a client that reads them later.
pub fn list<'a>(messages: impl Iterator<Item = &'a Message>) -> MessageList {
    let (mut json, mut attachments) = ("[".to_owned(), Vec::new());
    for message in messages {
        if json.len() > 1 {
            json.push(',');
        }
        message.append_to(&mut json, &mut attachments);
    }
    json.push(']');
    // The parts of a message are always JSON.
    let json = RawValue::from_string(json).unwrap_or_else(|_| null());
    MessageList { json, attachments }
}

#[cfg(test)]
mod tests;
