//! The identity of a question, and its weight among the answers that are kept.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::Weighter;
use serde_json::{Map, Value};
use shared_claims::authorization::Action;

use super::{Decision, KeptDecision, Matter};
use crate::{
    auth::policy::{RoomName, RuleIndex},
    backends::Asker,
    config::DecisionSettings,
};

/// Claims that say which token it is, and until when, and nothing about its user.
const CLAIMS_OF_ONE_TOKEN: [&str; 5] = ["exp", "iat", "jti", "nbf", "sid"];

/// Estimated size of an entry besides its texts, in bytes: the key, the outcome, and the tables.
const ENTRY_BYTES: usize = 320;

/// The identity of a question. All connections of a user ask the same one, if their tokens say the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct QuestionKey {
    issuer: Box<str>,
    subject: Box<str>,
    /// SHA-256 of the claims.
    claims: [u8; 32],
    rule: RuleIndex,
    action: Action,
    room: RoomName,
    namespace: Box<str>,
}

/// The weight of an answer: its bytes, and at least so many that no more answers fit than may be kept.
#[derive(Clone)]
pub(super) struct Weight {
    minimum: u64,
}

impl QuestionKey {
    pub(super) fn new(asker: &Asker<'_>, matter: Matter<'_>) -> Self {
        Self {
            issuer: asker.issuer.unwrap_or_default().into(),
            subject: asker.subject.unwrap_or_default().into(),
            claims: fingerprint(asker.claims),
            rule: matter.rule,
            action: matter.action,
            room: matter.room.clone(),
            namespace: asker.namespace.into(),
        }
    }
}

impl Weight {
    /// The weight of answers that are kept within `settings`.
    pub(super) fn of(settings: &DecisionSettings) -> Self {
        Self {
            minimum: settings.bytes.div_ceil(settings.entries) as u64,
        }
    }
}

impl Weighter<QuestionKey, Arc<KeptDecision>> for Weight {
    fn weight(&self, key: &QuestionKey, kept: &Arc<KeptDecision>) -> u64 {
        let reason = match &kept.outcome {
            Ok(Decision::Refused(Some(reason))) => reason.len(),
            _ => 0,
        };
        let texts = key.issuer.len() + key.subject.len() + key.room.len() + key.namespace.len();
        ((ENTRY_BYTES + texts + reason) as u64).max(self.minimum)
    }
}

/// Returns a digest of what a token says about its user.
fn fingerprint(claims: &Map<String, Value>) -> [u8; 32] {
    let lasting = claims
        .iter()
        .filter(|(name, _)| !CLAIMS_OF_ONE_TOKEN.contains(&name.as_str()));
    let lasting: BTreeMap<&String, &Value> = lasting.collect();
    // Texts, numbers and lists of them are always JSON.
    let json = serde_json::to_vec(&lasting).unwrap_or_default();
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &json).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_that_say_the_same_of_their_user_ask_the_same_question() {
        let print = |claims: Value| fingerprint(claims.as_object().expect("claims"));
        let one = print(json!({ "sub": "alice", "exp": 1, "jti": "a", "sid": "s" }));
        assert_eq!(
            one,
            print(json!({ "sub": "alice", "exp": 2, "jti": "b", "sid": "t" }))
        );
        assert_ne!(
            one,
            print(json!({ "sub": "alice", "exp": 1, "jti": "a", "sid": "s", "plan": "gold" }))
        );
    }
}
