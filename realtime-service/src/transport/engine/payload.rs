//! The bodies of HTTP long-polling in Engine.IO 4: packets that are separated by `\x1e`, binary data in
//! base64 after a `b`.

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::violation::Violation;
use crate::transport::{Payload, ProtocolVersion, Queued};

const SEPARATOR: u8 = 0x1E;

/// Encodes packets into the body of a response. The packets, and what they are charged to, live
/// until the body is written or dropped.
pub(super) fn encode(packets: Vec<Queued>) -> Bytes {
    if let [only] = packets.as_slice()
        && only.packet().attachments().next().is_none()
    {
        return Bytes::from_owner(SinglePacket(packets));
    }
    // Enough for text; base64 is a third longer than binary data.
    let expected = packets
        .iter()
        .map(|queued| queued.packet().wire_bytes())
        .sum();
    let mut bytes = Vec::with_capacity(expected);
    for payload in packets.iter().flat_map(|queued| queued.packet().payloads()) {
        if !bytes.is_empty() {
            bytes.push(SEPARATOR);
        }
        match payload {
            Payload::Text(text) => bytes.extend_from_slice(text.as_bytes()),
            Payload::Binary(data) => {
                bytes.push(b'b');
                let start = bytes.len();
                bytes.resize(start + data.len().div_ceil(3) * 4, 0);
                // The buffer has exactly the length that base64 needs.
                let written = STANDARD.encode_slice(data, &mut bytes[start..]);
                bytes.truncate(start + written.unwrap_or_default());
            }
        }
    }
    Bytes::from_owner(Encoded {
        bytes,
        _packets: packets,
    })
}

/// A single text packet, whose own bytes are the body.
struct SinglePacket(Vec<Queued>);

impl AsRef<[u8]> for SinglePacket {
    fn as_ref(&self) -> &[u8] {
        self.0
            .first()
            .map_or(&[], |queued| queued.packet().text().as_bytes())
    }
}

struct Encoded {
    bytes: Vec<u8>,
    _packets: Vec<Queued>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Divides the body of a POST into its packets.
///
/// # Errors
///
/// When the body is not valid UTF-8.
pub(super) fn decode(body: &[u8]) -> Result<impl Iterator<Item = &str>, Violation> {
    let body = simdutf8::basic::from_utf8(body).map_err(|_| Violation::InvalidText)?;
    Ok(body.split(char::from(SEPARATOR)))
}

/// Decodes a message of binary data in base64: `b` before it, and in Engine.IO 3 the packet type.
///
/// # Errors
///
/// When the packet is not valid base64.
pub(super) fn decode_base64(packet: &str, version: ProtocolVersion) -> Result<Vec<u8>, Violation> {
    let prefix = match version {
        ProtocolVersion::V3 => "b4",
        ProtocolVersion::V4 => "b",
    };
    let base64 = packet.strip_prefix(prefix).ok_or(Violation::Protocol)?;
    STANDARD.decode(base64).map_err(|_| Violation::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Packet;

    fn queued(packet: Packet) -> Queued {
        Queued::new(packet, None)
    }

    #[test]
    fn packets_and_attachments_are_joined_by_the_separator() {
        let attachment = [Bytes::from_static(&[1, 2, 3, 4])];
        let binary = Packet::message(4, |text| text.extend_from_slice(b"51-[]"), &attachment);
        let packets = vec![
            queued(Packet::engine("2")),
            queued(Packet::control(crate::transport::Opcode::Pong, b"")),
            queued(binary),
        ];
        assert_eq!(encode(packets), "2\x1e451-[]\x1ebAQIDBA==");
        assert_eq!(encode(vec![queued(Packet::engine("4hello"))]), "4hello");
        assert_eq!(encode(Vec::new()), "");
    }

    #[test]
    fn a_body_is_decoded_packet_by_packet() {
        let packets: Vec<_> = decode(b"4hello\x1ebAQIDBA==\x1e").expect("UTF-8").collect();
        assert_eq!(packets, ["4hello", "bAQIDBA==", ""]);
        assert_eq!(decode(b"4\xFF").err(), Some(Violation::InvalidText));
    }

    #[test]
    fn base64_is_preceded_by_what_the_version_has() {
        let decoded = |packet, version| decode_base64(packet, version).ok();
        assert_eq!(decoded("bAQID", ProtocolVersion::V4), Some(vec![1, 2, 3]));
        assert_eq!(decoded("b4AQID", ProtocolVersion::V3), Some(vec![1, 2, 3]));
        assert_eq!(decoded("b3AQID", ProtocolVersion::V3), None);
        assert_eq!(decoded("bAQID*", ProtocolVersion::V4), None);
    }
}
