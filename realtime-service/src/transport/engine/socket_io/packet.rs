//! Socket.IO packets in their text form (protocol 4 and 5): type, number of attachments, namespace, id, JSON.
//!
//! The JSON is not parsed here: the handler parses it into the type that it expects.

use std::io::Write as _;

use super::super::violation::Violation;

/// The namespace of a packet that names none.
pub const ROOT: &str = "/";

/// The type of a Socket.IO packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PacketType {
    /// Joins a namespace, or confirms that.
    Connect = b'0',
    /// Leaves a namespace.
    Disconnect = b'1',
    /// An event.
    Event = b'2',
    /// The acknowledgement of an event.
    Acknowledgement = b'3',
    /// The refusal of a CONNECT.
    ConnectError = b'4',
    /// An event with attachments.
    BinaryEvent = b'5',
    /// An acknowledgement with attachments.
    BinaryAcknowledgement = b'6',
}

impl PacketType {
    fn parse(byte: u8) -> Option<Self> {
        Some(match byte {
            b'0' => Self::Connect,
            b'1' => Self::Disconnect,
            b'2' => Self::Event,
            b'3' => Self::Acknowledgement,
            b'4' => Self::ConnectError,
            b'5' => Self::BinaryEvent,
            b'6' => Self::BinaryAcknowledgement,
            _ => return None,
        })
    }

    /// Whether attachments follow a packet of this type.
    fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAcknowledgement)
    }
}

/// A Socket.IO packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketPacket<'a> {
    pub(super) packet_type: PacketType,
    pub(super) attachments: usize,
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    pub(super) json: &'a str,
}

impl<'a> SocketPacket<'a> {
    /// Parses a packet, without its Engine.IO type.
    ///
    /// # Errors
    ///
    /// When a client sends no such packet.
    pub(super) fn parse(text: &'a str) -> Result<Self, Violation> {
        Self::split(text)
            .filter(Self::is_valid)
            .ok_or(Violation::Protocol)
    }

    fn split(text: &'a str) -> Option<Self> {
        let packet_type = PacketType::parse(*text.as_bytes().first()?)?;
        let mut rest = &text[1..];
        let mut attachments = 0;
        if packet_type.is_binary() {
            let (count, after) = take_number(rest)?;
            attachments = count?.try_into().ok()?;
            rest = after.strip_prefix('-')?;
        }
        let mut namespace = ROOT;
        if rest.starts_with('/') {
            // A packet of a namespace without id and JSON may end without the comma.
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let (id, json) = take_number(rest)?;
        Some(Self {
            packet_type,
            attachments,
            namespace,
            id,
            json,
        })
    }

    /// Whether a client sends packets of this form. Of the JSON, only the brackets are looked at.
    fn is_valid(&self) -> bool {
        let is_array = self.json.starts_with('[') && self.json.ends_with(']');
        match self.packet_type {
            // No JSON begins with a slash: it would be the namespace.
            PacketType::Connect => self.id.is_none() && !self.json.starts_with('/'),
            PacketType::Disconnect => self.id.is_none() && self.json.is_empty(),
            PacketType::Event | PacketType::BinaryEvent => is_array && self.json.len() > 2,
            PacketType::Acknowledgement | PacketType::BinaryAcknowledgement => {
                is_array && self.id.is_some()
            }
            PacketType::ConnectError => false,
        }
    }
}

/// Takes the digits at the start of `text`; `None` when the number does not fit.
fn take_number(text: &str) -> Option<(Option<u64>, &str)> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    match digits {
        "" => Some((None, rest)),
        digits => Some((Some(digits.parse().ok()?), rest)),
    }
}

/// Appends everything of a packet that comes before its JSON. `attachments` counts for the binary
/// types alone.
pub fn write_header(
    buffer: &mut Vec<u8>,
    packet_type: PacketType,
    attachments: usize,
    namespace: &str,
    id: Option<u64>,
) {
    buffer.push(packet_type as u8);
    // A write to a vector does not fail.
    if packet_type.is_binary() {
        let _ = write!(buffer, "{attachments}-");
    }
    if namespace != ROOT {
        buffer.extend_from_slice(namespace.as_bytes());
        buffer.push(b',');
    }
    if let Some(id) = id {
        let _ = write!(buffer, "{id}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(
        packet_type: PacketType,
        attachments: usize,
        namespace: &'a str,
        id: Option<u64>,
        json: &'a str,
    ) -> SocketPacket<'a> {
        SocketPacket {
            packet_type,
            attachments,
            namespace,
            id,
            json,
        }
    }

    #[test]
    fn packets_are_parsed_and_written_alike() {
        for (text, expected) in [
            ("0", packet(PacketType::Connect, 0, "/", None, "")),
            (
                "0{\"token\":1}",
                packet(PacketType::Connect, 0, "/", None, "{\"token\":1}"),
            ),
            (
                "0/custom,{}",
                packet(PacketType::Connect, 0, "/custom", None, "{}"),
            ),
            ("1", packet(PacketType::Disconnect, 0, "/", None, "")),
            (
                "212[\"a\",\"/b,c\"]",
                packet(PacketType::Event, 0, "/", Some(12), "[\"a\",\"/b,c\"]"),
            ),
            (
                "3/a,18446744073709551615[]",
                packet(PacketType::Acknowledgement, 0, "/a", Some(u64::MAX), "[]"),
            ),
            (
                "52-/a,7[\"b\"]",
                packet(PacketType::BinaryEvent, 2, "/a", Some(7), "[\"b\"]"),
            ),
            (
                "61-0[{}]",
                packet(PacketType::BinaryAcknowledgement, 1, "/", Some(0), "[{}]"),
            ),
        ] {
            assert_eq!(SocketPacket::parse(text), Ok(expected), "{text}");
            let mut written = Vec::new();
            let SocketPacket {
                packet_type,
                attachments,
                namespace,
                id,
                json,
            } = expected;
            write_header(&mut written, packet_type, attachments, namespace, id);
            written.extend_from_slice(json.as_bytes());
            assert_eq!(String::from_utf8(written).as_deref(), Ok(text));
        }
        let without_comma = SocketPacket::parse("1/custom").expect("valid");
        assert_eq!(without_comma.namespace, "/custom");
    }

    #[test]
    fn packets_that_no_client_sends_are_refused() {
        for text in [
            "",
            "abc",
            "7",
            "2",
            "2{}",
            "2[]",
            "2abc[\"a\"]",
            "2[\"a\"",
            "2-1[\"a\"]",
            "218446744073709551616[\"a\"]",
            "3[1]",
            "31{}",
            "1[1]",
            "11",
            "05{}",
            "0/,/custom,{}",
            "4{\"message\":\"a\"}",
            "5[\"a\"]",
            "5-[\"a\"]",
            "5x-[\"a\"]",
            "51[\"a\"]",
            "599999999999999999999-[\"a\"]",
            "61-[1]",
        ] {
            assert_eq!(
                SocketPacket::parse(text),
                Err(Violation::Protocol),
                "{text}"
            );
        }
    }
}
