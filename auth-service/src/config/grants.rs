//! Rights of everybody to rooms.

use serde::{Deserialize, Serialize};
use shared_claims::authorization::{Action, AuthorizationDetail, is_room_pattern};

use super::{ConfigError, Settings, check};

/// The most rules; with the grants of a person they have to fit into a token.
const MAXIMUM_RULES: usize = 16;

/// The longest patterns of all rules together, in bytes.
const MAXIMUM_PATTERN_BYTES: usize = 1024;

/// Maximum length of the patterns, the roles and the custom claims of one subject, and of the patterns and
/// audiences of the settings, in bytes. With the rest of a token, in base64, they stay below what a verifier
/// reads.
const MAXIMUM_TOKEN_BYTES: usize = 3 * 1024;

/// Minimum length that the settings leave for one subject, in bytes.
const MINIMUM_SUBJECT_BYTES: usize = 512;

/// A rule: everybody who signs in may do `actions` in the rooms that match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRule {
    /// Patterns of room names.
    pub rooms: Vec<String>,
    /// Actions that are allowed in them.
    pub actions: Vec<Action>,
}

impl From<&GrantRule> for AuthorizationDetail {
    fn from(rule: &GrantRule) -> Self {
        Self::new(rule.actions.clone(), rule.rooms.clone())
    }
}

pub(super) fn check_rules(rules: &[GrantRule]) -> Result<(), ConfigError> {
    let rooms = || rules.iter().flat_map(|rule| &rule.rooms);
    let are_patterns = rooms().all(|room| is_room_pattern(room));
    check("grants", are_patterns, "each of rooms must be a pattern")?;
    let fit = rules.len() <= MAXIMUM_RULES
        && rooms().map(String::len).sum::<usize>() <= MAXIMUM_PATTERN_BYTES;
    check(
        "grants",
        fit,
        "must be up to 16, with 1024 bytes of patterns",
    )
}

impl Settings {
    /// Returns the maximum length of the patterns, the roles and the custom claims of one subject, in bytes.
    #[must_use]
    pub fn subject_bytes(&self) -> usize {
        let rooms = self.grants.iter().flat_map(|rule| &rule.rooms);
        let texts = rooms.chain(&self.token.audiences);
        // Each text is in quotation marks, with a comma.
        let bytes: usize = texts.map(|text| text.len() + 3).sum();
        MAXIMUM_TOKEN_BYTES.saturating_sub(bytes)
    }

    /// Checks that a token has room for the grants and claims of a subject.
    pub(super) fn check_subject_bytes(&self) -> Result<(), ConfigError> {
        let rule =
            "and the patterns of [[grants]] must have 2560 bytes at most, with 3 for each of them";
        let is_fine = self.subject_bytes() >= MINIMUM_SUBJECT_BYTES;
        check("token.audiences", is_fine, rule)
    }
}
