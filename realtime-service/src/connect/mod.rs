//! From token text to a [`Session`], or a rejection. Token text goes no further than this feature.

mod engine_handler;
mod guard;

use std::sync::Arc;

use shared_claims::{Rejection, VerifiedClaims};
use tokio::time::Instant;

pub use self::{
    engine_handler::{Admission, EngineClients},
    guard::{Guarded, SessionRef, Unguarded, guard},
};
use crate::{
    auth::{Payload, find_token, keys::Unverified},
    clock::wall_now,
    ids::random_id,
    metrics::Cause,
    session::{Identity, Session, SessionContext},
    transport::EngineSession,
};

/// Why a client is not admitted.
enum Unadmitted {
    /// It is told so.
    Rejected(Rejection),
    /// Its transport has ended, and nothing reaches it.
    Ended,
}

/// Opens the session of a client that presents a token which is accepted, or rejects the client.
///
/// # Errors
///
/// See [`Unadmitted`].
async fn authenticate(
    context: &Arc<SessionContext>,
    engine: &Arc<EngineSession>,
    namespace: &str,
    payload: Result<Payload, Rejection>,
) -> Result<Arc<Session>, Unadmitted> {
    let token = payload
        .and_then(|payload| find_token(&context.credentials, &payload, &engine.credentials()));
    let claims = match token {
        Ok(token) => verify(context, &token).await.map(Some),
        Err(Rejection::TokenMissing) if context.auth.admits_guests() => Ok(None),
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    match claims.and_then(|claims| open(context, engine, namespace, claims.as_ref())) {
        Ok(session) => Ok(session),
        Err(Unverified::Rejected(rejection)) => {
            tracing::info!(reason = rejection.reason(), "rejected");
            engine.reject(rejection);
            Err(Unadmitted::Rejected(rejection))
        }
        Err(Unverified::NoKeys) => {
            tracing::warn!("nobody can be admitted: no keys are known");
            // The client is not to blame. A closed transport brings it back by itself, where a
            // rejection would make it give up.
            engine.end(Cause::NoKeys);
            Err(Unadmitted::Ended)
        }
    }
}

/// Verifies the token of a client.
async fn verify(context: &SessionContext, token: &str) -> Result<VerifiedClaims, Unverified> {
    let claims = context.keys.verify(token, wall_now()).await?;
    match context.suspended.covers(&claims, Instant::now()) {
        true => Err(Unverified::Rejected(Rejection::TokenRevoked)),
        false => Ok(claims),
    }
}

/// Opens the session of the bearer of verified claims, unless they are revoked, or of a guest.
fn open(
    context: &Arc<SessionContext>,
    engine: &Arc<EngineSession>,
    namespace: &str,
    claims: Option<&VerifiedClaims>,
) -> Result<Arc<Session>, Unverified> {
    let (policy, connection) = (&context.policy, random_id());
    let identity = match claims {
        Some(claims) => Identity::of(claims, policy, &connection, wall_now()),
        None => Identity::guest(policy, &connection),
    };
    let session = Session::open(context, engine.clone(), namespace, identity);
    let session = session.map_err(Unverified::Rejected)?;
    // Asked once the session can be found: whoever revokes at the same time finds it, or is seen
    // here.
    if claims.is_some_and(|claims| context.revocations.covers(claims)) {
        session.discard();
        return Err(Unverified::Rejected(Rejection::TokenRevoked));
    }
    Ok(session)
}
