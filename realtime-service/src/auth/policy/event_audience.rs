//! The senders whose events a back end answers.

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
                issuers: rule.issuers.clone(),
                scope: rule.scope.clone(),
                guests: rule.guests,
                ..RoomRule::default()
            },
        }
    }

    /// Whether somebody may send the events. A claim that its issuer has not verified does not count.
    #[must_use]
    pub fn admits(&self, holder: &Holder<'_>) -> bool {
        let has_claims = || match holder.claims() {
            Some(claims) => self.claims.iter().all(|claim| {
                holder.value_of(&claim.name).is_some() && claim.is_met_by(claims.all())
            }),
            None => self.claims.is_empty(),
        };
        self.rule.whom(holder).is_some() && self.rule.accepts_scope_of(holder) && has_claims()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::policy::tests::{claims, ours};

    #[test]
    fn an_address_that_is_not_verified_meets_no_claim() {
        let rule = json!({
            "events": ["order:*"], "backend": "shop", "mode": "call",
            "claims": { "email": "boss@acme.org" },
        });
        let audience = EventAudience::new(&serde_json::from_value(rule).expect("a rule"));
        let email = "boss@acme.org";
        for (token, is_admitted) in [
            (json!({ "email": email, "email_verified": true }), true),
            (json!({ "email": email, "email_verified": false }), false),
            (json!({ "email": email }), false),
            (
                json!({ "email": "b@acme.org", "email_verified": true }),
                false,
            ),
        ] {
            let claims = claims(token.clone());
            assert_eq!(audience.admits(&ours(&claims)), is_admitted, "{token}");
        }
    }
}
