//! What a token lets its bearer do: rich authorization details (RFC 9396).

use serde::{Deserialize, Serialize};

use crate::ids::is_identifier;

/// The `type` of the details that are ours; those of other types are for other services.
pub const REALTIME_TYPE: &str = "realtime";

/// The most details that a token may carry.
pub const MAXIMUM_DETAILS: usize = 64;

/// A right to rooms, as it stands in the claim `authorization_details`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationDetail {
    /// What kind of right it is; [`REALTIME_TYPE`].
    pub r#type: String,
    /// What may be done in the rooms.
    pub actions: Vec<Action>,
    /// Patterns of rooms, such as `chat:42` or `org:acme:**`.
    pub rooms: Vec<String>,
}

/// What can be done in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Hear the room's messages.
    #[serde(rename = "sub")]
    Subscribe,
    /// Send messages to the room.
    #[serde(rename = "pub")]
    Publish,
    /// Read the messages that were sent before.
    #[serde(rename = "hst")]
    History,
    /// See who is in the room.
    #[serde(rename = "prs")]
    Presence,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Subscribe,
        Self::Publish,
        Self::History,
        Self::Presence,
    ];

    /// The name in a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "sub",
            Self::Publish => "pub",
            Self::History => "hst",
            Self::Presence => "prs",
        }
    }

    /// The action with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// Whether `text` is a pattern of rooms: segments between colons, of which one can be `*` for any
/// one, and the last one `**` for one or more.
#[must_use]
pub fn is_room_pattern(text: &str) -> bool {
    let segments = text.strip_suffix(":**").unwrap_or(text);
    is_identifier(text)
        && segments.split(':').all(|segment| {
            segment == "*" || (!segment.is_empty() && !segment.contains(['*', '{', '}']))
        })
}

impl AuthorizationDetail {
    /// A right to do `actions` in the rooms that match `rooms`.
    #[must_use]
    pub fn new(actions: Vec<Action>, rooms: Vec<String>) -> Self {
        Self {
            r#type: REALTIME_TYPE.to_owned(),
            actions,
            rooms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_looks_as_rfc_9396_has_it() {
        let detail = AuthorizationDetail::new(
            vec![Action::Subscribe, Action::History],
            vec!["chat:**".to_owned()],
        );
        let text = serde_json::to_string(&detail).expect("JSON");
        assert_eq!(
            text,
            r#"{"type":"realtime","actions":["sub","hst"],"rooms":["chat:**"]}"#
        );
    }

    #[test]
    fn a_pattern_has_stars_for_whole_segments_alone() {
        for good in [
            "lobby",
            "chat:42",
            "chat:*",
            "*:42",
            "org:acme:**",
            "a:*:b:**",
        ] {
            assert!(is_room_pattern(good), "{good}");
        }
        for bad in [
            "",
            ":",
            "a:",
            ":a",
            "**",
            "a**",
            "a:**:b",
            "a:b*",
            "user:{sub}",
            "a\nb",
        ] {
            assert!(!is_room_pattern(bad), "{bad:?}");
        }
        assert!(!is_room_pattern(&"a".repeat(256)));
    }

    #[test]
    fn every_action_has_the_name_that_serde_gives_it() {
        for action in Action::ALL {
            let name = serde_json::to_value(action).expect("JSON");
            assert_eq!(name, action.name());
            assert_eq!(Action::named(action.name()), Some(action));
        }
        assert_eq!(Action::named("all"), None);
    }
}
