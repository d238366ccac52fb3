//! The packets in the answer to a poll, as socketioxide encodes them.

use super::{ProtocolVersion, listener::is_message};

/// Separates the packets in a payload of Engine.IO 4.
const RECORD_SEPARATOR: u8 = 0x1E;

/// Ends the length of a packet in a binary payload of Engine.IO 3.
const END_OF_LENGTH: u8 = 0xFF;

/// Returns how many frames of messages a payload holds: texts, and binary data.
pub(super) fn messages_in(body: &[u8], version: ProtocolVersion) -> usize {
    match (version, body.first()) {
        (ProtocolVersion::V4, _) => {
            let packets = body.split(|byte| *byte == RECORD_SEPARATOR);
            let counted = packets.filter(|one| one.first() == Some(&b'b') || is_message(one));
            counted.count()
        }
        (ProtocolVersion::V3, Some(0 | 1)) => in_binary_payload(body),
        (ProtocolVersion::V3, _) => std::str::from_utf8(body).map_or(0, in_text_payload),
    }
}

/// Of Engine.IO 3: `LENGTH:PACKET`, the length in UTF-16 units.
fn in_text_payload(mut rest: &str) -> usize {
    let mut count = 0;
    while let Some((length, packets)) = rest.split_once(':') {
        let Ok(length) = length.parse::<usize>() else {
            return count;
        };
        let mut units = 0;
        let end = packets.char_indices().find(|(_, character)| {
            let is_end = units >= length;
            units += character.len_utf16();
            is_end
        });
        let (packet, after) = packets.split_at(end.map_or(packets.len(), |(end, _)| end));
        count += usize::from(packet.starts_with('b') || is_message(packet.as_bytes()));
        rest = after;
    }
    count
}

/// Of Engine.IO 3, with binary data: a kind, the digits of the length as bytes, and the packet.
fn in_binary_payload(mut rest: &[u8]) -> usize {
    let mut count = 0;
    while let Some((kind, packets)) = rest.split_first() {
        let digits = packets.iter().take_while(|byte| **byte < 10).count();
        let length = packets[..digits].iter().fold(0_usize, |length, digit| {
            length
                .saturating_mul(10)
                .saturating_add(usize::from(*digit))
        });
        let Some((&END_OF_LENGTH, packets)) = packets[digits..].split_first() else {
            return count;
        };
        let (packet, after) = packets.split_at(length.min(packets.len()));
        // socketioxide writes binary data as base64 here too.
        count += usize::from(*kind == 1 || packet.first() == Some(&b'b') || is_message(packet));
        rest = after;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_in_every_encoding() {
        let new = b"2\x1e42[\"a\"]\x1ebAQI=\x1e40{}\x1e41";
        assert_eq!(messages_in(new, ProtocolVersion::V4), 3);
        let old = "1:2".to_owned() + "8:42[\"\u{1F600}\"]" + "2:40" + "2:41";
        assert_eq!(messages_in(old.as_bytes(), ProtocolVersion::V3), 2);
        let binary = b"\x00\x01\xff2\x00\x01\x00\xff451-[\"a\"]x\x01\x03\xff\x04\x01\x02";
        assert_eq!(messages_in(binary, ProtocolVersion::V3), 2);
        let base64 = b"\x00\x01\xff3\x00\x01\x00\xff451-[\"a\"]x\x00\x05\xffbAQI=";
        assert_eq!(messages_in(base64, ProtocolVersion::V3), 2);
        assert_eq!(messages_in(b"", ProtocolVersion::V3), 0);
    }
}
