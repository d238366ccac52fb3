//! Who may do what in which room: the only place that decides it. What no grant allows is denied.

mod explain;
mod pattern;
mod room_name;
mod rule;

use std::collections::BTreeSet;

use serde_json::Value;
use shared_claims::{
    VerifiedClaims,
    authorization::{Action, REALTIME_TYPE},
};

use self::pattern::Pattern;
pub use self::{
    explain::{
        Considered, ExplainedGrant, Explanation, Mismatch, PassedOver, RuleSource, Source, Want,
    },
    pattern::percent_encode,
    room_name::{InvalidRoomName, RoomName},
    rule::Whom,
};
pub use crate::config::RoomRule;
use crate::config::{Config, ConfigError};

/// What the settings say of who may do what.
pub struct Policy {
    rules: Vec<RoomRule>,
    /// Our own issuer.
    issuer: String,
    /// Other issuers whose tokens grant rooms by themselves.
    granting_issuers: Vec<String>,
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

/// What a session may do, compiled once from the rules and its token.
pub struct Grants(Vec<Grant>);

struct Grant {
    pattern: Pattern,
    actions: Vec<Action>,
    /// Why it is there, for explanations.
    source: Option<Source>,
}

impl Policy {
    /// Builds the policy in `config`.
    ///
    /// # Errors
    ///
    /// When a rule for rooms cannot work.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        if let Some(problem) = config.rooms.iter().find_map(RoomRule::problem) {
            return Err(ConfigError::Invalid {
                setting: "rooms".to_owned(),
                problem: problem.to_owned(),
            });
        }
        let granting = config.issuers.iter().filter(|one| one.grants_rooms);
        Ok(Self {
            rules: config.rooms.clone(),
            issuer: config.issuer.clone(),
            granting_issuers: granting.map(|one| one.issuer.clone()).collect(),
        })
    }

    /// Our own issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The bearer of a token that says `claims`.
    #[must_use]
    pub fn bearer<'a>(&self, claims: &'a VerifiedClaims) -> Holder<'a> {
        let is_ours = claims.iss == self.issuer;
        Holder::Bearer {
            claims,
            is_ours,
            trusts_details: is_ours || self.granting_issuers.contains(&claims.iss),
        }
    }

    /// What somebody may do.
    #[must_use]
    pub fn grants(&self, holder: &Holder<'_>) -> Grants {
        Grants::of(&self.rules, holder)
    }

    /// Whether somebody may do `action` in `room`, and why, or why not, also by which rules they
    /// are not meant.
    #[must_use]
    pub fn explain(&self, holder: &Holder<'_>, action: Action, room: &RoomName) -> Explanation {
        let mut explanation = self.grants(holder).explain(action, room);
        if !explanation.allowed {
            explanation.passed_over = explain::passed_over(&self.rules, holder);
        }
        explanation
    }
}

impl<'a> Holder<'a> {
    /// What the token says.
    #[must_use]
    pub fn claims(&self) -> Option<&'a VerifiedClaims> {
        match self {
            Self::Guest => None,
            Self::Bearer { claims, .. } => Some(claims),
        }
    }

    /// Whether the token is another issuer's.
    #[must_use]
    pub fn is_of_another_issuer(&self) -> bool {
        matches!(self, Self::Bearer { is_ours: false, .. })
    }

    fn value_of(&self, claim: &str) -> Option<&'a Value> {
        self.claims()?.all().get(claim)
    }
}

impl Grants {
    /// What `rules` and their token give to somebody.
    #[must_use]
    pub fn of(rules: &[RoomRule], holder: &Holder<'_>) -> Self {
        let mut grants = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            if let Some(whom) = rule.whom(holder).filter(|_| rule.accepts_scope_of(holder)) {
                grants.extend(granted_by_rule((index, rule), whom, holder));
            }
        }
        if let Holder::Bearer {
            claims,
            trusts_details: true,
            ..
        } = holder
        {
            grants.extend(granted_by_token(claims));
        }
        Self(grants)
    }

    /// The same grants in little memory, without their sources: an explanation finds those anew.
    #[must_use]
    pub fn compact(mut self) -> Self {
        for grant in &mut self.0 {
            grant.source = None;
            grant.actions.shrink_to_fit();
            grant.pattern.shrink_to_fit();
        }
        self.0.shrink_to_fit();
        self
    }

    /// Whether some grant allows `action` in `room`.
    #[must_use]
    pub fn allow(&self, action: Action, room: &RoomName) -> bool {
        self.0.iter().any(|grant| grant.allows(action, room))
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
                let text = grant.pattern.to_string();
                let actions = grant.actions.iter();
                actions.map(move |action| (text.clone(), *action))
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

impl Grant {
    fn allows(&self, action: Action, room: &RoomName) -> bool {
        self.actions.contains(&action) && self.pattern.matches(room)
    }
}

/// What a rule grants to a holder whom it means.
fn granted_by_rule(
    (index, rule): (usize, &RoomRule),
    whom: Whom,
    holder: &Holder<'_>,
) -> Vec<Grant> {
    let mut grants = Vec::new();
    for text in &rule.rooms {
        let source = Source::Rule(RuleSource {
            index,
            text: text.clone(),
            whom,
            scope: rule.scope.clone(),
            claims: rule::claims_in(text).map(str::to_owned).collect(),
        });
        let patterns = rule::expand(text, holder).into_iter();
        grants.extend(patterns.map(|pattern| Grant {
            pattern,
            actions: rule.actions.clone(),
            source: Some(source.clone()),
        }));
    }
    grants
}

/// What a token grants by itself (RFC 9396). What is no pattern grants nothing.
fn granted_by_token(claims: &VerifiedClaims) -> Vec<Grant> {
    let all = claims.all().get("authorization_details");
    let all = all.and_then(Value::as_array).into_iter().flatten();
    // Those of other types are somebody else's, and have their place in the list.
    let is_ours = |detail: &Value| detail["type"] == REALTIME_TYPE;
    let indices = all.enumerate().filter(|(_, detail)| is_ours(detail));
    let mut grants = Vec::new();
    for ((index, _), detail) in indices.zip(&claims.authorization_details) {
        // A token has no claims to be put in.
        let parse = |text: &String| Pattern::parse(text, |_| None);
        let patterns = detail.rooms.iter().filter_map(parse);
        grants.extend(patterns.map(|pattern| Grant {
            pattern,
            actions: detail.actions.clone(),
            source: Some(Source::AuthorizationDetails(index)),
        }));
    }
    grants
}

#[cfg(test)]
pub(super) mod tests;
