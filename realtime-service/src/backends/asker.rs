//! The user on whose behalf a back end is asked, and the parts that all answers have.

use serde::Serialize;
use serde_json::{Map, Value};
use shared_claims::ids::is_identifier;

use super::{CallError, CloudEvent, EventType};
use crate::clock::wall_now;

/// The user on whose behalf a back end is asked. A guest has no issuer, subject and session.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The `iss` of the token.
    pub issuer: Option<&'a str>,
    /// The `sub` of the token.
    pub subject: Option<&'a str>,
    /// The `sid` of the token.
    pub session: Option<&'a str>,
    /// The claims of the token.
    pub claims: &'a Map<String, Value>,
    /// The key of the user's share of a back end's capacity.
    pub key: &'a str,
    /// The namespace of the connection.
    pub namespace: &'a str,
}

impl<'a> Asker<'a> {
    /// Returns an event of this moment about the user.
    pub(super) fn event<T: Serialize>(
        &self,
        kind: EventType,
        id: &'a str,
        data: T,
    ) -> CloudEvent<'a, T> {
        let mut event = CloudEvent::new(kind, (id, wall_now()), self.namespace, data);
        event.subject = self.subject;
        event.issuer = self.issuer;
        event.session = self.session;
        event
    }
}

/// Returns the error for an answer that has a fault.
pub(super) fn unusable(fault: &str) -> CallError {
    CallError::permanent(format!("the answer cannot be used: {fault}"))
}

/// Checks the text that a back end has for a client that it refuses.
///
/// # Errors
///
/// When the client is not refused, or the text is empty, too long, or has control characters.
pub(super) fn check_reason(is_allowed: bool, reason: Option<&str>) -> Result<(), CallError> {
    match reason {
        Some(_) if is_allowed => Err(unusable("it allows, and has a reason for a refusal")),
        Some(text) if !is_identifier(text) => Err(unusable(
            "the reason must have 1 to 255 bytes, without control or hidden characters",
        )),
        _ => Ok(()),
    }
}
