//! What the rules of the configuration mean.

use serde::Serialize;
use serde_json::Value;
use smallvec::SmallVec;

use super::{
    ActionSet, Holder, RuleIndex,
    pattern::{Pattern, claim_of, segments_of},
};
use crate::config::{ANY_ISSUER, Authority, RoomRule};

/// The most rooms that one claim with several values opens by one pattern.
const MAXIMUM_VALUES: usize = 64;

/// The patterns that a text stands for.
type Patterns = SmallVec<[Pattern; 1]>;

/// Whom a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// The tokens of our own issuer.
    OwnIssuer,
    /// The tokens of an issuer that it names, or of every one.
    NamedIssuer,
    /// Guests, and so everybody.
    Guests,
}

/// A rule, with its patterns parsed as far as they are the same for every holder.
pub(super) struct Rule {
    pub(super) settings: RoomRule,
    pub(super) actions: ActionSet,
    /// By the place of the text in the settings; `None` for a text that names a claim.
    constants: Box<[Option<Pattern>]>,
}

impl Rule {
    pub(super) fn new(settings: RoomRule) -> Self {
        Self {
            actions: settings.actions.iter().copied().collect(),
            constants: settings
                .rooms
                .iter()
                .map(|text| Pattern::parse(text, |_| None))
                .collect(),
            settings,
        }
    }

    /// The index of this rule, when its back end is asked before it allows something.
    pub(super) fn asks(&self, index: usize) -> Option<RuleIndex> {
        self.settings.backend.as_ref()?;
        // The policy has checked that each index fits.
        RuleIndex::try_from(index).ok()
    }

    /// The patterns that the text at `place` stands for.
    pub(super) fn patterns(&self, place: usize, holder: &Holder<'_>) -> Patterns {
        match &self.constants[place] {
            Some(pattern) => Patterns::from_iter([pattern.clone()]),
            None => expand(&self.settings.rooms[place], holder),
        }
    }
}

impl RoomRule {
    /// What is wrong with the rule, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let is_pattern = |pattern: &String| Pattern::parse(pattern, |_| Some("x")).is_some();
        let says_whose = |pattern: &String| {
            let first = claims_in(pattern).next();
            self.issuers.is_empty() || first.is_none_or(|claim| claim == "iss")
        };
        let is_for_guests = |pattern: &String| !self.guests || claims_in(pattern).next().is_none();
        match (self.authorize, &self.backend) {
            (Some(Authority::Backend), None) => {
                return Some("a rule with authorize = \"backend\" must name its backend");
            }
            (None, Some(_)) => {
                return Some("a rule that names a backend must have authorize = \"backend\"");
            }
            _ => {}
        }
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

    /// As whom it means the holder, if it does; the scope is another matter.
    pub(super) fn whom(&self, holder: &Holder<'_>) -> Option<Whom> {
        let Holder::Bearer {
            claims,
            is_ours,
            issuer,
            ..
        } = holder
        else {
            return self.guests.then_some(Whom::Guests);
        };
        let is_named = |name: &String| name == ANY_ISSUER || *name == claims.iss || name == issuer;
        if self.issuers.iter().any(is_named) {
            return Some(Whom::NamedIssuer);
        }
        if *is_ours && self.issuers.is_empty() {
            return Some(Whom::OwnIssuer);
        }
        self.guests.then_some(Whom::Guests)
    }

    /// Whether the holder has the scope that it wants.
    pub(super) fn accepts_scope_of(&self, holder: &Holder<'_>) -> bool {
        self.scope.as_ref().is_none_or(|scope| {
            let claims = holder.claims();
            let scopes = claims.and_then(|claims| claims.scope.as_deref());
            scopes.is_some_and(|scopes| scopes.split(' ').any(|one| one == scope))
        })
    }
}

/// The patterns that a rule's text stands for: one, or one for each value of a claim that has
/// several; none when a claim is missing, or is no text.
pub(super) fn expand(text: &str, holder: &Holder<'_>) -> Patterns {
    let list = claims_in(text).find_map(|name| Some((name, holder.value_of(name)?.as_array()?)));
    let one = |chosen: Option<(&str, &str)>| {
        Pattern::parse(text, |name| match chosen {
            Some((list, value)) if list == name => Some(value),
            _ => holder.value_of(name).and_then(Value::as_str),
        })
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

/// The claims that a rule's text names.
pub(super) fn claims_in(text: &str) -> impl Iterator<Item = &str> {
    segments_of(text).filter_map(claim_of)
}
