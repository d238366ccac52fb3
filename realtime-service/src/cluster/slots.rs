//! The slots of a Redis Cluster, by the rules of its specification ("Key distribution model" and "Hash
//! tags").

use crc::{CRC_16_XMODEM, Crc};

/// Number of slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16384;

const CHECKSUM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Returns the slot of a key or a channel: of the text between its first braces, or of all of it.
pub(super) fn slot_of(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| {
        let (tag, _) = rest.split_once('}')?;
        (!tag.is_empty()).then_some(tag)
    });
    CHECKSUM.checksum(tag.unwrap_or(name).as_bytes()) % SLOTS
}

/// Returns a text that has the slot `slot`: the shortest number in decimal digits.
pub(super) fn tag_of(slot: u16) -> String {
    let mut number = 0_u32;
    loop {
        let tag = number.to_string();
        if slot_of(&tag) == slot {
            return tag;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots as `CLUSTER KEYSLOT` of Redis 7.0 answers.
    #[test]
    fn a_name_has_the_slot_that_redis_gives_it() {
        for (name, slot) in [
            ("123456789", 12739),
            ("foo", 12182),
            ("lobby", 10294),
            ("{foo}{bar}", 12182),
            // Braces with nothing between them, or without an end, are no tag.
            ("a{}b", 13694),
            ("x{y{}b", 15677),
            ("a{b", 13340),
        ] {
            assert_eq!(slot_of(name), slot, "{name}");
        }
    }

    #[test]
    fn a_tag_has_the_slot_that_it_was_made_for() {
        for slot in [0, 1, 5460, 10922, 16383] {
            assert_eq!(slot_of(&format!("p:{{{}}}:k", tag_of(slot))), slot);
        }
    }
}
