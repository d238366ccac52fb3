//! Patterns of room names.

use std::fmt;

use super::RoomName;

/// A pattern of room names, with the claims already in their places.
#[derive(Clone)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
    /// Whether it ends in `**`.
    takes_the_rest: bool,
}

#[derive(Clone)]
enum Segment {
    Literal(String),
    Any,
}

impl Pattern {
    /// The pattern that `text` is, with the texts that `claim` gives for its claims.
    pub(super) fn parse<'a>(text: &str, claim: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let (text, takes_the_rest) = match text.strip_suffix(":**") {
            Some(before) => (before, true),
            None => (text, false),
        };
        let segment = |segment: &str| match (segment, claim_of(segment)) {
            ("*", _) => Some(Segment::Any),
            ("", _) => None,
            (_, Some(name)) if !name.contains(['{', '}', '*']) => {
                let value = claim(name).filter(|value| !value.is_empty())?;
                Some(Segment::Literal(percent_encode(value)))
            }
            (literal, _) if literal.contains(['*', '{', '}']) => None,
            (literal, _) => Some(Segment::Literal(literal.to_owned())),
        };
        Some(Self {
            segments: segments_of(text).map(segment).collect::<Option<_>>()?,
            takes_the_rest,
        })
    }

    /// Gives back memory that the pattern does not use.
    pub(super) fn shrink_to_fit(&mut self) {
        self.segments.shrink_to_fit();
        for segment in &mut self.segments {
            if let Segment::Literal(literal) = segment {
                literal.shrink_to_fit();
            }
        }
    }

    pub(super) fn matches(&self, room: &RoomName) -> bool {
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

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut segments: Vec<&str> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Any => "*",
                Segment::Literal(literal) => literal,
            })
            .collect();
        segments.extend(self.takes_the_rest.then_some("**"));
        formatter.write_str(&segments.join(":"))
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
