//! The tokens that the sender of an event needs, or a client that enters a namespace.

use std::collections::BTreeMap;

use serde_json::Value;
use shared_claims::verify::RequiredClaim;

use super::Holder;
use crate::config::{EventRule, NamespaceSettings, RoomRule};

/// The issuers, the scope and the claims of the tokens that something needs, and whether guests need none.
pub struct TokenRequirement {
    /// A rule that opens no room, for the parts that rules for rooms have too.
    rule: RoomRule,
    claims: Box<[RequiredClaim]>,
}

impl TokenRequirement {
    /// The requirement of the events of a rule.
    #[must_use]
    pub fn of_events(rule: &EventRule) -> Self {
        Self::new(
            &rule.issuers,
            rule.scope.as_ref(),
            &rule.claims,
            rule.guests,
        )
    }

    /// The requirement of a namespace.
    pub(super) fn of_namespace(settings: &NamespaceSettings) -> Self {
        let NamespaceSettings {
            issuers,
            scope,
            claims,
            guests,
            ..
        } = settings;
        Self::new(issuers, scope.as_ref(), claims, *guests)
    }

    fn new(
        issuers: &[String],
        scope: Option<&String>,
        claims: &BTreeMap<String, Value>,
        guests: bool,
    ) -> Self {
        let claims = claims.iter().map(|(name, value)| RequiredClaim {
            name: name.clone(),
            values: match value {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            },
        });
        Self {
            claims: claims.collect(),
            rule: RoomRule {
                issuers: issuers.to_vec(),
                scope: scope.cloned(),
                guests,
                ..RoomRule::default()
            },
        }
    }

    /// Whether guests need no token.
    pub(super) fn is_met_by_guests(&self) -> bool {
        self.rule.guests
    }

    /// Whether every token of our own issuer meets the requirement, whatever its claims.
    #[must_use]
    pub fn is_met_by_own_tokens(&self) -> bool {
        let RoomRule { issuers, scope, .. } = &self.rule;
        issuers.is_empty() && scope.is_none() && self.claims.is_empty()
    }

    /// Whether the token of somebody, or a guest, meets the requirement. A claim that its issuer has not
    /// verified does not count.
    #[must_use]
    pub fn is_met_by(&self, holder: &Holder<'_>) -> bool {
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
    fn every_token_of_our_own_meets_a_requirement_without_issuer_scope_and_claim() {
        for (more, is_met) in [
            (json!({}), true),
            (json!({ "guests": true }), true),
            (json!({ "issuers": ["*"] }), false),
            (json!({ "issuers": ["https://other"] }), false),
            (json!({ "scope": "shop" }), false),
            (json!({ "claims": { "org": "acme" } }), false),
        ] {
            let mut rule = json!({ "events": ["order:*"], "backend": "shop", "mode": "call" });
            let members = more.as_object().cloned().expect("an object");
            rule.as_object_mut().expect("an object").extend(members);
            let required =
                TokenRequirement::of_events(&serde_json::from_value(rule).expect("a rule"));
            assert_eq!(required.is_met_by_own_tokens(), is_met, "{more}");
            if is_met {
                assert!(required.is_met_by(&ours(&claims(json!({})))), "{more}");
            }
        }
    }

    #[test]
    fn an_address_that_is_not_verified_meets_no_claim() {
        let rule = json!({
            "events": ["order:*"], "backend": "shop", "mode": "call",
            "claims": { "email": "boss@acme.org" },
        });
        let required = TokenRequirement::of_events(&serde_json::from_value(rule).expect("a rule"));
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
            assert_eq!(required.is_met_by(&ours(&claims)), is_admitted, "{token}");
        }
    }
}
