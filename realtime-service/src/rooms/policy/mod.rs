//! Who may do what in which room: the only place that decides it. What no grant allows is denied.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared_claims::{VerifiedClaims, authorization::Action};

use super::RoomName;

/// The most rooms that one claim with several values opens by one pattern.
const MAXIMUM_VALUES: usize = 64;

/// The issuer of a rule that is for the tokens of every issuer.
const ANY_ISSUER: &str = "*";

/// A rule of the configuration: who it is for may do `actions` in the rooms that match.
///
/// A pattern is a room name in which a segment can be `*` for any one, the last one `**` for one or
/// more, and `{claim}` the text of a claim of the token, such as `{sub}`, percent-encoded, as one
/// literal segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRule {
    /// Patterns of room names.
    pub rooms: Vec<String>,
    /// What may be done in them.
    pub actions: Vec<Action>,
    /// Whose tokens it is for: issuers, or `*` for all. Without any it is for our own issuer's. A
    /// rule for others that names a claim has to name `{iss}` before it, since two issuers can mean
    /// different people by the same text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// The scope that the token must have (RFC 6749, section 3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whether it is for guests too, where `auth.anonymous` lets them in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guests: bool,
}

/// Whose grants they are.
#[derive(Clone, Copy)]
pub enum Holder<'a> {
    /// Somebody without a token.
    Guest,
    /// The bearer of a token.
    Bearer {
        /// What it says.
        claims: &'a VerifiedClaims,
        /// Whether it is of our own issuer.
        is_ours: bool,
        /// Whether its `authorization_details` count.
        trusts_details: bool,
    },
}

impl RoomRule {
    /// Everybody may use `lobby`, and each of our own issuer's users the room of their own subject.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let rule = |room: &str, issuers: Vec<String>| Self {
            rooms: vec![room.to_owned()],
            actions: Action::ALL.to_vec(),
            issuers,
            scope: None,
            guests: false,
        };
        vec![
            rule("lobby", vec![ANY_ISSUER.to_owned()]),
            rule("user:{sub}", Vec::new()),
        ]
    }

    /// What is wrong with the rule, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let claims = |pattern: &str| -> Vec<String> {
            segments_of(pattern)
                .filter_map(claim_of)
                .map(str::to_owned)
                .collect()
        };
        let is_pattern = |pattern: &String| Pattern::parse(pattern, |_| Some("x")).is_some();
        let says_whose = |pattern: &String| {
            let named = claims(pattern);
            self.issuers.is_empty() || named.is_empty() || named[0] == "iss"
        };
        let is_for_guests = |pattern: &String| !self.guests || claims(pattern).is_empty();
        if !self.rooms.iter().all(is_pattern) {
            return Some("a pattern has an empty segment or a stray wildcard");
        }
        if !self.rooms.iter().all(says_whose) {
            return Some("a rule for other issuers must name {iss} before any other claim");
        }
        if !self.rooms.iter().all(is_for_guests) || (self.guests && self.scope.is_some()) {
            return Some("a rule for guests, who have no token, names a claim or a scope");
        }
        None
    }

    fn is_for(&self, holder: &Holder<'_>) -> bool {
        let (claims, is_ours) = match holder {
            Holder::Guest => return self.guests,
            Holder::Bearer {
                claims, is_ours, ..
            } => (claims, *is_ours),
        };
        let names_issuer = self
            .issuers
            .iter()
            .any(|issuer| issuer == ANY_ISSUER || *issuer == claims.iss);
        let is_meant = names_issuer || (is_ours && self.issuers.is_empty()) || self.guests;
        let has_scope = self.scope.as_ref().is_none_or(|scope| {
            let scopes = claims.scope.as_deref().unwrap_or_default();
            scopes.split(' ').any(|one| one == scope)
        });
        is_meant && has_scope
    }
}

/// What a session may do, compiled once from the rules and its token.
pub struct Grants(Vec<Grant>);

struct Grant {
    pattern: Pattern,
    /// The pattern as it reads with the claims in their places.
    text: String,
    actions: Vec<Action>,
}

impl Grants {
    /// What `rules` and their token give to somebody.
    #[must_use]
    pub fn of(rules: &[RoomRule], holder: &Holder<'_>) -> Self {
        let mut grants: Vec<Grant> = rules
            .iter()
            .filter(|rule| rule.is_for(holder))
            .flat_map(|rule| {
                let patterns = rule.rooms.iter().flat_map(|text| expand(text, holder));
                patterns.map(|(pattern, text)| Grant {
                    pattern,
                    text,
                    actions: rule.actions.clone(),
                })
            })
            .collect();
        if let Holder::Bearer {
            claims,
            trusts_details: true,
            ..
        } = holder
        {
            grants.extend(granted_by(claims));
        }
        Self(grants)
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

    /// The patterns for which more is allowed than by `old`, and those for which less is.
    #[must_use]
    pub fn difference(&self, old: &Self) -> (Vec<String>, Vec<String>) {
        let pairs = |grants: &Self| -> BTreeSet<(String, Action)> {
            let pairs = grants.0.iter().flat_map(|grant| {
                let actions = grant.actions.iter();
                actions.map(|action| (grant.text.clone(), *action))
            });
            pairs.collect()
        };
        let (new, old) = (pairs(self), pairs(old));
        let patterns = |one: &BTreeSet<_>, other| -> Vec<String> {
            let texts = one
                .difference(other)
                .map(|(text, _): &(String, _)| text.clone());
            texts.collect::<BTreeSet<_>>().into_iter().collect()
        };
        (patterns(&new, &old), patterns(&old, &new))
    }
}

/// What a token grants by itself (RFC 9396). What is no pattern grants nothing.
fn granted_by(claims: &VerifiedClaims) -> impl Iterator<Item = Grant> {
    claims.authorization_details.iter().flat_map(|detail| {
        let patterns = detail.rooms.iter().filter_map(|text| {
            // A token has no claims to be put in.
            let pattern = Pattern::parse(text, |_| None)?;
            Some(Grant {
                pattern,
                text: text.clone(),
                actions: detail.actions.clone(),
            })
        });
        patterns.collect::<Vec<_>>()
    })
}

/// The patterns that a rule's text stands for: one, or one for each value of a claim that has
/// several; none when a claim is missing, or is no text.
fn expand(text: &str, holder: &Holder<'_>) -> Vec<(Pattern, String)> {
    let claims = match holder {
        Holder::Guest => None,
        Holder::Bearer { claims, .. } => Some(*claims),
    };
    let value_of = |name: &str| claims.and_then(|claims| claims.all().get(name));
    let list = segments_of(text).filter_map(claim_of).find_map(|name| {
        let values = value_of(name)?.as_array()?;
        Some((name, values))
    });
    let one = |chosen: Option<(&str, &str)>| {
        let claim = |name: &str| match chosen {
            Some((list, value)) if list == name => Some(value),
            _ => value_of(name).and_then(Value::as_str),
        };
        let pattern = Pattern::parse(text, claim)?;
        Some((pattern.clone(), pattern.to_string()))
    };
    match list {
        None => one(None).into_iter().collect(),
        Some((name, values)) => values
            .iter()
            .take(MAXIMUM_VALUES)
            .filter_map(Value::as_str)
            .filter_map(|value| one(Some((name, value))))
            .collect(),
    }
}

/// The segments of a pattern. What stands in braces is one name, colons and all: many claims are
/// named by a URL.
fn segments_of(pattern: &str) -> impl Iterator<Item = &str> {
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
fn claim_of(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// A pattern of room names, with the claims already in their places.
#[derive(Clone)]
struct Pattern {
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
    fn parse<'a>(text: &str, claim: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
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
mod tests;
