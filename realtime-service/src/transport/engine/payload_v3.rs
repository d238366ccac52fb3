//! The responses of HTTP long-polling in Engine.IO 3: each packet behind its length.
//!
//! Text has the length in decimal digits and a colon, counted in UTF-16 code units, as JavaScript
//! counts. A body with binary data has a byte for the kind of each packet (0 is text), the digits of
//! its length in bytes as a byte each, and 0xFF.

use axum::body::Bytes;

use super::{
    payload::body,
    received::{BINARY, END_OF_LENGTH, TEXT},
    shared_body::SharedBody,
};
use crate::transport::{Payload, Queued};

/// Number of bytes that most lengths take.
const LENGTH_BYTES: usize = 8;

/// Encodes packets, which have the form of Engine.IO 3 already, into the body of a response. The
/// packets, and what they are charged to, live until the body is written or dropped.
pub(super) fn encode(packets: Vec<Queued>) -> Bytes {
    let payloads = || packets.iter().flat_map(|queued| queued.packet().payloads());
    let has_binary = payloads().any(is_binary_payload);
    let expected = packets
        .iter()
        .map(|queued| queued.packet().wire_bytes() + LENGTH_BYTES)
        .sum();
    let mut bytes = Vec::with_capacity(expected);
    for payload in payloads() {
        append_length(&mut bytes, payload, has_binary);
        bytes.extend_from_slice(match payload {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(data) => data,
        });
    }
    body(bytes, packets)
}

/// Encodes one large packet into a body that shares its bytes with those of other clients.
pub(super) fn share(packet: &Queued) -> SharedBody {
    let payloads = || packet.packet().payloads();
    let has_binary = payloads().any(is_binary_payload);
    let mut body = SharedBody::default();
    for (index, payload) in payloads().enumerate() {
        let mut length = Vec::with_capacity(LENGTH_BYTES);
        append_length(&mut length, payload, has_binary);
        body.push(length);
        body.push_payload(packet, index);
    }
    body
}

/// Whether a body that begins with `first` is one with binary data.
pub(super) fn is_binary(first: Option<u8>) -> bool {
    matches!(first, Some(TEXT | BINARY))
}

fn is_binary_payload(payload: Payload<'_>) -> bool {
    matches!(payload, Payload::Binary(_))
}

/// Appends what precedes a payload: its length, and in a body with binary data its kind.
fn append_length(bytes: &mut Vec<u8>, payload: Payload<'_>, has_binary: bool) {
    let (kind, length) = match payload {
        Payload::Text(text) if has_binary => (TEXT, text.len()),
        Payload::Binary(data) => (BINARY, data.len()),
        Payload::Text(text) => {
            let units = text.chars().map(char::len_utf16).sum::<usize>();
            bytes.extend_from_slice(units.to_string().as_bytes());
            return bytes.push(b':');
        }
    };
    bytes.push(kind);
    bytes.extend(length.to_string().bytes().map(|digit| digit - b'0'));
    bytes.push(END_OF_LENGTH);
}

#[cfg(test)]
mod tests {
    use super::{
        super::received::{self, Received},
        *,
    };
    use crate::{
        limits::Budget,
        transport::{Dialect, Packet, ProtocolVersion},
    };

    const DIALECT: Dialect = Dialect {
        version: ProtocolVersion::V3,
        uses_base64: false,
    };

    fn text(packet: &str) -> Queued {
        Queued::new(Packet::engine(packet), None)
    }

    #[test]
    fn text_has_its_length_in_utf_16() {
        let body = encode(vec![text("2"), text("4h\u{e9}\u{1F600}")]);
        assert_eq!(body, "1:25:4h\u{e9}\u{1F600}");
        let large = share(&text("4h\u{e9}\u{1F600}"));
        assert_eq!(large.joined(), "5:4h\u{e9}\u{1F600}".as_bytes());
        assert!(!is_binary(body.first().copied()));
        let packets: Vec<_> = received::decode_text(&body).expect("UTF-8").collect();
        assert_eq!(packets, [Ok("2"), Ok("4h\u{e9}\u{1F600}")]);
    }

    #[test]
    fn a_body_with_binary_data_has_its_lengths_in_bytes() {
        let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice("51-[\"\u{e9}\"]".as_bytes());
        let message = Packet::message(write, &[Bytes::from_static(&[1, 2])]);
        let message = message.for_client(DIALECT, &Budget::new(1000));
        let message = Queued::new(message.expect("another form"), None);
        let body = encode(vec![message.clone(), text("2")]);
        assert_eq!(share(&message).joined(), body[..body.len() - 4]);
        assert_eq!(
            &body[..],
            b"\x00\x01\x00\xff451-[\"\xc3\xa9\"]\x01\x03\xff\x04\x01\x02\x00\x01\xff2"
        );
        assert!(is_binary(body.first().copied()));
        let packets: Vec<_> = received::decode_binary(&body).collect();
        let expected = [
            Ok(Received::Text("451-[\"\u{e9}\"]")),
            Ok(Received::Binary(&[4, 1, 2])),
            Ok(Received::Text("2")),
        ];
        assert_eq!(packets, expected);
    }
}
