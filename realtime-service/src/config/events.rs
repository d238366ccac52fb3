//! Events of clients that back ends answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Config, ConfigError, check};

/// The events of some names, and the back end that answers them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// Patterns of event names. A name is split by `:`; `*` stands for one segment, and `**` at the
    /// end for one or more.
    pub events: Vec<String>,
    /// The name of the back end.
    pub backend: String,
    /// The way in which the back end answers.
    pub mode: EventMode,
    /// Whose tokens it is for: issuers, or `*` for all. Without any it is for our own issuer's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// The scope that the token must have (RFC 6749, section 3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The claims that the token must have, each with its value or a list of values; `*` stands for
    /// any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Value>,
    /// Whether guests may send them too, where `auth.anonymous` admits guests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guests: bool,
    /// Events per second that one user may send, in one burst at most; without it, as many as
    /// `limits.events_per_sec` allow each socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
}

/// The way in which a back end answers an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventMode {
    /// Its response is the acknowledgement. The event is delivered at most once.
    Call,
    /// The acknowledgement says that the event is stored. It is delivered at least once, and in the
    /// order of its user's events.
    Notify,
}

impl EventRule {
    /// Returns the setting that cannot work and its fault, if there is one.
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.events.is_empty() {
            return Some(("events", "must name at least one pattern"));
        }
        if self.guests && (self.scope.is_some() || !self.claims.is_empty()) {
            return Some((
                "guests",
                "guests have no token, and so no scope and no claims",
            ));
        }
        if let Some(problem) = problem_of_claims(&self.claims) {
            return Some(("claims", problem));
        }
        let is_rate = self.rate.is_none_or(|rate| (1..=1_000_000).contains(&rate));
        (!is_rate).then_some(("rate", "must be 1 to 1000000"))
    }
}

/// Returns the fault of claims that a token must have, if there is one.
pub(super) fn problem_of_claims(claims: &BTreeMap<String, Value>) -> Option<&'static str> {
    let is_value = |value: &Value| value.is_string() || value.is_boolean() || value.is_number();
    let are_values = |value: &Value| match value {
        Value::Array(values) => !values.is_empty() && values.iter().all(is_value),
        one => is_value(one),
    };
    (!claims.values().all(are_values))
        .then_some("must be texts, numbers, true or false, or lists of them")
}

impl Config {
    /// Checks the events of a namespace, whose settings begin with `place`.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub(super) fn check_events(&self, place: &str, rules: &[EventRule]) -> Result<(), ConfigError> {
        for (index, rule) in rules.iter().enumerate() {
            let place = format!("{place}events[{index}]");
            if let Some((setting, problem)) = rule.problem() {
                check(&format!("{place}.{setting}"), false, problem)?;
            }
            self.check_backend_exists(&format!("{place}.backend"), &rule.backend)?;
        }
        Ok(())
    }
}
