//! The permission for an event: the grants of the session, and the back end that they leave it to.

use std::{sync::Arc, time::Duration};

use shared_claims::authorization::Action;

use super::{Call, EventError, backend::error_of};
use crate::{
    auth::policy::{GrantVerdict, RuleIndex},
    backends::{CallError, Decision, Failure},
    rooms::{Draft, RoomName},
    session::Identity,
};

/// Time after which a question may be asked again that a back end has answered with a fault.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Call<'_> {
    /// Returns the identity of the sender, if it may do `action` in `room`.
    ///
    /// # Errors
    ///
    /// When no grant allows it, or the back end that decides refuses it or gives no answer.
    pub(crate) async fn require(
        &self,
        action: Action,
        room: &RoomName,
    ) -> Result<Arc<Identity>, EventError> {
        let identity = self.session.identity();
        match self.decide(&identity, action, room).await? {
            Decision::Allowed => Ok(identity),
            Decision::Refused(reason) => Err(refused(reason, room)),
        }
    }

    /// Whether the sender may do `action` in `room`.
    ///
    /// # Errors
    ///
    /// When the back end that decides gives no answer.
    pub(crate) async fn may(&self, action: Action, room: &RoomName) -> Result<bool, EventError> {
        let identity = self.session.identity();
        let decision = self.decide(&identity, action, room).await?;
        Ok(decision == Decision::Allowed)
    }

    /// Returns the decision on `action` in `room`. It is made while the session lives, and so is what
    /// follows from it.
    async fn decide(
        &self,
        identity: &Identity,
        action: Action,
        room: &RoomName,
    ) -> Result<Decision, EventError> {
        if let GrantVerdict::Allowed = identity.grants.verdict(action, room) {
            return Ok(Decision::Allowed);
        }
        let decision = self.session.decide(identity, action, room).await;
        self.finish(decision, room)
    }

    /// Asks the back end of `rule` about a message, and puts the one of the answer in its place.
    ///
    /// # Errors
    ///
    /// When the back end refuses the message, or gives no answer.
    pub(crate) async fn review(
        &self,
        identity: &Identity,
        rule: RuleIndex,
        draft: &mut Draft,
    ) -> Result<(), EventError> {
        let answer = self.session.review(identity, rule, draft).await;
        let (decision, replacement) = self.finish(answer, &draft.room)?;
        if let Decision::Refused(reason) = decision {
            return Err(refused(reason, &draft.room));
        }
        if let Some(replacement) = replacement {
            draft.data = replacement.data;
            draft.event = replacement
                .event
                .unwrap_or(std::mem::take(&mut draft.event));
        }
        Ok(())
    }

    /// Returns the answer of a back end, unless the session has ended meanwhile or there is none. As
    /// nothing was carried out, the event can be sent again, unless it is too large.
    fn finish<T>(&self, answer: Result<T, CallError>, room: &RoomName) -> Result<T, EventError> {
        let answer = answer.map_err(|error| {
            let pause = match error.failure {
                Failure::TooLarge => None,
                _ => Some(error.retry_after.unwrap_or(RETRY_AFTER)),
            };
            let error = error_of(&error).retryable_after(pause);
            error.in_room(room.clone())
        })?;
        match self.session.is_live() {
            true => Ok(answer),
            false => Err(EventError::session_ended()),
        }
    }
}

/// The error for an action that is refused, with the text of the back end if it has one.
fn refused(reason: Option<Arc<str>>, room: &RoomName) -> EventError {
    match reason {
        None => EventError::forbidden(room.clone()),
        Some(reason) => EventError::new("forbidden", reason.to_string()).in_room(room.clone()),
    }
}
