//! Adds `data` to refusals on their way out.
//!
//! Clients of Socket.IO 3 and 4 read `err.data` in `connect_error`, but socketioxide sends the
//! message alone. The message identifies its refusal, so the rest can be added where the bytes
//! leave the gateway: in the frames of a WebSocket, and in the bodies of polls. A session can be
//! refused in one namespace while it is admitted in another, so all of its frames are looked at;
//! but only the head of a frame, and what is no refusal passes untouched and uncopied. On the day
//! that socketioxide sends `data`, this file goes.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use serde::Deserialize;
use serde_json::json;
use shared_claims::Rejection;

use crate::transport::ProtocolVersion;

/// Separates the packets in the body of a poll (Engine.IO protocol 4).
const RECORD_SEPARATOR: u8 = 0x1E;

/// The longest frame that can be a refusal, and the longest head of an answer, in bytes. A refusal
/// is the name of its namespace longer than a few dozen bytes, and that is at most as long as a
/// frame of the client's.
const MAXIMUM_FRAME_BYTES: usize = 4096;

/// How a refusal begins: the packet types of Engine.IO and of Socket.IO.
const REFUSAL: &[u8] = b"44";

/// Whether a stream serves a session by a WebSocket, whose refusals are rewritten; shared by the
/// stream and whoever knows its session.
#[derive(Clone, Default)]
pub struct RefusalData(Arc<AtomicU8>);

impl RefusalData {
    /// Starts to rewrite. The next thing on the stream must be the answer to an upgrade.
    pub fn start(&self, version: ProtocolVersion) {
        self.0.store(version as u8, Ordering::Release);
    }

    /// Stops: the stream became no WebSocket after all.
    pub fn stop(&self) {
        self.0.store(0, Ordering::Release);
    }

    pub(super) fn version(&self) -> Option<ProtocolVersion> {
        match self.0.load(Ordering::Acquire) {
            3 => Some(ProtocolVersion::V3),
            4 => Some(ProtocolVersion::V4),
            _ => None,
        }
    }
}

/// The packet with its data, when it is a refusal of the closed list: `44{"message":"…"}`, or
/// `44/namespace,{"message":"…"}`.
fn with_data(packet: &[u8], version: ProtocolVersion) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Refused {
        message: String,
    }

    let packet = std::str::from_utf8(packet.strip_prefix(REFUSAL)?).ok()?;
    // The object can hold commas, so the namespace ends before its brace.
    let (namespace, json) = packet.split_at(packet.find('{')?);
    let Refused { message } = serde_json::from_str(json).ok()?;
    let rejection = Rejection::ALL
        .into_iter()
        .find(|one| one.message() == message)?;
    let data = json!({
        "message": message,
        "code": rejection.code(),
        "type": "UnauthorizedError",
        "reason": rejection.reason(),
    });
    let error = match version {
        ProtocolVersion::V4 => json!({ "message": message, "data": data }),
        ProtocolVersion::V3 => data,
    };
    Some(format!("44{namespace}{error}").into_bytes())
}

/// The body of a poll with the data of the refusals in it; `None` when there are none.
#[must_use]
pub fn in_body(body: &[u8], version: ProtocolVersion) -> Option<Vec<u8>> {
    if !body.windows(REFUSAL.len()).any(|bytes| bytes == REFUSAL) {
        return None;
    }
    match version {
        ProtocolVersion::V4 => {
            let packets = body.split(|byte| *byte == RECORD_SEPARATOR);
            let mut is_changed = false;
            let packets: Vec<Vec<u8>> = packets
                .map(|packet| match with_data(packet, version) {
                    Some(changed) => {
                        is_changed = true;
                        changed
                    }
                    None => packet.to_vec(),
                })
                .collect();
            is_changed.then(|| packets.join(&RECORD_SEPARATOR))
        }
        ProtocolVersion::V3 => in_body_of_protocol_3(body),
    }
}

/// The same for Engine.IO protocol 3, which writes `LENGTH:PACKET`, the length in characters.
fn in_body_of_protocol_3(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = std::str::from_utf8(body).ok()?;
    let (mut rewritten, mut is_changed) = (Vec::new(), false);
    while !rest.is_empty() {
        let (length, packets) = rest.split_once(':')?;
        let length: usize = length.parse().ok()?;
        let end = packets
            .char_indices()
            .nth(length)
            .map_or(packets.len(), |(end, _)| end);
        let (packet, after) = packets.split_at(end);
        let changed = with_data(packet.as_bytes(), ProtocolVersion::V3);
        is_changed |= changed.is_some();
        let packet = changed.unwrap_or_else(|| packet.as_bytes().to_vec());
        // What was rewritten is ASCII, so its bytes are its characters.
        let length = std::str::from_utf8(&packet).ok()?.chars().count();
        rewritten.extend_from_slice(format!("{length}:").as_bytes());
        rewritten.extend_from_slice(&packet);
        rest = after;
    }
    is_changed.then_some(rewritten)
}

/// Rewrites what one stream writes, from the answer to the upgrade on.
#[derive(Default)]
pub(super) struct Rewriter {
    /// What came in and waits for more: a head, or a frame that looks like a refusal.
    partial: Vec<u8>,
    /// Set once the head of the answer has passed.
    is_websocket: bool,
    /// Set when the stream is none that can be rewritten.
    has_given_up: bool,
    /// How much of the frame that is going out is still to come.
    rest: usize,
}

/// What a frame is, as far as its beginning shows.
enum Frame {
    /// None that is rewritten; so long in all.
    Other(usize),
    /// One that may be a refusal: how long its head and its payload are.
    Suspect(usize, usize),
    /// Too little of it is there.
    Unknown,
}

impl Rewriter {
    /// How many of the first of `bytes` can go out as they are. When there are none, [`Self::push`]
    /// takes them.
    pub(super) fn untouched(&self, bytes: &[u8]) -> usize {
        if self.has_given_up {
            return bytes.len();
        }
        if !self.is_websocket || self.holds_back() {
            return 0;
        }
        self.end_of_frames(bytes, bytes.len()).min(bytes.len())
    }

    /// Notes that so many of the first of `bytes`, all of them untouched, went out.
    pub(super) fn passed(&mut self, bytes: &[u8], written: usize) {
        let end = self.end_of_frames(bytes, written);
        self.rest = end.saturating_sub(written);
    }

    /// Where in `bytes` the frame ends that the first `until` of them reach into, or where one
    /// begins before that which is not to go out as it is.
    fn end_of_frames(&self, bytes: &[u8], until: usize) -> usize {
        let mut end = self.rest;
        while end < until
            && let Frame::Other(length) = frame(&bytes[end..])
        {
            end = end.saturating_add(length);
        }
        end
    }

    /// Takes `bytes` in, and appends to `out` what can go out by now.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        version: Option<ProtocolVersion>,
        out: &mut Vec<u8>,
    ) {
        self.partial.extend_from_slice(bytes);
        if let Some(version) = version {
            while !self.has_given_up && self.take_one(version, out) {}
        }
        if version.is_none() || self.has_given_up {
            out.append(&mut self.partial);
        }
    }

    /// Whether something came in that is not out yet.
    pub(super) fn holds_back(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Moves one head or frame out; `false` when there is no whole one.
    fn take_one(&mut self, version: ProtocolVersion, out: &mut Vec<u8>) -> bool {
        if !self.is_websocket {
            let Some(end) = self.partial.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.has_given_up = self.partial.len() > MAXIMUM_FRAME_BYTES;
                return false;
            };
            self.is_websocket = true;
            self.has_given_up = !self.partial.starts_with(b"HTTP/1.1 101 ");
            out.extend(self.partial.drain(..end + 4));
            return true;
        }
        match frame(&self.partial) {
            Frame::Unknown => false,
            Frame::Other(length) => {
                let there = length.min(self.partial.len());
                out.extend(self.partial.drain(..there));
                self.rest = length - there;
                true
            }
            Frame::Suspect(head, length) if self.partial.len() < head + length => false,
            Frame::Suspect(head, length) => {
                let frame: Vec<u8> = self.partial.drain(..head + length).collect();
                match with_data(&frame[head..], version) {
                    Some(packet) => append_text_frame(&packet, out),
                    None => out.extend_from_slice(&frame),
                }
                true
            }
        }
    }
}

/// What the frame at the beginning of `bytes` is.
fn frame(bytes: &[u8]) -> Frame {
    let Some((head, length)) = frame_length(bytes) else {
        return Frame::Unknown;
    };
    let payload = &bytes[head.min(bytes.len())..];
    let known = payload.len().min(REFUSAL.len());
    let is_other = bytes[0] != FINAL_TEXT
        || !(REFUSAL.len()..=MAXIMUM_FRAME_BYTES).contains(&length)
        || payload[..known] != REFUSAL[..known];
    match is_other {
        true => Frame::Other(head.saturating_add(length)),
        false => Frame::Suspect(head, length),
    }
}

/// The first byte of a text frame that is not continued (RFC 6455, section 5.2).
const FINAL_TEXT: u8 = 0x81;

/// How long a frame's head and its payload are; `None` when not even the head is whole. A server's
/// frames have no mask.
fn frame_length(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => {
            let length: [u8; 2] = bytes.get(2..4)?.try_into().ok()?;
            Some((4, usize::from(u16::from_be_bytes(length))))
        }
        127 => {
            let length: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            Some((
                10,
                usize::try_from(u64::from_be_bytes(length)).unwrap_or(usize::MAX),
            ))
        }
        length => Some((2, usize::from(length))),
    }
}

fn append_text_frame(payload: &[u8], out: &mut Vec<u8>) {
    out.push(FINAL_TEXT);
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(length),
        _ => {
            // A refusal is a few hundred bytes long.
            let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
