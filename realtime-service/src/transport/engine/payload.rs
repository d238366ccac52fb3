//! The responses of HTTP long-polling in Engine.IO 4: packets that are separated by `\x1e`, binary data in
//! base64 after a `b`.

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    received::SEPARATOR,
    shared_body::{SharedBody, shared_payload},
};
use crate::{
    limits::{Budget, Charge},
    transport::{Dialect, Payload, Queued},
};

/// Maximum length of several packets that are joined in a body, in bytes of their frames. A client has a copy of
/// its own of what is joined.
pub(super) const JOINED_BYTES: usize = 64 * 1024;

/// Encodes packets into the body of a response. The packets, and what they are charged to, live
/// until the body is written or dropped.
pub(super) fn encode(packets: Vec<Queued>) -> Bytes {
    if let [only] = packets.as_slice()
        && only.packet().payload_bytes(1).is_none()
    {
        return shared_payload(only.clone(), 0);
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

/// Encodes one large packet into a body that shares its bytes, in base64 too, with those of other clients.
pub(super) fn share(packet: Queued) -> SharedBody {
    let dialect = Dialect {
        uses_base64: true,
        ..Dialect::DEFAULT
    };
    let budget = packet.budget().cloned();
    let packet = packet.for_client(dialect, &budget.unwrap_or_else(|| Budget::new(0)));
    let mut body = SharedBody::default();
    for index in 0..packet.packet().payloads().count() {
        if index > 0 {
            body.push(Bytes::from_static(&[SEPARATOR]));
        }
        body.push_payload(&packet, index);
    }
    body
}

/// Wraps an encoded body, which is charged to the account of its packets. The packets live until it is written or
/// dropped.
pub(super) fn body(bytes: Vec<u8>, packets: Vec<Queued>) -> Bytes {
    let budget = packets.iter().find_map(Queued::budget);
    let charge = budget.map(|budget| budget.charge(bytes.capacity()));
    Bytes::from_owner(Encoded {
        bytes,
        _packets: packets,
        _charge: charge,
    })
}

struct Encoded {
    bytes: Vec<u8>,
    _packets: Vec<Queued>,
    _charge: Option<Charge>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::transport::Packet;

    fn queued(packet: Packet) -> Queued {
        Queued::new(packet, None)
    }

    #[test]
    fn packets_and_attachments_are_joined_by_the_separator() {
        let attachment = [Bytes::from_static(&[1, 2, 3, 4])];
        let binary = Packet::message(|text| text.extend_from_slice(b"51-[]"), &attachment);
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
        let packet = Packet::message(|text| text.extend_from_slice(b"52-[]"), &attachments);
        for uses_base64 in [false, true] {
            let dialect = Dialect {
                uses_base64,
                ..Dialect::DEFAULT
            };
            let queued = queued(packet.clone()).for_client(dialect, &Budget::new(1000));
            assert_eq!(encode(vec![queued]), "452-[]\x1ebAQI=\x1ebAw==");
        }
    }

    #[test]
    fn a_joined_body_is_charged_and_a_large_packet_is_shared_by_the_bodies_of_all_clients() {
        let budget = Budget::new(0);
        let attachments = [Bytes::from(vec![7; 3_000]), Bytes::from_static(&[3])];
        for (attachments, copies) in [(&attachments[..0], 0), (&attachments, 1)] {
            let text = "x".repeat(10_000);
            let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice(text.as_bytes());
            let packet = Packet::message(write, attachments);
            let charge = Arc::new(budget.charge(packet.memory()));
            let large = Queued::new(packet, Some(charge));
            let charged = budget.used();
            let expected = encode(vec![large.clone()]);
            let bodies: Vec<_> = (0..100).map(|_| share(large.clone())).collect();
            assert!(bodies.iter().all(|body| body.joined() == expected));
            drop(expected);
            let most = charged + copies * 2 * charged;
            assert!(
                (charged..=most).contains(&budget.used()),
                "{} bytes",
                budget.used()
            );
            drop(bodies);
            assert_eq!(budget.used(), charged);

            let small = queued(Packet::engine("4a"));
            let joined = encode(vec![small, large]);
            assert!(budget.used() >= charged + joined.len());
            drop(joined);
            assert_eq!(budget.used(), 0);
        }
    }
}
