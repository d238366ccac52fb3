//! The permission of a session for an action in a room, which a back end may decide on.

use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use shared_claims::{VerifiedClaims, authorization::Action};

use super::{Identity, Membership, Principal, Session};
use crate::{
    auth::policy::{GrantVerdict, RuleIndex},
    backends::{Asker, CallError, Decision, Matter, Replacement},
    rooms::{Draft, RoomName},
};

/// Maximum number of questions that one session asks at a time after a renewal.
const QUESTIONS_AT_ONCE: usize = 8;

impl Session {
    /// Returns the decision on `action` in `room` for `identity`. A back end is asked if the grants leave
    /// it to one. The session may end while it is.
    ///
    /// # Errors
    ///
    /// When the back end gives no answer.
    pub(crate) async fn decide(
        &self,
        identity: &Identity,
        action: Action,
        room: &RoomName,
    ) -> Result<Decision, CallError> {
        let rule = match identity.grants.verdict(action, room) {
            GrantVerdict::Allowed => return Ok(Decision::Allowed),
            GrantVerdict::Denied => return Ok(Decision::Refused(None)),
            GrantVerdict::Asks(rule) => rule,
        };
        let matter = Matter { rule, action, room };
        let decisions = self.context.back_ends.decisions();
        let details = identity.details();
        let asker = details.asker(self.outbox.namespace());
        decisions.decide(&asker, matter).await
    }

    /// Asks the back end of `rule` about a message of `identity`, and returns the message in its place, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// When the back end gives no answer.
    pub(crate) async fn review(
        &self,
        identity: &Identity,
        rule: RuleIndex,
        draft: &Draft,
    ) -> Result<(Decision, Option<Replacement>), CallError> {
        let decisions = self.context.back_ends.decisions();
        let details = identity.details();
        let asker = details.asker(self.outbox.namespace());
        decisions.decide_message(&asker, rule, draft).await
    }

    /// Asks the back ends again about the rooms that the session is in by their decision, since its token
    /// was renewed, a few at a time. It leaves those that are refused, and those about which there is no
    /// answer.
    pub(super) async fn review_rooms(&self) {
        let identity = self.identity();
        let rooms = stream::iter(self.joined());
        rooms
            .for_each_concurrent(QUESTIONS_AT_ONCE, |room| self.review_room(&identity, room))
            .await;
    }

    async fn review_room(&self, identity: &Identity, room: RoomName) {
        let is_by_back_end = self.rooms().get(&room) == Some(&Membership::ByBackEnd);
        if !is_by_back_end && is_asked(identity, Action::Subscribe, &room) {
            let code = match self.decide(identity, Action::Subscribe, &room).await {
                Ok(Decision::Allowed) => None,
                Ok(Decision::Refused(_)) => Some("forbidden"),
                Err(error) => Some(error.failure.code()),
            };
            if let Some(code) = code {
                return self.leave_with_notice(&room, code);
            }
        }
        let rooms = &self.context.rooms;
        if is_asked(identity, Action::Presence, &room)
            && rooms.is_watched_by(&room, &self.connection)
        {
            let decision = self.decide(identity, Action::Presence, &room).await;
            let may_watch = decision == Ok(Decision::Allowed);
            rooms.let_watch(&room, &self.connection, may_watch);
        }
    }

    /// Takes the session out of a room, and tells its client why.
    pub(super) fn leave_with_notice(&self, room: &RoomName, code: &str) {
        self.leave(room);
        self.emit("rt:unsubscribed", &json!({ "room": room, "code": code }));
    }
}

/// Whether a back end decides on `action` in `room`.
pub(super) fn is_asked(identity: &Identity, action: Action, room: &RoomName) -> bool {
    matches!(identity.grants.verdict(action, room), GrantVerdict::Asks(_))
}

/// An identity as a back end sees it.
pub struct UserDetails<'a> {
    principal: Option<&'a Principal>,
    claims: Option<VerifiedClaims>,
    none: Map<String, Value>,
    key: String,
}

impl UserDetails<'_> {
    /// Returns the user for questions to back ends, on a connection of `namespace`.
    #[must_use]
    pub fn asker<'a>(&'a self, namespace: &'a str) -> Asker<'a> {
        Asker {
            issuer: self.principal.map(|principal| &*principal.issuer),
            subject: self.principal.map(|principal| &*principal.subject),
            session: self
                .principal
                .and_then(|principal| principal.session.as_deref()),
            claims: match &self.claims {
                Some(claims) => claims.all(),
                None => &self.none,
            },
            key: &self.key,
            namespace,
        }
    }
}

impl Identity {
    /// Returns the identity as a back end sees it.
    #[must_use]
    pub fn details(&self) -> UserDetails<'_> {
        UserDetails {
            principal: self.principal.as_ref(),
            claims: self.claims(),
            none: Map::new(),
            key: self.key(),
        }
    }
}
