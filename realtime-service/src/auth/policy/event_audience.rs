//! Whose events a back end answers.

use serde_json::Value;
use shared_claims::verify::RequiredClaim;

use super::Holder;
use crate::config::{EventRule, RoomRule};

/// The holders of tokens, and the guests, that may send the events of a rule.
pub struct EventAudience {
    /// A rule that opens no room, for the parts that rules for rooms have too.
    rule: RoomRule,
    claims: Box<[RequiredClaim]>,
}

impl EventAudience {
    /// The audience of a rule of the settings.
    #[must_use]
    pub fn new(rule: &EventRule) -> Self {
        let claims = rule.claims.iter().map(|(name, value)| RequiredClaim {
            name: name.clone(),
            values: match value {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            },
        });
        Self {
            claims: claims.collect(),
            rule: RoomRule {
                rooms: Vec::new(),
                actions: Vec::new(),
                issuers: rule.issuers.clone(),
                scope: rule.scope.clone(),
                guests: rule.guests,
            },
        }
    }

    /// Whether somebody may send the events.
    #[must_use]
    pub fn admits(&self, holder: &Holder<'_>) -> bool {
        let has_claims = || match holder.claims() {
            Some(claims) => self
                .claims
                .iter()
                .all(|claim| claim.is_met_by(claims.all())),
            None => self.claims.is_empty(),
        };
        self.rule.whom(holder).is_some() && self.rule.accepts_scope_of(holder) && has_claims()
    }
}
