//! Packets in the bytes in which they leave the gateway.

use std::{
    borrow::Cow,
    cell::Cell,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use smallvec::SmallVec;

use super::{Dialect, ProtocolVersion};
use crate::limits::{Budget, Charge};

/// The longest header of an unmasked WebSocket frame, in bytes (RFC 6455, section 5.2).
const MAXIMUM_HEADER_BYTES: usize = 10;

/// Number of dialects in which a packet with attachments differs from the default.
const FORMS: usize = 3;

/// The Engine.IO packet type of a message, which precedes each Socket.IO packet.
const MESSAGE: u8 = b'4';

/// Maximum size of the buffer that a thread keeps for the next packet, in bytes.
const MAXIMUM_BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    /// The buffer into which a packet's text is written, before its length is known.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A packet for clients, encoded once: clones share the bytes.
///
/// The bytes are WebSocket frames of Engine.IO 4: a text frame, then a binary frame for each
/// attachment. A carrier with another framing reads the [payloads](Packet::payloads), and clients of
/// another dialect get another [form](Packet::for_client).
#[derive(Clone)]
pub struct Packet(Arc<Encoded>);

struct Encoded {
    /// The frames, one after the other.
    bytes: Box<[u8]>,
    frames: SmallVec<[Frame; 1]>,
    /// The forms for clients of other dialects, as long as a queue holds them.
    forms: OnceLock<Box<[Mutex<Weak<Encoded>>; FORMS]>>,
    /// The bytes of a form that differs from the packet that was charged.
    charge: Option<Charge>,
}

struct Frame {
    opcode: Opcode,
    payload: Range<usize>,
}

/// What a WebSocket frame carries (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text = 0x1,
    /// Binary data.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// A WebSocket ping, which Engine.IO does not use.
    Ping = 0x9,
    /// The answer to a WebSocket ping.
    Pong = 0xA,
}

/// The content of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// An Engine.IO packet as text, its type first.
    Text(&'a str),
    /// The data of an attachment, without an Engine.IO packet type.
    Binary(&'a [u8]),
}

impl Packet {
    /// Encodes an Engine.IO packet, for example `2` for a ping.
    #[must_use]
    pub fn engine(text: &str) -> Self {
        Self::encode(text.as_bytes(), &[])
    }

    /// Encodes a Socket.IO packet: the text that `write` appends (without the Engine.IO type), and
    /// its attachments.
    ///
    /// `write` must append valid UTF-8.
    #[must_use]
    pub fn message(write: impl FnOnce(&mut Vec<u8>), attachments: &[Bytes]) -> Self {
        let mut text = BUFFER.take();
        text.clear();
        text.push(MESSAGE);
        write(&mut text);
        let packet = Self::encode(&text, attachments);
        // As freed memory is: the buffer keeps no packet.
        text.fill(0);
        if text.capacity() <= MAXIMUM_BUFFER_BYTES {
            BUFFER.set(text);
        }
        packet
    }

    /// Encodes a WebSocket control frame. It has no payload for other carriers.
    #[must_use]
    pub fn control(opcode: Opcode, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(MAXIMUM_HEADER_BYTES + payload.len());
        let payload = append_frame(&mut bytes, opcode, payload);
        let frames = SmallVec::from_iter([Frame { opcode, payload }]);
        Self(Arc::new(Encoded::new(bytes, frames)))
    }

    /// Wraps bytes that are no frames. They have no payload for other carriers.
    #[must_use]
    pub(super) fn raw(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Encoded::new(bytes, SmallVec::new())))
    }

    fn encode(text: &[u8], attachments: &[Bytes]) -> Self {
        let lengths = attachments.iter().map(Bytes::len);
        let frame_bytes = |length: usize| header(Opcode::Text, length).1 + length;
        let all = frame_bytes(text.len()) + lengths.map(frame_bytes).sum::<usize>();
        // Exactly as much as is needed: a history keeps the packet.
        let mut bytes = Vec::with_capacity(all);
        let mut frames = SmallVec::with_capacity(1 + attachments.len());
        frames.push(Frame {
            opcode: Opcode::Text,
            payload: append_frame(&mut bytes, Opcode::Text, text),
        });
        for data in attachments {
            let payload = append_frame(&mut bytes, Opcode::Binary, data);
            frames.push(Frame {
                opcode: Opcode::Binary,
                payload,
            });
        }
        Self(Arc::new(Encoded::new(bytes, frames)))
    }

    /// Returns the form of the packet for clients of `dialect`, charged to `budget`; `None` when they
    /// take the packet as it is. Clients of one dialect share the form while a queue holds it.
    ///
    /// Engine.IO 3 precedes binary data by the packet type, as a byte, and base64 by `b` and the
    /// type; Engine.IO 4 precedes base64 by `b` alone.
    #[must_use]
    pub fn for_client(&self, dialect: Dialect, budget: &Arc<Budget>) -> Option<Self> {
        if dialect == Dialect::DEFAULT || self.attachments().next().is_none() {
            return None;
        }
        let forms = self.0.forms.get_or_init(Box::default);
        let form = match (dialect.version, dialect.uses_base64) {
            (ProtocolVersion::V3, false) => &forms[0],
            (ProtocolVersion::V3, true) => &forms[1],
            (ProtocolVersion::V4, _) => &forms[2],
        };
        let mut form = form.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = form.upgrade() {
            return Some(Self(shared));
        }
        let mut encoded = self.encode_for(dialect);
        encoded.charge = Some(budget.charge(encoded.memory()));
        let shared = Arc::new(encoded);
        *form = Arc::downgrade(&shared);
        Some(Self(shared))
    }

    fn encode_for(&self, dialect: Dialect) -> Encoded {
        // Without base64 only Engine.IO 3 has another form: its packet type as a byte.
        let prefix = match dialect.uses_base64 {
            true => dialect.version.base64_prefix().as_bytes(),
            false => &[MESSAGE - b'0'],
        };
        let (mut bytes, mut frames) = (Vec::with_capacity(self.wire_bytes()), SmallVec::new());
        for payload in self.payloads() {
            let (opcode, payload) = match payload {
                Payload::Text(text) => (Opcode::Text, Cow::Borrowed(text.as_bytes())),
                Payload::Binary(data) if dialect.uses_base64 => {
                    let base64 = STANDARD.encode(data);
                    (Opcode::Text, [prefix, base64.as_bytes()].concat().into())
                }
                Payload::Binary(data) => (Opcode::Binary, [prefix, data].concat().into()),
            };
            let payload = append_frame(&mut bytes, opcode, &payload);
            frames.push(Frame { opcode, payload });
        }
        Encoded::new(bytes, frames)
    }

    /// The WebSocket frames, one after the other.
    #[must_use]
    pub fn frames(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The content of the text and binary frames, in order.
    pub fn payloads(&self) -> impl Iterator<Item = Payload<'_>> {
        self.data_frames().map(|frame| {
            let payload = &self.0.bytes[frame.payload.clone()];
            match frame.opcode {
                // Only UTF-8 is written there.
                Opcode::Text => Payload::Text(std::str::from_utf8(payload).unwrap_or_default()),
                _ => Payload::Binary(payload),
            }
        })
    }

    /// The bytes of the payload number `index`, without a look at each of them.
    #[must_use]
    pub fn payload_bytes(&self, index: usize) -> Option<&[u8]> {
        let frame = self.data_frames().nth(index)?;
        Some(&self.0.bytes[frame.payload.clone()])
    }

    /// The text and binary frames, in order.
    fn data_frames(&self) -> impl Iterator<Item = &Frame> {
        let is_data = |frame: &&Frame| matches!(frame.opcode, Opcode::Text | Opcode::Binary);
        self.0.frames.iter().filter(is_data)
    }

    /// The Engine.IO packet in the first frame, as text: for a Socket.IO packet it begins with `4`.
    #[must_use]
    pub fn text(&self) -> &str {
        match self.payloads().next() {
            Some(Payload::Text(text)) => text,
            _ => "",
        }
    }

    /// The length of [`Self::text`], in bytes.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match self.0.frames.first() {
            Some(frame) if frame.opcode == Opcode::Text => frame.payload.len(),
            _ => 0,
        }
    }

    /// The data of the attachments, in order.
    pub fn attachments(&self) -> impl Iterator<Item = &[u8]> {
        self.payloads().filter_map(|payload| match payload {
            Payload::Binary(data) => Some(data),
            Payload::Text(_) => None,
        })
    }

    /// The length of the frames, in bytes: what a WebSocket client receives.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.frames().len()
    }

    /// The account of a form that differs from the packet that was charged.
    pub(super) fn budget(&self) -> Option<&Arc<Budget>> {
        self.0.charge.as_ref().map(Charge::budget)
    }

    /// The memory that the packet takes, in bytes, however many clones share it.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}

impl Encoded {
    fn new(bytes: Vec<u8>, frames: SmallVec<[Frame; 1]>) -> Self {
        Self {
            bytes: bytes.into_boxed_slice(),
            frames,
            forms: OnceLock::new(),
            charge: None,
        }
    }

    fn memory(&self) -> usize {
        let inline = size_of::<Self>() + 2 * size_of::<usize>();
        let spilled = match self.frames.spilled() {
            true => self.frames.capacity() * size_of::<Frame>(),
            false => 0,
        };
        // The forms of a packet with attachments: their places, and what is left of each once no queue
        // holds it.
        let forms = match self.frames.len() {
            0 | 1 => 0,
            _ => FORMS * (size_of::<Mutex<Weak<Self>>>() + inline),
        };
        inline + spilled + self.bytes.len() + forms
    }
}

/// Appends a frame, and returns where its payload is.
fn append_frame(bytes: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) -> Range<usize> {
    let (header, length) = header(opcode, payload.len());
    bytes.extend_from_slice(&header[..length]);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    start..bytes.len()
}

/// The header of an unmasked final frame (RFC 6455, section 5.2), and its length.
fn header(opcode: Opcode, payload: usize) -> ([u8; MAXIMUM_HEADER_BYTES], usize) {
    const FINAL: u8 = 0x80;
    let mut header = [0; MAXIMUM_HEADER_BYTES];
    header[0] = FINAL | opcode as u8;
    match payload {
        0..=125 => {
            header[1] = payload as u8;
            (header, 2)
        }
        126..=0xFFFF => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
            (header, 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_length_that_its_payload_needs() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (0xFFFF, vec![0x81, 126, 0xFF, 0xFF]),
            (0x1_0000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = "a".repeat(length);
            let packet = Packet::engine(&text);
            assert_eq!(packet.frames()[..header.len()], header, "{length}");
            assert_eq!(packet.wire_bytes(), header.len() + length);
            assert_eq!(packet.text(), text);
        }
    }

    #[test]
    fn attachments_follow_the_text_in_frames_of_their_own() {
        let attachments = [Bytes::from_static(b"\x01\x02"), Bytes::new()];
        let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice(b"52-[\"a\"]");
        let packet = Packet::message(write, &attachments);
        let expected = [
            Payload::Text("452-[\"a\"]"),
            Payload::Binary(b"\x01\x02"),
            Payload::Binary(b""),
        ];
        assert_eq!(packet.payloads().collect::<Vec<_>>(), expected);
        assert_eq!(
            packet.frames(),
            b"\x81\x09452-[\"a\"]\x82\x02\x01\x02\x82\x00"
        );
    }

    #[test]
    fn a_control_frame_is_for_websockets_alone() {
        let packet = Packet::control(Opcode::Close, &1009_u16.to_be_bytes());
        assert_eq!(packet.frames(), [0x88, 2, 0x03, 0xF1]);
        assert_eq!(packet.payloads().count(), 0);
    }

    #[test]
    fn clients_of_a_dialect_share_a_form_that_is_charged_once() {
        let budget = Budget::new(1000);
        let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice(b"51-[]");
        let packet = Packet::message(write, &[Bytes::from_static(b"\x01\x02")]);
        assert!(packet.for_client(Dialect::DEFAULT, &budget).is_none());
        let dialect = |version, uses_base64| Dialect {
            version,
            uses_base64,
        };
        for (dialect, attachment) in [
            (
                dialect(ProtocolVersion::V3, false),
                &b"\x82\x03\x04\x01\x02"[..],
            ),
            (dialect(ProtocolVersion::V3, true), b"\x81\x06b4AQI="),
            (dialect(ProtocolVersion::V4, true), b"\x81\x05bAQI="),
        ] {
            let form = packet.for_client(dialect, &budget).expect("another form");
            assert_eq!(form.frames(), [b"\x81\x06451-[]", attachment].concat());
            let again = packet.for_client(dialect, &budget).expect("another form");
            assert!(Arc::ptr_eq(&form.0, &again.0));
            assert_eq!(budget.used(), form.memory());
            drop((form, again));
            assert_eq!(budget.used(), 0);
            assert!(Packet::engine("4").for_client(dialect, &budget).is_none());
        }
    }
}
