//! The bodies of POSTs in long-polling, against the words of the two protocols.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    received::{self, Received},
    violation::Violation,
};

/// A packet, or the violation in its place.
type Decoded = Vec<Result<Packet, Violation>>;

#[derive(Debug, PartialEq, Eq)]
enum Packet {
    Text(String),
    Binary(Vec<u8>),
}

/// Checks one input: a byte for the form of the body, and the body.
///
/// # Panics
///
/// When the decoder does not do what the protocol says.
pub fn check(input: &[u8]) {
    let Some((form, body)) = input.split_first() else {
        return;
    };
    match form % 4 {
        0 => check_version_4(body),
        1 => assert_eq!(text_of_version_3(body), expected_text(body)),
        2 => assert_eq!(binary_of_version_3(body), expected_binary(body)),
        _ => check_base64(body),
    }
}

fn check_version_4(body: &[u8]) {
    match received::decode(body) {
        Ok(packets) => {
            let joined = packets.collect::<Vec<_>>().join("\u{1e}");
            assert_eq!(joined.as_bytes(), body);
        }
        Err(violation) => {
            assert_eq!(violation, Violation::InvalidText);
            assert!(std::str::from_utf8(body).is_err());
        }
    }
}

fn text_of_version_3(body: &[u8]) -> Result<Decoded, Violation> {
    let packets = received::decode_text(body)?;
    let packets = packets.map(|packet| packet.map(|text| Packet::Text(text.to_owned())));
    Ok(packets.collect())
}

/// The packets as JavaScript finds them: it counts and cuts UTF-16.
fn expected_text(body: &[u8]) -> Result<Decoded, Violation> {
    let text = std::str::from_utf8(body).map_err(|_| Violation::InvalidText)?;
    let units: Vec<u16> = text.encode_utf16().collect();
    let (mut packets, mut at) = (Vec::new(), 0);
    while at < units.len() {
        let digits = units[at..]
            .iter()
            .take_while(|unit| (48..58).contains(*unit))
            .count();
        let length = String::from_utf16_lossy(&units[at..at + digits]).parse::<usize>();
        let start = at + digits + 1;
        let packet = match length {
            Ok(length) if (1..=9).contains(&digits) && units.get(start - 1) == Some(&58) => {
                units.get(start..start + length)
            }
            _ => None,
        };
        // Half of a surrogate pair is no text.
        let Some(packet) = packet.and_then(|packet| String::from_utf16(packet).ok()) else {
            packets.push(Err(Violation::Protocol));
            break;
        };
        at = start + packet.encode_utf16().count();
        packets.push(Ok(Packet::Text(packet)));
    }
    Ok(packets)
}

fn binary_of_version_3(body: &[u8]) -> Decoded {
    received::decode_binary(body)
        .map(|packet| {
            packet.map(|packet| match packet {
                Received::Text(text) => Packet::Text(text.to_owned()),
                Received::Binary(data) => Packet::Binary(data.to_vec()),
            })
        })
        .collect()
}

fn expected_binary(body: &[u8]) -> Decoded {
    let (mut packets, mut at) = (Vec::new(), 0);
    while at < body.len() {
        let end = body[at..].iter().position(|byte| *byte == 0xFF);
        let head = &body[at..end.map_or(body.len(), |end| at + end)];
        let (kind, digits) = (head.first().copied(), head.get(1..).unwrap_or_default());
        let is_head = end.is_some()
            && matches!(kind, Some(0 | 1))
            && (1..=9).contains(&digits.len())
            && digits.iter().all(|digit| *digit < 10);
        let length = digits
            .iter()
            .take(9)
            .fold(0, |length, digit| 10 * length + usize::from(*digit));
        let start = at + head.len() + 1;
        let packet = is_head.then(|| body.get(start..start + length)).flatten();
        let Some(packet) = packet else {
            packets.push(Err(Violation::Protocol));
            break;
        };
        packets.push(match kind {
            Some(1) => Ok(Packet::Binary(packet.to_vec())),
            _ => String::from_utf8(packet.to_vec())
                .map(Packet::Text)
                .map_err(|_| Violation::InvalidText),
        });
        at = start + length;
    }
    packets
}

fn check_base64(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    for prefix in ["b", "b4"] {
        if let Ok(data) = received::decode_base64(text, prefix) {
            let unbroken = text.replace(['\r', '\n'], "");
            assert_eq!(format!("{prefix}{}", STANDARD.encode(data)), unbroken);
        }
    }
}
