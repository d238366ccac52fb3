//! Names of rooms.

use std::fmt;

use serde::Serialize;
use shared_claims::ids::is_identifier;

/// The name of a room that clients can name: segments split by `:`, none of them empty or a
/// pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RoomName(String);

/// The text is not the name of a room.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a room")]
pub struct InvalidRoomName;

impl RoomName {
    /// Takes `text` for the name of a room.
    ///
    /// # Errors
    ///
    /// When it is empty or too long, or has a control character, an empty segment or a wildcard.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidRoomName> {
        let text = text.into();
        let is_segment = |segment: &str| !segment.is_empty() && !segment.contains(['*', '{', '}']);
        if is_identifier(&text) && text.split(':').all(is_segment) {
            Ok(Self(text))
        } else {
            Err(InvalidRoomName)
        }
    }

    /// Returns the length, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a name is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Its segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split(':')
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_name_has_segments_that_are_no_patterns() {
        for good in ["lobby", "user:auth0%7C1", "org:acme:a", &"a".repeat(255)] {
            assert!(RoomName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            "a:",
            ":a",
            "a::b",
            "*",
            "a:**",
            "{sub}",
            "a\0",
            "a\u{202E}b",
            &long,
        ] {
            assert!(RoomName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
