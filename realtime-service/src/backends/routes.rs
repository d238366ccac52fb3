//! Routes: which back end answers which events, and whose.

use std::sync::Arc;

use tokio::time::Instant;

use super::{BackEnd, pattern::EventPattern};
use crate::{
    auth::policy::{Holder, TokenRequirement},
    config::{ConfigError, EventMode, EventRule, NamespaceView},
    limits::Rates,
};

/// The events of some names, the users that may send them, and the back end that answers them.
pub struct Route {
    patterns: Box<[EventPattern]>,
    required: TokenRequirement,
    rates: Option<Rates>,
    back_end: Arc<BackEnd>,
    /// The way in which the back end answers.
    pub mode: EventMode,
}

impl Route {
    fn new(rule: &EventRule, back_end: Arc<BackEnd>) -> Result<Self, &'static str> {
        let patterns = rule.events.iter().map(|text| EventPattern::parse(text));
        Ok(Self {
            patterns: patterns.collect::<Result<_, _>>()?,
            required: TokenRequirement::of_events(rule),
            rates: rule.rate.map(|rate| Rates::new(rate, rate)),
            back_end,
            mode: rule.mode,
        })
    }

    /// Whether the events called `name` take this route.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether the holder of a token, or a guest, may send these events.
    #[must_use]
    pub fn admits(&self, holder: &Holder<'_>) -> bool {
        self.required.is_met_by(holder)
    }

    /// Whether everybody with a token of our own issuer may send these events, whatever its claims.
    #[must_use]
    pub fn admits_own_tokens(&self) -> bool {
        self.required.is_met_by_own_tokens()
    }

    /// Counts an event of `sender`.
    ///
    /// # Errors
    ///
    /// The time to wait, when the sender is too fast. Then the event does not count.
    pub fn count(&self, sender: &str) -> Result<(), std::time::Duration> {
        match &self.rates {
            Some(rates) => rates.count(sender, Instant::now()),
            None => Ok(()),
        }
    }

    /// The back end that answers.
    #[must_use]
    pub fn back_end(&self) -> &Arc<BackEnd> {
        &self.back_end
    }
}

/// Builds the routes of a namespace.
///
/// # Errors
///
/// The first rule that cannot work.
pub(super) fn routes_of(
    namespace: &NamespaceView<'_>,
    all: &[Arc<BackEnd>],
) -> Result<Vec<Route>, ConfigError> {
    let place = &namespace.place;
    let route = |(index, rule): (usize, &EventRule)| {
        let invalid = |setting, problem: &str| ConfigError::Invalid {
            setting: format!("{place}events[{index}].{setting}"),
            problem: problem.to_owned(),
        };
        let back_end = all.iter().find(|one| one.name() == rule.backend);
        let back_end =
            back_end.ok_or_else(|| invalid("backend", "no [[backends]] entry has this name"))?;
        Route::new(rule, back_end.clone()).map_err(|problem| invalid("events", problem))
    };
    namespace.events.iter().enumerate().map(route).collect()
}
