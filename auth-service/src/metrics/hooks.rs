//! Answers of services of the operator's: of the one that is told events, and of the claims webhook.

use super::Metrics;

/// Outcome of an event that the operator's service is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// The service took it.
    Delivered,
    /// The service did not; it is tried again.
    Failed,
    /// The event was given up: too old, or too many waited.
    Dropped,
}

impl EventOutcome {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Outcome of a question to the claims webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsOutcome {
    /// The webhook answered with claims.
    Answered,
    /// An earlier answer with claims was still good.
    Cached,
    /// The webhook refused the login, now or in an earlier answer.
    Refused,
    /// The webhook gave no answer that can be used.
    Failed,
}

impl ClaimsOutcome {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Cached => "cached",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Registers what is counted of these services.
    pub(super) fn register_hooks(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "events",
            "Attempts to tell an event, by outcome",
            self.events.clone(),
        );
        registry.register(
            "events_pending",
            "Events that the operator's service has not taken yet",
            self.events_pending.clone(),
        );
        registry.register(
            "claims_webhook",
            "Tokens about which the claims webhook decided, by outcome",
            self.claims.clone(),
        );
    }

    /// A token was about to be signed.
    pub fn claims(&self, outcome: ClaimsOutcome) {
        let labels = [("outcome", outcome.name())];
        self.claims.get_or_create(&labels).inc();
    }
}
