//! The answer of a back end about an action in a room.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use shared_claims::json;
use utoipa::ToSchema;

use crate::{
    backends::{
        CallError,
        asker::{check_reason, unusable},
        reply::data,
    },
    rooms::{Data, is_publishable},
};

/// The longest time for which an answer may hold, in seconds.
const MAXIMUM_CACHE_SECS: u64 = 3600;

/// The decision of a back end about an action in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The action is allowed.
    Allowed,
    /// The action is refused, with a text for the client.
    Refused(Option<Arc<str>>),
}

/// An answer, and the time for which it holds.
pub struct DecisionAnswer {
    /// The decision.
    pub decision: Decision,
    /// Time for which the same question need not be asked again; zero for an answer to one question.
    pub cache: Duration,
    /// The message to publish in place of the one that was asked about.
    pub message: Option<Replacement>,
}

/// A message in place of another one.
pub struct Replacement {
    /// The name of the event; `None` leaves it as it was.
    pub event: Option<String>,
    /// The content.
    pub data: Data,
}

/// An answer as it is written.
#[derive(Deserialize, ToSchema)]
#[schema(as = DecisionAnswer)]
#[serde(deny_unknown_fields)]
pub(in crate::backends) struct WrittenDecision {
    allow: bool,
    /// Time for which the answer holds, in seconds: 3600 at most.
    #[serde(default)]
    #[schema(maximum = 3600)]
    cache_secs: u64,
    /// The text that a refused client gets.
    reason: Option<String>,
    /// A message to publish in place of the one that was asked about.
    message: Option<WrittenReplacement>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = DecisionMessage)]
#[serde(deny_unknown_fields)]
struct WrittenReplacement {
    /// The name of the event, if it is another.
    event: Option<String>,
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// The binary data of its placeholders, in base64.
    #[serde(default)]
    attachments: Vec<String>,
}

impl DecisionAnswer {
    /// Parses the body of an answer. `has_message` says whether the question was about a message.
    ///
    /// # Errors
    ///
    /// When the body has another shape, or a part of it cannot work.
    pub(super) fn parse(body: &[u8], has_message: bool) -> Result<Self, CallError> {
        let written: WrittenDecision = json::from_object(body).ok_or_else(|| {
            unusable("it is no object with allow, cache_secs, reason and message alone, or one of them has another shape")
        })?;
        check_reason(written.allow, written.reason.as_deref())?;
        if written.cache_secs > MAXIMUM_CACHE_SECS {
            return Err(unusable("cache_secs must be at most 3600"));
        }
        if written.message.is_some() {
            if !written.allow || !has_message {
                return Err(unusable("a message belongs to an answer that allows one"));
            }
            if written.cache_secs > 0 {
                return Err(unusable(
                    "an answer with a message is for that message alone",
                ));
            }
        }
        Ok(Self {
            decision: match written.allow {
                true => Decision::Allowed,
                false => Decision::Refused(written.reason.map(Into::into)),
            },
            cache: Duration::from_secs(written.cache_secs),
            message: written.message.map(WrittenReplacement::check).transpose()?,
        })
    }
}

impl WrittenReplacement {
    fn check(self) -> Result<Replacement, CallError> {
        let is_named = self.event.as_deref().is_none_or(is_publishable);
        if !is_named {
            return Err(unusable(
                "the name of an event is reserved, or longer than 128 bytes",
            ));
        }
        Ok(Replacement {
            event: self.event,
            data: data(self.data, &self.attachments).map_err(unusable)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_spoils_the_whole_answer_and_its_twin_is_used() {
        for (fault, twin) in [
            ("", r#"{"allow":true}"#),
            (r#"{"allow":"yes"}"#, r#"{"allow":false}"#),
            (r#"{"cache_secs":1}"#, r#"{"allow":true,"cache_secs":1}"#),
            (
                r#"{"allow":true,"cache_secs":3601}"#,
                r#"{"allow":true,"cache_secs":3600}"#,
            ),
            (
                r#"{"allow":true,"reason":"x"}"#,
                r#"{"allow":false,"reason":"x"}"#,
            ),
            (
                r#"{"allow":false,"message":{"data":1}}"#,
                r#"{"allow":true,"message":{"data":1}}"#,
            ),
            (
                r#"{"allow":true,"message":{"data":1},"cache_secs":1}"#,
                r#"{"allow":true,"message":{"data":1},"cache_secs":0}"#,
            ),
            (
                r#"{"allow":true,"message":{"event":"rt:x","data":1}}"#,
                r#"{"allow":true,"message":{"event":"x","data":1}}"#,
            ),
            (
                r#"{"allow":true,"message":{"data":{"_placeholder":true,"num":0}}}"#,
                r#"{"allow":true,"message":{"data":{"_placeholder":true,"num":0},"attachments":["AQI="]}}"#,
            ),
        ] {
            assert!(
                DecisionAnswer::parse(fault.as_bytes(), true).is_err(),
                "{fault}"
            );
            assert!(
                DecisionAnswer::parse(twin.as_bytes(), true).is_ok(),
                "{twin}"
            );
        }
        let message = br#"{"allow":true,"message":{"data":1}}"#;
        assert!(
            DecisionAnswer::parse(message, false).is_err(),
            "no message was asked about"
        );
    }
}
