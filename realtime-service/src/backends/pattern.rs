//! Patterns of names: of events and of rooms.

use crate::rooms::{RoomName, is_publishable};

/// A pattern of event names: segments are split by `:`, `*` stands for one of them, and `**` at the
/// end for one or more.
pub(super) struct EventPattern(Box<str>);

impl EventPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// The fault of the pattern.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        check(text)?;
        // A wildcard stands for any text.
        match is_publishable(&text.replace('*', "x")) {
            true => Ok(Self(text.into())),
            false => Err("a pattern is reserved for the gateway or Socket.IO, or is too long"),
        }
    }

    /// Whether the pattern covers the events called `name`.
    pub(super) fn matches(&self, name: &str) -> bool {
        covers(&self.0, name)
    }
}

/// A pattern of room names, of the same form.
pub(super) struct RoomPattern(Box<str>);

impl RoomPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// The fault of the pattern.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        check(text)?;
        // A wildcard stands for any text.
        match RoomName::parse(text.replace('*', "x")) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err("a pattern covers no name that a room can have"),
        }
    }

    /// Whether the pattern covers the room called `name`.
    pub(super) fn matches(&self, name: &str) -> bool {
        covers(&self.0, name)
    }
}

fn check(pattern: &str) -> Result<(), &'static str> {
    let (segments, last) = match pattern.rsplit_once(':') {
        Some((segments, last)) => (Some(segments), last),
        None => (None, pattern),
    };
    let is_segment =
        |segment: &str| !segment.is_empty() && (segment == "*" || !segment.contains('*'));
    let are_segments = segments.is_none_or(|segments| segments.split(':').all(is_segment));
    match are_segments && (last == "**" || is_segment(last)) {
        true => Ok(()),
        false => Err("a pattern has an empty segment or a stray wildcard"),
    }
}

fn covers(pattern: &str, name: &str) -> bool {
    let mut segments = name.split(':');
    for expected in pattern.split(':') {
        match (expected, segments.next()) {
            (_, None) => return false,
            ("**", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_its_own_names_and_no_others() {
        for (pattern, name, is_covered) in [
            ("save", "save", true),
            ("save", "saved", false),
            ("order:*", "order:place", true),
            ("order:*", "order", false),
            ("order:*", "order:place:now", false),
            ("order:**", "order:place:now", true),
            ("order:**", "order", false),
            ("*:place", "order:place", true),
            ("*", "order", true),
            ("*", "order:place", false),
            ("**", "order:place", true),
        ] {
            let pattern_of = EventPattern::parse(pattern).expect(pattern);
            assert_eq!(pattern_of.matches(name), is_covered, "{pattern}: {name}");
        }
    }

    #[test]
    fn a_pattern_of_rooms_may_be_called_as_no_event_can() {
        for text in ["order:*", "**", "rt:*", "authenticate"] {
            assert!(RoomPattern::parse(text).is_ok(), "{text}");
        }
        assert!(RoomPattern::parse("rt:*").is_ok_and(|one| one.matches("rt:a")));
        for text in ["", "a:", "a*", "**:a"] {
            assert!(RoomPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_reserved_is_refused() {
        for text in [
            "",
            ":",
            "a:",
            ":a",
            "a*",
            "**:a",
            "a:***",
            "rt:*",
            "rt:subscribe",
            "authenticate",
            "reconnect:x",
        ] {
            assert!(EventPattern::parse(text).is_err(), "{text}");
        }
    }
}
