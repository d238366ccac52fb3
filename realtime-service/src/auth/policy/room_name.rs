//! Names of rooms.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde::{Serialize, Serializer};
use shared_claims::ids::is_identifier;

use crate::namespaces::MAIN;

/// Separator of a namespace and the name of a room in it. No name of a room has it, since a segment is never
/// empty, and no namespace of the settings has a colon.
const SEPARATOR: &str = "::";

/// The name of a room that clients can name, in its namespace: segments split by `:`, none of them empty or
/// a pattern. Rooms with the same name in two namespaces are two rooms.
#[derive(Clone, Debug)]
pub struct RoomName {
    /// The name; in another namespace than the main one, that namespace and the separator come before it.
    key: String,
    /// The place in `key` at which the name begins.
    start: u8,
}

/// The text is not the name of a room.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a room")]
pub struct InvalidRoomName;

impl RoomName {
    /// Takes `text` for the name of a room in the main namespace.
    ///
    /// # Errors
    ///
    /// When it is empty or too long, or has a control character, an empty segment or a wildcard.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidRoomName> {
        let text = text.into();
        let is_segment = |segment: &str| !segment.is_empty() && !segment.contains(['*', '{', '}']);
        if is_identifier(&text) && text.split(':').all(is_segment) {
            Ok(Self {
                key: text,
                start: 0,
            })
        } else {
            Err(InvalidRoomName)
        }
    }

    /// Takes `text` for the name of a room in `namespace`, the main one or one of the settings.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::parse`], and one when no namespace of the settings has such a name.
    pub fn parse_in(namespace: &str, text: impl Into<String>) -> Result<Self, InvalidRoomName> {
        let main = Self::parse(text)?;
        if namespace == MAIN {
            return Ok(main);
        }
        let start = u8::try_from(namespace.len() + SEPARATOR.len()).map_err(|_| InvalidRoomName)?;
        Ok(Self {
            key: [namespace, SEPARATOR, &main.key].concat(),
            start,
        })
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match usize::from(self.start).checked_sub(SEPARATOR.len()) {
            Some(end) => &self.key[..end],
            None => MAIN,
        }
    }

    /// Returns the name in its namespace.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key[usize::from(self.start)..]
    }

    /// Returns a text that no other room has, in whichever namespace. In the main one it is the name.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the length of [`Self::key`], in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a name is never empty")]
    pub fn len(&self) -> usize {
        self.key.len()
    }

    /// Its segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.as_str().split(':')
    }
}

impl PartialEq for RoomName {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for RoomName {}

impl Hash for RoomName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
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
            assert!(RoomName::parse_in("/admin", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_room_of_one_namespace_is_none_of_another() {
        let room = |namespace, name| RoomName::parse_in(namespace, name).expect("a room");
        let main = room("/", "lobby");
        let admin = room("/admin", "lobby");
        assert_eq!(main, RoomName::parse("lobby").expect("a room"));
        assert_ne!(main, admin);
        assert_ne!(admin, room("/staff", "lobby"));
        // No room of the main namespace has the key of another one's.
        assert_eq!(admin.key(), "/admin::lobby");
        assert!(RoomName::parse(admin.key()).is_err());
        assert_eq!((main.key(), main.namespace()), ("lobby", "/"));
        assert_eq!((admin.as_str(), admin.namespace()), ("lobby", "/admin"));
        assert_eq!(admin.to_string(), "lobby");
        assert_eq!(serde_json::to_string(&admin).expect("JSON"), "\"lobby\"");
        assert!(admin.segments().eq(["lobby"]));
    }
}
