//! Who may do what in which room: the only place that decides it. What no grant allows is denied.

mod back_end_answer;
mod explain;
mod namespace;
mod pattern;
mod room_name;
mod rule;
mod token_requirement;
mod verdict;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use shared_claims::{
    VerifiedClaims,
    authorization::{Action, AuthorizationDetail, REALTIME_TYPE},
    verify::IssuerName,
};

pub use self::{
    back_end_answer::BackEndAnswer,
    explain::{
        Considered, ExplainedGrant, Explanation, Mismatch, PassedOver, RuleSource, Source, Want,
    },
    pattern::percent_encode,
    room_name::{InvalidRoomName, RoomName},
    rule::Whom,
    token_requirement::TokenRequirement,
    verdict::{GrantVerdict, RuleIndex},
};
use self::{pattern::Pattern, rule::Rule};
pub use crate::config::RoomRule;
use crate::{
    config::{Config, ConfigError},
    namespaces::MAIN,
};

/// Rules of the settings about who may do what in one namespace.
pub struct Policy {
    namespace: Arc<str>,
    /// The tokens that a client needs in it; `None` when every token that is accepted will do.
    required: Option<TokenRequirement>,
    rules: Vec<Rule>,
    /// Our own issuer.
    issuer: Arc<str>,
    others: Vec<OtherIssuer>,
}

/// An issuer beside our own.
struct OtherIssuer {
    name: IssuerName,
    /// Whether its tokens grant rooms by themselves.
    grants_rooms: bool,
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
        /// The issuer as the settings name it: with the placeholder, when it has tenants.
        issuer: &'a str,
        /// Whether its `authorization_details` count.
        trusts_details: bool,
        /// The grants that a back end added when the bearer connected.
        added: &'a [AuthorizationDetail],
    },
}

/// The grants of a session, compiled once from the rules and its token. Each session keeps them, so
/// they take little memory, and do not say where they come from. They are about the rooms of one namespace.
pub struct Grants {
    all: Box<[Grant]>,
    namespace: Arc<str>,
}

struct Grant {
    pattern: Pattern,
    actions: ActionSet,
    /// The rule whose back end is asked before the actions are allowed.
    asks: Option<RuleIndex>,
}

/// A set of actions: a bit for each, by its place in [`Action::ALL`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct ActionSet(u8);

impl ActionSet {
    fn contains(self, action: Action) -> bool {
        self.0 & 1 << action as u8 != 0
    }

    fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .into_iter()
            .filter(move |action| self.contains(*action))
    }
}

impl FromIterator<Action> for ActionSet {
    fn from_iter<T: IntoIterator<Item = Action>>(actions: T) -> Self {
        let bits = actions.into_iter().map(|action| 1 << action as u8);
        Self(bits.fold(0, |set, bit| set | bit))
    }
}

impl Policy {
    /// Builds the policy of the main namespace in `config`.
    ///
    /// # Errors
    ///
    /// When a rule for rooms cannot work.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Self::with_rules(config, &config.rooms, "")
    }

    fn with_rules(config: &Config, rules: &[RoomRule], place: &str) -> Result<Self, ConfigError> {
        if let Some(problem) = rules.iter().find_map(RoomRule::problem) {
            return Err(ConfigError::Invalid {
                setting: format!("{place}rooms"),
                problem: problem.to_owned(),
            });
        }
        if RuleIndex::try_from(rules.len()).is_err() {
            return Err(ConfigError::Invalid {
                setting: format!("{place}rooms"),
                problem: "must be at most 65535 rules".to_owned(),
            });
        }
        let others = config.issuers.iter().map(|settings| OtherIssuer {
            name: settings.name(),
            grants_rooms: settings.grants_rooms,
        });
        Ok(Self {
            namespace: MAIN.into(),
            required: None,
            rules: rules.iter().cloned().map(Rule::new).collect(),
            issuer: config.issuer.as_str().into(),
            others: others.collect(),
        })
    }

    /// Our own issuer.
    #[must_use]
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// The bearer of a token that says `claims`. The grants of a token are about the rooms of the main
    /// namespace, and count in no other.
    #[must_use]
    pub fn bearer<'a>(&'a self, claims: &'a VerifiedClaims) -> Holder<'a> {
        let is_ours = *claims.iss == *self.issuer;
        let other = self.others.iter().find(|one| one.name.covers(&claims.iss));
        Holder::Bearer {
            claims,
            is_ours,
            issuer: other.map_or(&claims.iss, |other| other.name.as_str()),
            trusts_details: *self.namespace == *MAIN
                && (is_ours || other.is_some_and(|other| other.grants_rooms)),
            added: &[],
        }
    }

    /// What somebody may do.
    #[must_use]
    pub fn grants(&self, holder: &Holder<'_>) -> Grants {
        Grants::of(&self.rules, holder, self.namespace.clone())
    }

    /// Whether somebody may do `action` in `room`, and why, or why not, also by which rules they
    /// are not meant.
    #[must_use]
    pub fn explain(&self, holder: &Holder<'_>, action: Action, room: &RoomName) -> Explanation {
        let mut explanation = explain::explain(&self.rules, holder, action, room);
        if !self.admits(holder) {
            return explanation.barred();
        }
        if explanation.by.is_none() {
            explanation.passed_over = explain::passed_over(&self.rules, holder);
        }
        explanation
    }
}

/// The claim that says whether `claim` is verified (OpenID Connect Core 1.0, section 5.1): an address that
/// somebody typed in themselves must not open what belongs to its owner.
fn verification_of(claim: &str) -> Option<&'static str> {
    match claim {
        "email" => Some("email_verified"),
        "phone_number" => Some("phone_number_verified"),
        _ => None,
    }
}

impl<'a> Holder<'a> {
    /// The same bearer, to whom a back end has added grants. A guest stays as it is.
    #[must_use]
    pub fn with_added(mut self, grants: &'a [AuthorizationDetail]) -> Self {
        if let Self::Bearer { added, .. } = &mut self {
            *added = grants;
        }
        self
    }

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

    /// The claim that a pattern names. One that its issuer has not verified is none.
    fn value_of(&self, claim: &str) -> Option<&'a Value> {
        let all = self.claims()?.all();
        let is_verified = |flag| all.get(flag).and_then(Value::as_bool) == Some(true);
        let counts = verification_of(claim).is_none_or(is_verified);
        all.get(claim).filter(|_| counts)
    }
}

impl Grants {
    /// The grants that a token gives by itself, in the main namespace.
    #[must_use]
    pub fn of_token(holder: &Holder<'_>) -> Self {
        Self::of(&[], holder, MAIN.into())
    }

    /// The grants that `rules` and their token give to somebody in `namespace`.
    fn of(rules: &[Rule], holder: &Holder<'_>, namespace: Arc<str>) -> Self {
        let mut grants = Vec::new();
        for_each_grant(rules, holder, |grant, _| grants.push(grant));
        Self {
            all: grants.into(),
            namespace,
        }
    }

    /// The patterns for which more is allowed than by `old`, and those for which less is.
    #[must_use]
    pub fn difference(&self, old: &Self) -> (Vec<String>, Vec<String>) {
        let pairs = |grants: &Self| -> BTreeSet<(String, Action)> {
            let pairs = grants.all.iter().flat_map(|grant| {
                let text = grant.pattern.to_string();
                let actions = grant.actions.iter();
                actions.map(move |action| (text.clone(), action))
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

/// Hands each grant of `rules` and of the token to `take`, with a function for its source.
fn for_each_grant(
    rules: &[Rule],
    holder: &Holder<'_>,
    mut take: impl FnMut(Grant, &dyn Fn() -> Source),
) {
    for (index, rule) in rules.iter().enumerate() {
        let settings = &rule.settings;
        let is_accepted = |_: &Whom| settings.accepts_scope_of(holder);
        let Some(whom) = settings.whom(holder).filter(is_accepted) else {
            continue;
        };
        for (place, text) in settings.rooms.iter().enumerate() {
            let source = || Source::Rule(RuleSource::new((index, settings), text, whom));
            for pattern in rule.patterns(place, holder) {
                let grant = Grant {
                    pattern,
                    actions: rule.actions,
                    asks: rule.asks(index),
                };
                take(grant, &source);
            }
        }
    }
    if let Holder::Bearer {
        claims,
        trusts_details,
        added,
        ..
    } = holder
    {
        if *trusts_details {
            for_each_grant_of_token(claims, &mut take);
        }
        for (index, detail) in added.iter().enumerate() {
            for_each_grant_of_detail(detail, &|| Source::ConnectBackEnd(index), &mut take);
        }
    }
}

/// Hands each grant of a token to `take` (RFC 9396). What is no pattern grants nothing.
fn for_each_grant_of_token(
    claims: &VerifiedClaims,
    take: &mut impl FnMut(Grant, &dyn Fn() -> Source),
) {
    if claims.authorization_details.is_empty() {
        return;
    }
    let all = claims.all().get("authorization_details");
    let all = all.and_then(Value::as_array).into_iter().flatten();
    // Those of other types are somebody else's, and have their place in the list.
    let is_ours = |detail: &Value| detail["type"] == REALTIME_TYPE;
    let indices = all.enumerate().filter(|(_, detail)| is_ours(detail));
    for ((index, _), detail) in indices.zip(&claims.authorization_details) {
        for_each_grant_of_detail(detail, &|| Source::AuthorizationDetails(index), take);
    }
}

fn for_each_grant_of_detail(
    detail: &AuthorizationDetail,
    source: &dyn Fn() -> Source,
    take: &mut impl FnMut(Grant, &dyn Fn() -> Source),
) {
    let actions: ActionSet = detail.actions.iter().copied().collect();
    // Details have no claims to be put in.
    let parse = |text: &String| Pattern::parse(text, |_| None);
    for pattern in detail.rooms.iter().filter_map(parse) {
        let grant = Grant {
            pattern,
            actions,
            asks: None,
        };
        take(grant, source);
    }
}

#[cfg(test)]
pub(super) mod tests;
