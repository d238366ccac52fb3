//! Rights of everybody to rooms.

use serde::{Deserialize, Serialize};
use shared_claims::authorization::{Action, AuthorizationDetail, is_room_pattern};

use super::{ConfigError, check};

/// The most rules; with the grants of a person they have to fit into a token.
const MAXIMUM_RULES: usize = 16;

/// The longest patterns of all rules together, in bytes.
const MAXIMUM_PATTERN_BYTES: usize = 1024;

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
