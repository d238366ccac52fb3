//! Who calls: the bearer of a token for back ends, and what it may do.

use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use shared_claims::{Rejection, VerifiedClaims, authorization::Action};
use tokio::time::Instant;

use super::{Api, problem::ApiError};
use crate::{
    auth::{
        keys::Unverified,
        policy::{Grants, Holder},
    },
    metrics::Limit,
    rooms::{RoomName, Sender},
};

/// What a token lets a back end do, one scope each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Send messages.
    Publish,
    /// See rooms, who is in them, and what was said.
    Read,
    /// End connections.
    Kick,
    /// See and change the queue of events for back ends, with what clients have sent.
    Webhooks,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "rt.publish",
            Self::Read => "rt.read",
            Self::Kick => "rt.kick",
            Self::Webhooks => "rt.webhooks",
        }
    }
}

/// A back end.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Inner>);

struct Inner {
    claims: VerifiedClaims,
    /// The rooms that it is held to; without any it may do in all rooms what its scopes say.
    grants: Option<Grants>,
}

impl Caller {
    fn new(claims: VerifiedClaims) -> Self {
        let holder = Holder::Bearer {
            claims: &claims,
            is_ours: true,
            issuer: &claims.iss,
            trusts_details: true,
            added: &[],
        };
        let is_held = !claims.authorization_details.is_empty();
        let grants = is_held.then(|| Grants::of_token(&holder));
        Self(Arc::new(Inner { claims, grants }))
    }

    /// Its id: the subject of its token.
    pub(crate) fn id(&self) -> &str {
        &self.0.claims.sub
    }

    /// How it shows as the sender of a message.
    pub(crate) fn sender(&self) -> Sender {
        Sender {
            iss: None,
            sub: Some(self.id().into()),
            name: None,
            connection: "".into(),
        }
    }

    /// # Errors
    ///
    /// When its token lacks the scope.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        let scopes = self.0.claims.scope.as_deref().unwrap_or_default();
        match scopes.split(' ').any(|one| one == scope.name()) {
            true => Ok(()),
            false => Err(ApiError::InsufficientScope(scope.name())),
        }
    }

    /// Whether it may do `action` in `room`, as far as its rooms go.
    pub(crate) fn may(&self, action: Action, room: &RoomName) -> bool {
        let grants = &self.0.grants;
        grants
            .as_ref()
            .is_none_or(|grants| grants.allow(action, room))
    }

    /// # Errors
    ///
    /// When it is held to other rooms.
    pub(crate) fn require_room(&self, action: Action, room: &RoomName) -> Result<(), ApiError> {
        match self.may(action, room) {
            true => Ok(()),
            false => Err(ApiError::Forbidden),
        }
    }

    /// # Errors
    ///
    /// When it is held to some rooms.
    pub(crate) fn require_all_rooms(&self) -> Result<(), ApiError> {
        match self.0.grants {
            None => Ok(()),
            Some(_) => Err(ApiError::Forbidden),
        }
    }
}

/// Lets a back end through that proves who it is: the first thing that every endpoint does.
pub(super) async fn authenticate(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let token = token_of(request.headers()).map_err(ApiError::TokenRejected)?;
    let keys = &api.state.sessions.keys;
    let verified = keys.verify_back_end(token, SystemTime::now()).await;
    let claims = verified.map_err(|error| match error {
        Unverified::Rejected(rejection) => ApiError::TokenRejected(rejection),
        Unverified::NoKeys => ApiError::Unavailable,
    })?;
    if api.state.sessions.revocations.covers(&claims) {
        return Err(ApiError::TokenRejected(Rejection::TokenRevoked));
    }
    let caller = Caller::new(claims);
    let counted = api.callers.count(caller.id(), Instant::now());
    counted.map_err(|wait| {
        let metrics = &api.state.transport.metrics;
        metrics.limited(Limit::ApiRequestsPerSec);
        ApiError::RateLimited(wait.as_secs() + 1)
    })?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The one bearer token of a request.
fn token_of(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str(),
        (None, _) => return Err(Rejection::TokenMissing),
        (Some(_), Some(_)) => return Err(Rejection::CredentialsAmbiguous),
    };
    let malformed = Rejection::CredentialsMalformed;
    let (scheme, token) = value
        .map_err(|_| malformed)?
        .split_once(' ')
        .ok_or(malformed)?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer") && !token.contains(' ');
    is_bearer.then_some(token).ok_or(malformed)
}
