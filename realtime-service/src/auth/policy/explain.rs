//! Why something is allowed, or is not.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use shared_claims::authorization::Action;

use super::{
    BackEndAnswer, Holder, RoomName, RoomRule, RuleIndex, Whom, for_each_grant,
    rule::{Rule, claims_in, expand},
    verification_of,
};
use crate::namespaces::MAIN;

/// The answer to whether somebody may do something in a room, and how it came about.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// What was asked for.
    pub action: Action,
    /// Where.
    pub room: RoomName,
    /// The namespace of the room, unless it is the main one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whether the holder may not enter that namespace. Then no grant counts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub barred: bool,
    /// The first grant that allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<ExplainedGrant>,
    /// The grants that were looked at before, and do not.
    pub considered: Vec<Considered>,
    /// The rules that give this holder nothing, when it is not allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// The name of the back end that decides, when no grant allows it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The answer of that back end, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<BackEndAnswer>,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedGrant {
    /// The rooms, with the claims in their places.
    pub pattern: String,
    /// What may be done in them.
    pub actions: Vec<Action>,
    /// Where it comes from.
    pub source: Source,
}

/// A grant that does not allow what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The grant.
    #[serde(flatten)]
    pub grant: ExplainedGrant,
    /// Why it does not.
    pub why: Mismatch,
}

/// Why a grant does not allow something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// It is about other rooms.
    OtherRoom,
    /// It is about the room, and other actions.
    OtherAction,
}

/// Where a grant comes from. All numbers count from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The entry of the token's `authorization_details` with this index.
    AuthorizationDetails(usize),
    /// The grant with this index in the answer of the back end that was asked when the holder connected.
    ConnectBackEnd(usize),
    /// A rule of the configuration.
    Rule(RuleSource),
}

/// A rule, and why it is for the holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleSource {
    /// Its index in `[[rooms]]`.
    pub index: usize,
    /// The pattern as it stands there.
    pub text: String,
    /// As whom it means the holder.
    pub whom: Whom,
    /// The scope that it wants, which the token has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The claims that the pattern names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// The back end that is asked before the rule allows something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

/// A pattern of a rule that gives the holder nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// The index of the rule in `[[rooms]]`, from 0.
    pub rule: usize,
    /// The pattern as it stands there.
    pub text: String,
    /// What the holder would have to have.
    #[serde(flatten)]
    pub wants: Want,
}

/// What a rule wants of its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "wants", content = "value")]
pub enum Want {
    /// A token at all.
    Token,
    /// A token of our own issuer.
    OwnIssuer,
    /// A token of one of these issuers.
    Issuer(Vec<String>),
    /// This scope.
    Scope(String),
    /// This claim, as a text or a list of texts.
    Claim(String),
    /// This claim, as `true`.
    True(&'static str),
}

impl RuleSource {
    pub(super) fn new((index, rule): (usize, &RoomRule), text: &str, whom: Whom) -> Self {
        Self {
            index,
            text: text.to_owned(),
            whom,
            scope: rule.scope.clone(),
            claims: claims_in(text).map(str::to_owned).collect(),
            backend: rule.backend.clone(),
        }
    }
}

impl Explanation {
    /// Returns the rule whose back end decides, if one does.
    #[must_use]
    pub fn asks(&self) -> Option<RuleIndex> {
        match (&self.backend, self.by.as_ref().map(|grant| &grant.source)) {
            (Some(_), Some(Source::Rule(rule))) => RuleIndex::try_from(rule.index).ok(),
            _ => None,
        }
    }

    /// The same explanation for a holder that may not enter the namespace: no grant counts.
    pub(super) fn barred(self) -> Self {
        Self {
            allowed: false,
            barred: true,
            by: None,
            considered: Vec::new(),
            backend: None,
            ..self
        }
    }

    /// The same explanation, after the back end was asked.
    #[must_use]
    pub fn answered(self, answer: BackEndAnswer) -> Self {
        Self {
            allowed: answer.allow,
            answer: Some(answer),
            ..self
        }
    }
}

/// Whether some grant allows `action` in `room`, and why, or why not.
pub(super) fn explain(
    rules: &[Rule],
    holder: &Holder<'_>,
    action: Action,
    room: &RoomName,
) -> Explanation {
    let (mut by, mut asked, mut considered) = (None, None, Vec::new());
    for_each_grant(rules, holder, |grant, source| {
        if by.is_some() {
            return;
        }
        let explained = ExplainedGrant {
            pattern: grant.pattern.to_string(),
            actions: grant.actions.iter().collect(),
            source: source(),
        };
        match (grant.covers(action, room), grant.asks) {
            (true, None) => return by = Some(explained),
            (true, Some(_)) if asked.is_none() => return asked = Some(explained),
            // The first back end decides.
            (true, Some(_)) => return,
            (false, _) => {}
        }
        considered.push(Considered {
            grant: explained,
            why: match grant.pattern.matches(room) {
                true => Mismatch::OtherAction,
                false => Mismatch::OtherRoom,
            },
        });
    });
    let asked = asked.filter(|_| by.is_none());
    let backend = asked.as_ref().and_then(|grant| match &grant.source {
        Source::Rule(rule) => rule.backend.clone(),
        Source::AuthorizationDetails(_) | Source::ConnectBackEnd(_) => None,
    });
    Explanation {
        allowed: by.is_some(),
        action,
        room: room.clone(),
        namespace: Some(room.namespace())
            .filter(|name| *name != MAIN)
            .map(str::to_owned),
        barred: false,
        by: by.or(asked),
        considered,
        passed_over: Vec::new(),
        backend,
        answer: None,
    }
}

/// The patterns of `rules` that give the holder nothing.
pub(super) fn passed_over(rules: &[Rule], holder: &Holder<'_>) -> Vec<PassedOver> {
    let mut passed_over = Vec::new();
    for (rule, settings) in rules.iter().map(|rule| &rule.settings).enumerate() {
        for text in &settings.rooms {
            passed_over.extend(settings.want(text, holder).map(|wants| PassedOver {
                rule,
                text: text.clone(),
                wants,
            }));
        }
    }
    passed_over
}

impl RoomRule {
    /// What the holder lacks to be given the rooms of the rule's pattern `text`.
    fn want(&self, text: &str, holder: &Holder<'_>) -> Option<Want> {
        if self.whom(holder).is_none() {
            return Some(match (holder, self.issuers.is_empty()) {
                (Holder::Guest, _) => Want::Token,
                (Holder::Bearer { .. }, true) => Want::OwnIssuer,
                (Holder::Bearer { .. }, false) => Want::Issuer(self.issuers.clone()),
            });
        }
        if !self.accepts_scope_of(holder) {
            return self.scope.clone().map(Want::Scope);
        }
        if !expand(text, holder).is_empty() {
            return None;
        }
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let is_usable = |name: &str| {
            holder.value_of(name).is_some_and(|value| {
                is_text(value) || value.as_array().is_some_and(|all| all.iter().any(is_text))
            })
        };
        // When all can be used, two of them are lists, of which the first alone is taken as one.
        let lacking = claims_in(text).find(|name| !is_usable(name));
        let lacking = lacking.or_else(|| claims_in(text).last())?;
        let is_there = holder.claims()?.all().contains_key(lacking);
        let verification = verification_of(lacking).filter(|_| is_there && !is_usable(lacking));
        let claim = || Want::Claim(lacking.to_owned());
        Some(verification.map_or_else(claim, Want::True))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.allowed, &self.backend, &self.answer) {
            (true, ..) => "allowed",
            (false, Some(_), None) => "decided by a back end",
            (false, ..) => "denied",
        };
        write!(
            formatter,
            "{verdict}: {} in {}",
            self.action.name(),
            self.room
        )?;
        if let Some(namespace) = &self.namespace {
            write!(formatter, " of {namespace}")?;
        }
        if self.barred {
            return formatter.write_str("\n  the holder may not enter the namespace");
        }
        if let Some(grant) = &self.by {
            write!(formatter, "\n  by {grant}")?;
        }
        if let (Some(backend), Some(answer)) = (&self.backend, &self.answer) {
            write!(formatter, "\n  the back end {backend} {answer}")?;
        }
        for Considered { grant, why } in &self.considered {
            let why = match why {
                Mismatch::OtherRoom => "another room",
                Mismatch::OtherAction => "other actions",
            };
            write!(formatter, "\n  not by {grant}: {why}")?;
        }
        for passed_over in &self.passed_over {
            write!(formatter, "\n  not by {passed_over}")?;
        }
        let is_bare = self.considered.is_empty() && self.passed_over.is_empty();
        if !self.allowed && self.by.is_none() && is_bare {
            formatter.write_str("\n  there is no rule, and no grant in the token")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExplainedGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<_> = self.actions.iter().map(|action| action.name()).collect();
        let actions = actions.join(", ");
        write!(formatter, "{} ({actions}) of {}", self.pattern, self.source)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self {
            Self::AuthorizationDetails(index) => {
                return write!(formatter, "the token's authorization_details[{index}]");
            }
            Self::ConnectBackEnd(index) => {
                return write!(
                    formatter,
                    "grants[{index}] of the back end of connect.backend"
                );
            }
            Self::Rule(rule) => rule,
        };
        let whom = match rule.whom {
            Whom::OwnIssuer => "for the own issuer",
            Whom::NamedIssuer => "for the issuer",
            Whom::Guests => "for guests",
        };
        write!(formatter, "rooms[{}] \"{}\", {whom}", rule.index, rule.text)?;
        if let Some(scope) = &rule.scope {
            write!(formatter, " and the scope {scope}")?;
        }
        if let Some(backend) = &rule.backend {
            write!(formatter, ", if the back end {backend} allows it")?;
        }
        Ok(())
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "rooms[{}] \"{}\", which wants ",
            self.rule, self.text
        )?;
        match &self.wants {
            Want::Token => formatter.write_str("a token"),
            Want::OwnIssuer => formatter.write_str("a token of the own issuer"),
            Want::Issuer(issuers) => write!(formatter, "a token of {}", issuers.join(" or ")),
            Want::Scope(scope) => write!(formatter, "the scope {scope}"),
            Want::Claim(claim) => write!(formatter, "the claim {claim} as a text"),
            Want::True(claim) => write!(formatter, "the claim {claim} as true"),
        }
    }
}
