//! From token text to a [`Session`], or a refusal. Token text goes no further than this feature.

mod credentials;

use std::{sync::Arc, time::SystemTime};

use shared_claims::Rejection;
use socketioxide::{ParserError, extract::SocketRef};

use self::credentials::find_token;
pub(crate) use self::credentials::token_of_text;
pub use self::credentials::{CredentialSource, Payload, RequestCredentials};
use crate::{
    engine::EngineSession,
    gateway::Gateway,
    keys::Unverified,
    metrics::Cause,
    session::{Identity, Session, random_id},
};

/// Opens the session of a socket that presents a token which is accepted, or refuses the socket.
///
/// # Errors
///
/// The refusal that the client is told.
pub(crate) async fn authenticate(
    engine: &Arc<EngineSession>,
    socket: &SocketRef,
    payload: Result<Payload, ParserError>,
) -> Result<Arc<Session>, Rejection> {
    engine.wait_if_ending().await;
    let (gateway, now) = (engine.gateway(), SystemTime::now());
    let token = payload
        .map_err(|_| Rejection::PayloadMalformed)
        .and_then(|payload| find_token(&gateway.credentials, &payload, engine.credentials()));
    let identity = match token {
        Ok(token) => identify(gateway, &token, now).await,
        Err(Rejection::TokenMissing) if gateway.auth.admits_guests() => {
            Ok(Identity::guest(&gateway.policy, random_id()))
        }
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    match identity.and_then(|identity| open(gateway, engine, socket, identity)) {
        Ok(session) => Ok(session),
        Err(Unverified::Rejected(rejection)) => {
            tracing::info!(reason = rejection.reason(), "refused");
            engine.refuse(rejection);
            Err(rejection)
        }
        Err(Unverified::NoKeys) => {
            tracing::warn!("nobody can be admitted: no keys are known");
            // The client is not to blame. A closed transport brings it back by itself, where a
            // refusal would make it give up.
            engine.end(Cause::NoKeys);
            Err(Rejection::KeyUnknown)
        }
    }
}

/// Whom a token stands for.
async fn identify(gateway: &Gateway, token: &str, now: SystemTime) -> Result<Identity, Unverified> {
    let claims = gateway.keys.verify(token, now).await?;
    Ok(gateway.identity_of(claims, random_id(), now))
}

/// Opens a session, unless what it stands for is revoked.
fn open(
    gateway: &Arc<Gateway>,
    engine: &Arc<EngineSession>,
    socket: &SocketRef,
    identity: Identity,
) -> Result<Arc<Session>, Unverified> {
    let session =
        Session::open(gateway, engine.clone(), socket, identity).map_err(Unverified::Rejected)?;
    // Asked once the session can be found: whoever revokes at the same time finds it, or is seen here.
    let is_revoked = session
        .identity()
        .claims()
        .is_some_and(|claims| gateway.revocations.covers(claims));
    if is_revoked {
        session.forget();
        return Err(Unverified::Rejected(Rejection::TokenRevoked));
    }
    Ok(session)
}
