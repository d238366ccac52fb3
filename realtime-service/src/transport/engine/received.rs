//! The bodies of POSTs in HTTP long-polling, divided into their packets.
//!
//! Engine.IO 4 separates packets by `\x1e`. Engine.IO 3 has the length of each packet before it: in text
//! as decimal digits and a colon, counted in UTF-16 code units, as JavaScript counts; in a body with
//! binary data as a byte for the kind of the packet, the digits of its length in bytes as a byte each,
//! and 0xFF.

use std::iter;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::violation::Violation;

/// Separates the packets of Engine.IO 4.
pub(super) const SEPARATOR: u8 = 0x1E;

/// Ends the length of a packet in a body with binary data.
pub(super) const END_OF_LENGTH: u8 = 0xFF;

/// The kinds of packets in a body with binary data.
pub(super) const TEXT: u8 = 0;
pub(super) const BINARY: u8 = 1;

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

/// Divides the body of a POST into its packets.
///
/// # Errors
///
/// When the body is not valid UTF-8.
pub(super) fn decode(body: &[u8]) -> Result<impl Iterator<Item = &str>, Violation> {
    let body = simdutf8::basic::from_utf8(body).map_err(|_| Violation::InvalidText)?;
    Ok(body.split(char::from(SEPARATOR)))
}

/// Decodes a message of binary data in base64 behind `prefix`: `b`, and in Engine.IO 3 the packet type.
/// Line breaks are passed over: the client for Java writes lines of 76 characters (RFC 2045, section 6.8).
///
/// # Errors
///
/// When the packet is not valid base64.
pub(super) fn decode_base64(packet: &str, prefix: &str) -> Result<Vec<u8>, Violation> {
    let base64 = packet.strip_prefix(prefix).ok_or(Violation::Protocol)?;
    let is_line_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let decoded = match base64.as_bytes().iter().any(is_line_break) {
        false => STANDARD.decode(base64),
        true => STANDARD.decode(base64.replace(['\r', '\n'], "")),
    };
    decoded.map_err(|_| Violation::Protocol)
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

// The fuzz targets compile this file too, under another module.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_decoded_packet_by_packet() {
        let packets: Vec<_> = decode(b"4hello\x1ebAQIDBA==\x1e").expect("UTF-8").collect();
        assert_eq!(packets, ["4hello", "bAQIDBA==", ""]);
        assert_eq!(decode(b"4\xFF").err(), Some(Violation::InvalidText));
    }

    #[test]
    fn base64_is_preceded_by_what_the_version_has() {
        let decoded = |packet, prefix| decode_base64(packet, prefix).ok();
        assert_eq!(decoded("bAQID", "b"), Some(vec![1, 2, 3]));
        assert_eq!(decoded("b4AQID", "b4"), Some(vec![1, 2, 3]));
        assert_eq!(decoded("b3AQID", "b4"), None);
        assert_eq!(decoded("bAQID*", "b"), None);
        assert_eq!(decoded("bAQ\r\nID\n", "b"), Some(vec![1, 2, 3]));
        assert_eq!(decoded("bAQ ID", "b"), None);
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
