//! The responses of HTTP long-polling in Engine.IO 4: packets that are separated by `\x1e`, binary data in
//! base64 after a `b`.

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::received::SEPARATOR;
use crate::transport::{Payload, Queued};

/// Encodes packets into the body of a response. The packets, and what they are charged to, live
/// until the body is written or dropped.
pub(super) fn encode(packets: Vec<Queued>) -> Bytes {
    if let [only] = packets.as_slice()
        && only.packet().payloads().nth(1).is_none()
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
    body(bytes, packets)
}

/// Wraps an encoded body. The packets, and what they are charged to, live until it is written or dropped.
pub(super) fn body(bytes: Vec<u8>, packets: Vec<Queued>) -> Bytes {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::Budget,
        transport::{Dialect, Packet},
    };

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
    fn a_packet_that_comes_alone_comes_with_its_attachments_in_every_form() {
        let attachments = [Bytes::from_static(&[1, 2]), Bytes::from_static(&[3])];
        let packet = Packet::message(4, |text| text.extend_from_slice(b"52-[]"), &attachments);
        for uses_base64 in [false, true] {
            let dialect = Dialect {
                uses_base64,
                ..Dialect::DEFAULT
            };
            let queued = queued(packet.clone()).for_client(dialect, &Budget::new(1000));
            assert_eq!(encode(vec![queued]), "452-[]\x1ebAQI=\x1ebAw==");
        }
    }
}
