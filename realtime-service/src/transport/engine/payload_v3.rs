//! The bodies of HTTP long-polling in Engine.IO 3: each packet behind its length.
//!
//! Text has the length in decimal digits and a colon, counted in UTF-16 code units, as JavaScript
//! counts. A body with binary data has a byte for the kind of each packet (0 is text), the digits of
//! its length in bytes as a byte each, and 0xFF.

use std::iter;

use axum::body::Bytes;

use super::violation::Violation;
use crate::transport::{Payload, Queued};

/// Ends the length of a packet in a body with binary data.
const END_OF_LENGTH: u8 = 0xFF;

/// The kinds of packets in a body with binary data.
const TEXT: u8 = 0;
const BINARY: u8 = 1;

/// Maximum number of digits of a length.
const MAXIMUM_DIGITS: usize = 9;

/// A packet in the body of a POST.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// An Engine.IO packet as text, its type first.
    Text(&'a str),
    /// An Engine.IO packet as binary data, its type first as a number.
    Binary(&'a [u8]),
}

/// The body of a response.
struct Encoded {
    bytes: Vec<u8>,
    _packets: Vec<Queued>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Encodes packets, which have the form of Engine.IO 3 already, into the body of a response. The
/// packets, and what they are charged to, live until the body is written or dropped.
pub(super) fn encode(packets: Vec<Queued>) -> Bytes {
    let payloads = || packets.iter().flat_map(|queued| queued.packet().payloads());
    let has_binary = payloads().any(|payload| matches!(payload, Payload::Binary(_)));
    let expected = packets
        .iter()
        .map(|queued| queued.packet().wire_bytes() + MAXIMUM_DIGITS)
        .sum();
    let mut bytes = Vec::with_capacity(expected);
    for payload in payloads() {
        match payload {
            Payload::Text(text) if has_binary => append_binary(&mut bytes, TEXT, text.as_bytes()),
            Payload::Binary(data) => append_binary(&mut bytes, BINARY, data),
            Payload::Text(text) => {
                let units = text.chars().map(char::len_utf16).sum::<usize>();
                bytes.extend_from_slice(units.to_string().as_bytes());
                bytes.push(b':');
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    Bytes::from_owner(Encoded {
        bytes,
        _packets: packets,
    })
}

/// Whether a body is one with binary data.
pub(super) fn is_binary(body: &[u8]) -> bool {
    matches!(body.first(), Some(&(TEXT | BINARY)))
}

fn append_binary(bytes: &mut Vec<u8>, kind: u8, data: &[u8]) {
    bytes.push(kind);
    bytes.extend(data.len().to_string().bytes().map(|digit| digit - b'0'));
    bytes.push(END_OF_LENGTH);
    bytes.extend_from_slice(data);
}

/// Decodes the packets of a body of text, one after the other.
///
/// # Errors
///
/// When the body is not valid UTF-8; and in place of a packet whose length is none.
pub(super) fn decode_text(
    body: &[u8],
) -> Result<impl Iterator<Item = Result<&str, Violation>>, Violation> {
    let mut rest = simdutf8::basic::from_utf8(body).map_err(|_| Violation::InvalidText)?;
    Ok(iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((packet, after)) = split_text(rest) else {
            rest = "";
            return Some(Err(Violation::Protocol));
        };
        rest = after;
        Some(Ok(packet))
    }))
}

fn split_text(body: &str) -> Option<(&str, &str)> {
    let (length, packets) = body.split_once(':')?;
    let is_length =
        length.len() <= MAXIMUM_DIGITS && length.bytes().all(|one| one.is_ascii_digit());
    let length: usize = length.parse().ok().filter(|_| is_length)?;
    let mut units = 0;
    for (at, character) in packets.char_indices() {
        if units >= length {
            return (units == length).then(|| packets.split_at(at));
        }
        units += character.len_utf16();
    }
    (units == length).then_some((packets, ""))
}

/// Decodes the packets of a body with binary data, one after the other. In place of a packet that is
/// none there is an error, and then nothing.
pub(super) fn decode_binary(
    mut body: &[u8],
) -> impl Iterator<Item = Result<Received<'_>, Violation>> {
    iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let Some((kind, packet, rest)) = split_binary(body) else {
            body = &[];
            return Some(Err(Violation::Protocol));
        };
        body = rest;
        Some(match kind {
            BINARY => Ok(Received::Binary(packet)),
            _ => simdutf8::basic::from_utf8(packet)
                .map(Received::Text)
                .map_err(|_| Violation::InvalidText),
        })
    })
}

fn split_binary(body: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, packets) = body.split_first().filter(|(kind, _)| **kind <= BINARY)?;
    let digits = packets.iter().take(MAXIMUM_DIGITS + 1);
    let digits = digits.take_while(|digit| **digit < 10).count();
    let (length, packets) = packets.split_at(digits);
    let (&end, packets) = packets.split_first()?;
    if end != END_OF_LENGTH || !(1..=MAXIMUM_DIGITS).contains(&digits) {
        return None;
    }
    let length = length
        .iter()
        .fold(0, |length, digit| length * 10 + usize::from(*digit));
    let (packet, rest) = packets.split_at_checked(length)?;
    Some((*kind, packet, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(!is_binary(&body));
        let packets: Vec<_> = decode_text(&body).expect("UTF-8").collect();
        assert_eq!(packets, [Ok("2"), Ok("4h\u{e9}\u{1F600}")]);
        assert_eq!(decode_text(b"").expect("UTF-8").count(), 0);
    }

    #[test]
    fn a_body_with_binary_data_has_its_lengths_in_bytes() {
        let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice("51-[\"\u{e9}\"]".as_bytes());
        let message = Packet::message(5, write, &[Bytes::from_static(&[1, 2])]);
        let message = message.for_client(DIALECT, &Budget::new(1000));
        let message = Queued::new(message.expect("another form"), None);
        let body = encode(vec![message, text("2")]);
        assert_eq!(
            &body[..],
            b"\x00\x01\x00\xff451-[\"\xc3\xa9\"]\x01\x03\xff\x04\x01\x02\x00\x01\xff2"
        );
        assert!(is_binary(&body));
        let packets: Vec<_> = decode_binary(&body).collect();
        let expected = [
            Ok(Received::Text("451-[\"\u{e9}\"]")),
            Ok(Received::Binary(&[4, 1, 2])),
            Ok(Received::Text("2")),
        ];
        assert_eq!(packets, expected);
    }

    #[test]
    fn what_is_no_packet_ends_the_body() {
        for body in [
            "2",
            ":2",
            "2:2",
            "+1:2",
            "9999999999:2",
            "1:\u{1F600}",
            "1:2x",
        ] {
            let last = decode_text(body.as_bytes()).expect("UTF-8").last();
            assert_eq!(last, Some(Err(Violation::Protocol)), "{body}");
        }
        for body in [
            &b"\x02\x01\xff2"[..],
            b"\x00\xff",
            b"\x00\x01",
            b"\x00\x02\xff2",
            b"\x00\x01\x0a2",
            b"\x00\x01\xff2\x03",
            b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff2",
        ] {
            let last = decode_binary(body).last();
            assert_eq!(last, Some(Err(Violation::Protocol)), "{body:?}");
        }
        let last = decode_binary(b"\x00\x01\xff\xff").last();
        assert_eq!(last, Some(Err(Violation::InvalidText)));
    }
}
