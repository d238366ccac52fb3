//! Who may do what in which room: the only place that decides it. What no grant allows is denied.

use serde::{Deserialize, Serialize};

use super::RoomName;

/// What one can do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Subscribe: receive its messages.
    Sub,
    /// Publish into it.
    Pub,
}

impl Action {
    const ALL: [Self; 2] = [Self::Sub, Self::Pub];
}

/// A rule of the configuration: everybody may do `actions` in the rooms that match.
///
/// A pattern is a room name in which a segment can be `*` for any one, the last one `**` for one or
/// more, and `{sub}` the subject of the token, percent-encoded, as one literal segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRule {
    /// Patterns of room names.
    pub rooms: Vec<String>,
    /// What may be done in them.
    pub actions: Vec<Action>,
}

impl RoomRule {
    /// Everybody may use `lobby`, and each the room of their own subject.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let rooms = vec!["lobby".to_owned(), "user:{sub}".to_owned()];
        vec![Self {
            rooms,
            actions: Action::ALL.to_vec(),
        }]
    }

    /// Whether every pattern of the rule is one.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.rooms
            .iter()
            .all(|pattern| Pattern::parse(pattern, "x").is_some())
    }
}

/// What a session may do, compiled once from the rules and its token.
pub struct Grants(Vec<Grant>);

struct Grant {
    pattern: Pattern,
    actions: Vec<Action>,
}

impl Grants {
    /// What `rules` give to the subject `sub`.
    #[must_use]
    pub fn of(rules: &[RoomRule], sub: &str) -> Self {
        let grants = rules.iter().flat_map(|rule| {
            let patterns = rule
                .rooms
                .iter()
                .filter_map(|pattern| Pattern::parse(pattern, sub));
            patterns.map(|pattern| Grant {
                pattern,
                actions: rule.actions.clone(),
            })
        });
        Self(grants.collect())
    }

    /// Whether some grant allows `action` in `room`.
    #[must_use]
    pub fn allow(&self, action: Action, room: &RoomName) -> bool {
        self.0
            .iter()
            .any(|grant| grant.actions.contains(&action) && grant.pattern.matches(room))
    }

    /// Everything that is allowed in `room`.
    #[must_use]
    pub fn actions_in(&self, room: &RoomName) -> Vec<Action> {
        Action::ALL
            .into_iter()
            .filter(|action| self.allow(*action, room))
            .collect()
    }
}

/// A pattern of room names, with the claims already in their places.
struct Pattern {
    segments: Vec<Segment>,
    /// Whether it ends in `**`.
    takes_the_rest: bool,
}

enum Segment {
    Literal(String),
    Any,
}

impl Pattern {
    fn parse(text: &str, sub: &str) -> Option<Self> {
        let (text, takes_the_rest) = match text.strip_suffix(":**") {
            Some(before) => (before, true),
            None => (text, false),
        };
        let segment = |segment: &str| match segment {
            "*" => Some(Segment::Any),
            "{sub}" => Some(Segment::Literal(percent_encode(sub))),
            "" => None,
            literal if literal.contains(['*', '{', '}']) => None,
            literal => Some(Segment::Literal(literal.to_owned())),
        };
        Some(Self {
            segments: text.split(':').map(segment).collect::<Option<_>>()?,
            takes_the_rest,
        })
    }

    fn matches(&self, room: &RoomName) -> bool {
        let mut segments = room.segments();
        let fits = self
            .segments
            .iter()
            .all(|expected| match (expected, segments.next()) {
                (_, None) => false,
                (Segment::Any, Some(_)) => true,
                (Segment::Literal(literal), Some(segment)) => literal == segment,
            });
        fits && segments.next().is_some() == self.takes_the_rest
    }
}

/// Encodes a claim so that it is one segment and no pattern: all but the unreserved characters
/// (RFC 3986, section 2.3).
#[must_use]
pub fn percent_encode(claim: &str) -> String {
    let mut encoded = String::with_capacity(claim.len());
    for byte in claim.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, sub: &str, room: &str) -> bool {
        let rule = RoomRule {
            rooms: vec![pattern.to_owned()],
            actions: vec![Action::Sub],
        };
        let room = RoomName::parse(room).expect("a room name");
        Grants::of(&[rule], sub).allow(Action::Sub, &room)
    }

    #[test]
    fn a_pattern_matches_whole_segments() {
        for (pattern, room, expected) in [
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("lobby", "lobby:a", false),
            ("chat:*", "chat:42", true),
            ("chat:*", "chat", false),
            ("chat:*", "chat:42:a", false),
            ("*:news", "de:news", true),
            ("org:acme:**", "org:acme:a", true),
            ("org:acme:**", "org:acme:a:b", true),
            ("org:acme:**", "org:acme", false),
            ("org:acme:**", "org:acme2:a", false),
        ] {
            assert_eq!(allows(pattern, "alice", room), expected, "{pattern} {room}");
        }
    }

    #[test]
    fn a_claim_is_one_literal_segment_whatever_it_holds() {
        assert!(allows("user:{sub}", "alice", "user:alice"));
        assert!(!allows("user:{sub}", "alice", "user:bob"));
        assert!(allows("user:{sub}", "auth0|1", "user:auth0%7C1"));
        assert!(!allows("user:{sub}", "*", "user:bob"));
        assert!(!allows("user:{sub}", "**", "user:bob"));
        assert!(!allows("user:{sub}", "a:b", "user:a:b"));
        assert!(allows("user:{sub}", "a:b", "user:a%3Ab"));
    }

    #[test]
    fn what_no_grant_names_is_denied() {
        let room = RoomName::parse("lobby").expect("a room name");
        assert!(!Grants::of(&[], "alice").allow(Action::Sub, &room));
        let only_sub = RoomRule {
            rooms: vec!["lobby".into()],
            actions: vec![Action::Sub],
        };
        let grants = Grants::of(&[only_sub], "alice");
        assert!(grants.allow(Action::Sub, &room));
        assert!(!grants.allow(Action::Pub, &room));
        assert_eq!(grants.actions_in(&room), [Action::Sub]);
    }

    #[test]
    fn a_pattern_with_a_stray_wildcard_is_none() {
        for bad in ["a**", "**", "", "a::b", "{name}", "a:**:b"] {
            let rule = RoomRule {
                rooms: vec![bad.to_owned()],
                actions: vec![],
            };
            assert!(!rule.is_valid(), "{bad}");
        }
        assert!(RoomRule::defaults().iter().all(RoomRule::is_valid));
    }
}
