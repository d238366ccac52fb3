//! From token text to a [`Session`], or a rejection. Token text goes no further than this feature.

mod engine_handler;
mod guard;

use std::{sync::Arc, time::SystemTime};

use shared_claims::Rejection;
use tokio::time::Instant;

pub use self::{
    engine_handler::{Admission, EngineClients},
    guard::{Guarded, SessionRef, Unguarded, guard},
};
use crate::{
    auth::{Payload, find_token, keys::Unverified},
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
        .and_then(|payload| find_token(&context.credentials, &payload, engine.credentials()));
    let identity = match token {
        Ok(token) => identify(context, &token, SystemTime::now()).await,
        Err(Rejection::TokenMissing) if context.auth.admits_guests() => {
            Ok(Identity::guest(&context.policy, &random_id()))
        }
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    match identity.and_then(|identity| open(context, engine, namespace, identity)) {
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

/// Builds the identity of a connection from its token.
async fn identify(
    context: &SessionContext,
    token: &str,
    now: SystemTime,
) -> Result<Identity, Unverified> {
    let claims = context.keys.verify(token, now).await?;
    if context.suspended.covers(&claims, Instant::now()) {
        return Err(Unverified::Rejected(Rejection::TokenRevoked));
    }
    Ok(Identity::of(claims, &context.policy, &random_id(), now))
}

/// Opens a session, unless its token is revoked.
fn open(
    context: &Arc<SessionContext>,
    engine: &Arc<EngineSession>,
    namespace: &str,
    identity: Identity,
) -> Result<Arc<Session>, Unverified> {
    let session = Session::open(context, engine.clone(), namespace, identity);
    let session = session.map_err(Unverified::Rejected)?;
    // Asked once the session can be found: whoever revokes at the same time finds it, or is seen
    // here.
    let is_revoked = session
        .identity()
        .claims()
        .is_some_and(|claims| context.revocations.covers(claims));
    if is_revoked {
        session.discard();
        return Err(Unverified::Rejected(Rejection::TokenRevoked));
    }
    Ok(session)
}
