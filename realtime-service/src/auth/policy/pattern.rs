//! Patterns of room names.

use std::{fmt, sync::Arc};

use super::RoomName;

/// A pattern of room names, with the claims already in their places. Clones share the text.
///
/// No segment of it is ambiguous: `*` stands for any one, `**` at the end for one or more, and
/// everything else for itself, because claims are percent-encoded.
#[derive(Clone)]
pub(super) struct Pattern(Arc<str>);

impl Pattern {
    /// The pattern that `text` is, with the texts that `claim` gives for its claims.
    pub(super) fn parse<'a>(text: &str, claim: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let (before, rest) = match text.strip_suffix(":**") {
            Some(before) => (before, ":**"),
            None => (text, ""),
        };
        let mut pattern = String::with_capacity(text.len());
        for segment in segments_of(before) {
            if !pattern.is_empty() {
                pattern.push(':');
            }
            match (segment, claim_of(segment)) {
                ("", _) => return None,
                ("*", _) => pattern.push('*'),
                (_, Some(name)) if !name.contains(['{', '}', '*']) => {
                    let value = claim(name).filter(|value| !value.is_empty())?;
                    pattern.push_str(&percent_encode(value));
                }
                (literal, _) if literal.contains(['*', '{', '}']) => return None,
                (literal, _) => pattern.push_str(literal),
            }
        }
        pattern.push_str(rest);
        Some(Self(pattern.into()))
    }

    pub(super) fn matches(&self, room: &RoomName) -> bool {
        let mut segments = room.segments();
        for expected in self.0.split(':') {
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
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The segments of a pattern. What stands in braces is one name, colons and all: many claims are
/// named by a URL.
pub(super) fn segments_of(pattern: &str) -> impl Iterator<Item = &str> {
    let mut is_in_braces = false;
    pattern.split(move |character| {
        is_in_braces = match character {
            '{' => true,
            '}' => false,
            _ => is_in_braces,
        };
        character == ':' && !is_in_braces
    })
}

/// The claim that a segment stands for.
pub(super) fn claim_of(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
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
