//! `authenticate`: a token for a session that is there already. It says who a guest is, or lets
//! somebody stay for longer; it never makes somebody somebody else.

use std::sync::{Arc, atomic::Ordering};

use serde::Deserialize;
use serde_json::{Value, json};
use shared_claims::{Rejection, VerifiedClaims, authorization::Action, json, verify::LogoutScope};
use socketioxide::extract::SocketRef;

use super::{
    Arguments, Identity, Membership, NotAdmitted, Received, Session, handlers::Audience, lock,
    permission::is_asked, unauthorized,
};
use crate::{
    auth::{keys::Unverified, policy::GrantVerdict, token_of_text},
    backends::{Admission, AdmissionStage},
    clock::{unix_secs, wall_now},
    metrics::Cause,
    rooms::RoomName,
};

/// The event, in the name that `socketio-jwt` gave it.
pub(crate) const AUTHENTICATE: &str = "authenticate";

/// What a token has changed for its session.
#[derive(Debug, PartialEq, Eq)]
pub struct Renewed {
    /// When the session ends now, in seconds since the epoch.
    pub expires_at: u64,
    /// Patterns of rooms in which more is allowed than before.
    pub added: Vec<String>,
    /// Patterns of rooms in which less is allowed than before.
    pub dropped: Vec<String>,
}

/// The reason why a token was not taken.
#[derive(Debug)]
pub enum NotRenewed {
    /// The token is refused.
    Rejected {
        /// The reason.
        rejection: Rejection,
        /// The text of the back end that refuses it.
        detail: Option<Box<str>>,
    },
    /// The decision on the client cannot be made now.
    Unavailable {
        /// The reason for metrics.
        cause: Cause,
        /// The reason for people.
        message: &'static str,
    },
}

impl From<Rejection> for NotRenewed {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected {
            rejection,
            detail: None,
        }
    }
}

impl From<Unverified> for NotRenewed {
    fn from(unverified: Unverified) -> Self {
        match unverified {
            Unverified::Rejected(rejection) => rejection.into(),
            Unverified::NoKeys => Self::Unavailable {
                cause: Cause::NoKeys,
                message: "no keys are known",
            },
        }
    }
}

impl From<NotAdmitted> for NotRenewed {
    fn from(not_admitted: NotAdmitted) -> Self {
        match not_admitted {
            NotAdmitted::Refused(detail) => Self::Rejected {
                rejection: Rejection::RefusedByBackEnd,
                detail,
            },
            NotAdmitted::Unanswered(_) => Self::Unavailable {
                cause: Cause::BackEndFailed,
                message: "the back end that admits clients gives no answer",
            },
        }
    }
}

/// The payload. `socketio-jwt`'s clients send other members too, which mean nothing.
#[derive(Deserialize)]
struct Authenticate {
    #[serde(default)]
    token: Value,
}

impl Session {
    /// Takes an `authenticate` in.
    pub(crate) fn receive_authenticate(self: &Arc<Self>, received: Received) {
        self.receive(
            received,
            Audience::Everybody,
            |session, received| async move {
                session.authenticate(&received).await;
            },
        );
    }

    /// Lets the client present a token at any time.
    pub(crate) fn on_authenticate(self: &Arc<Self>, socket: &SocketRef) {
        self.register(
            socket,
            AUTHENTICATE.into(),
            Audience::Everybody,
            |session, received| async move { session.authenticate(&received).await },
        );
    }

    async fn authenticate(self: &Arc<Self>, received: &Received) {
        let was_guest = self.identity().principal.is_none();
        let outcome = match token_of(received) {
            Ok(token) => self.renew(&token).await,
            Err(rejection) => Err(rejection.into()),
        };
        // Who asked for no acknowledgement is told by an event, as a guest is in any case.
        let with_event = was_guest || !received.wants_acknowledgement();
        match outcome {
            Ok(renewed) => {
                self.open_book().await;
                if with_event {
                    // A unit would be sent as `null`.
                    self.emit("authenticated", &Arguments::<Value>(Vec::new()));
                }
                let Renewed {
                    expires_at,
                    added,
                    dropped,
                } = renewed;
                let answer = json!({
                    "ok": true, "expires_at": expires_at, "added": added, "dropped": dropped,
                });
                received.acknowledge(self, &answer).await;
            }
            Err(NotRenewed::Rejected { rejection, detail }) => {
                tracing::info!(connection = %self.connection, reason = rejection.reason(), "a token was refused");
                self.engine().note_rejection(rejection);
                if with_event {
                    let mut told = unauthorized(rejection);
                    if let Some(detail) = &detail {
                        told["data"]["detail"] = json!(detail);
                    }
                    self.emit("unauthorized", &told);
                }
                let mut error = json!({
                    "code": rejection.code(), "message": rejection.message(),
                    "reason": rejection.reason(), "retryable": false,
                });
                if let Some(detail) = detail {
                    error["detail"] = json!(detail);
                }
                let answer = json!({ "ok": false, "error": error });
                received.acknowledge(self, &answer).await;
                self.count_refusal(was_guest);
            }
            Err(NotRenewed::Unavailable { cause, message })
                if was_guest && !received.wants_acknowledgement() =>
            {
                tracing::warn!("nobody can be admitted: {message}");
                // As at CONNECT: a closed transport brings the client back by itself, where the end of its
                // time as a guest would not.
                self.engine().end(cause);
            }
            Err(NotRenewed::Unavailable { message, .. }) => {
                let error = json!({ "code": "unavailable", "message": message, "retryable": true });
                let answer = json!({ "ok": false, "error": error });
                received.acknowledge(self, &answer).await;
            }
        }
    }

    /// Takes a token of the same principal in place of the one from before; a guest can become
    /// anybody, once.
    ///
    /// # Errors
    ///
    /// When the token is refused, revoked, somebody else's, or none that may be in the namespace, or the back end that is asked about clients
    /// refuses it; then nothing changes.
    pub async fn renew(self: &Arc<Self>, token: &str) -> Result<Renewed, NotRenewed> {
        let claims = self.context.keys.verify(token, wall_now()).await?;
        if self.context.revocations.covers(&claims) {
            return Err(Rejection::TokenRevoked.into());
        }
        let policy = self.policy();
        if !policy.admits(&policy.bearer(&claims)) {
            return Err(Rejection::NamespaceForbidden.into());
        }
        let stage = match self.identity().principal {
            Some(_) => AdmissionStage::Renew,
            None => AdmissionStage::Connect,
        };
        let (connection, namespace) = (&self.connection, self.outbox.namespace());
        let admission = self
            .context
            .ask_admission(&claims, connection, namespace, stage)
            .await?;
        let renewed = self.replace_identity(claims.clone(), admission)?;
        // Whoever revoked it meanwhile did not find this session in the index, or found it.
        if self.context.revocations.covers(&claims) {
            self.disconnect(Cause::Revoked);
            return Err(Rejection::TokenRevoked.into());
        }
        let scope = LogoutScope::Subject(claims.sub.clone());
        self.context
            .back_ends
            .decisions()
            .forget(&claims.iss, &scope);
        self.review_rooms().await;
        self.join_named_rooms().await;
        Ok(renewed)
    }

    fn replace_identity(
        self: &Arc<Self>,
        claims: VerifiedClaims,
        admission: Arc<Admission>,
    ) -> Result<Renewed, Rejection> {
        let _alone = lock(&self.renewing);
        let old = self.identity();
        let (policy, connection) = (self.policy(), self.connection.clone());
        let new = Identity::admitted(&claims, policy, connection, wall_now(), admission);
        if old.principal.is_some() && old.principal != new.principal {
            return Err(Rejection::IdentityMismatch);
        }
        if old.principal.is_none()
            && let Some(principal) = &new.principal
        {
            *lock(&self.seat) = Some(self.share.take_seat(&self.context, principal)?);
        }
        let (added, dropped) = new.grants.difference(&old.grants);
        let expires_at = new.expires_at().map_or(0, |(_, wall)| unix_secs(wall));
        let principal = new.principal.clone();
        self.identity.store(Arc::new(new));
        if old.principal.is_none()
            && let Some(principal) = &principal
        {
            self.context.sessions.insert_as(principal, self);
            if self.is_terminated() {
                self.context.sessions.remove_as(principal, self);
                lock(&self.seat).take();
            }
            for room in self.joined() {
                self.context.rooms.identify(&room, &self.subscriber(&room));
            }
            tracing::info!(sub = %principal.subject, connection = %self.connection, "authenticated");
        }
        self.context.metrics.token_renewed();
        self.arm();
        self.leave_forbidden_rooms();
        Ok(Renewed {
            expires_at,
            added,
            dropped,
        })
    }

    /// Takes the session out of the rooms that its token does not let it hear any more, unless a back
    /// end has taken it in, or decides on it.
    fn leave_forbidden_rooms(&self) {
        let identity: Arc<Identity> = self.identity();
        for room in self.joined() {
            let is_by_back_end = self.rooms().get(&room) == Some(&Membership::ByBackEnd);
            let verdict = identity.grants.verdict(Action::Subscribe, &room);
            if verdict == GrantVerdict::Denied && !is_by_back_end {
                self.leave_with_notice(&room, "forbidden");
            } else if !is_asked(&identity, Action::Presence, &room) {
                let may_watch = identity.grants.allow(Action::Presence, &room);
                self.context
                    .rooms
                    .let_watch(&room, &self.connection, may_watch);
            }
        }
    }

    pub(super) fn joined(&self) -> Vec<RoomName> {
        self.rooms().keys().cloned().collect()
    }

    /// Disconnects a guest who presents one bad token after the other.
    fn count_refusal(self: &Arc<Self>, was_guest: bool) {
        let refusals = self.refusals.fetch_add(1, Ordering::AcqRel) + 1;
        if was_guest && refusals >= self.context.limits.refusals {
            self.disconnect(Cause::Refused);
        }
    }
}

fn token_of(received: &Received) -> Result<String, Rejection> {
    let arguments = received.arguments().unwrap_or_default();
    let [payload] = arguments[..] else {
        return Err(Rejection::PayloadMalformed);
    };
    let Authenticate { token } =
        json::from_object(payload.get().as_bytes()).ok_or(Rejection::PayloadMalformed)?;
    let token = token_of_text(&token)?.ok_or(Rejection::TokenMissing)?;
    Ok(token.to_owned())
}
