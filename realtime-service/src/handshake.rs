//! From token text to a [`Session`], or a refusal. Token text goes no further than this feature.

mod credentials;

use std::{future::ready, sync::Arc, time::SystemTime};

use shared_claims::Rejection;
use socketioxide::extract::{HttpExtension, SocketRef, State, TryData};

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

/// Admits a socket, or refuses it: the first connect middleware of every namespace.
///
/// What comes after it finds an `Arc<Session>` among the socket's extensions. Everything that a
/// socket can do is set up in middlewares, before CONNECT is acknowledged, so that what the client
/// sends right after the acknowledgement finds its handler.
///
/// # Errors
///
/// The refusal that the client is told.
pub async fn authenticate(
    socket: SocketRef,
    TryData(payload): TryData<Payload>,
    HttpExtension(engine): HttpExtension<Arc<EngineSession>>,
    State(gateway): State<Arc<Gateway>>,
) -> Result<(), Rejection> {
    engine.wait_if_ending().await;
    let now = SystemTime::now();
    let token = payload
        .map_err(|_| Rejection::PayloadMalformed)
        .and_then(|payload| find_token(&gateway.credentials, &payload, engine.credentials()));
    let identity = match token {
        Ok(token) => identify(&gateway, &token, now).await,
        Err(Rejection::TokenMissing) if gateway.auth.admits_guests() => {
            Ok(Identity::guest(&gateway.policy, random_id()))
        }
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    match identity.and_then(|identity| open(&gateway, &engine, &socket, identity)) {
        Ok(session) if !engine.admit() => {
            session.forget();
            // The end was decided meanwhile. What is returned after it reaches nobody.
            engine.wait_if_ending().await;
            Err(Rejection::TokenMissing)
        }
        Ok(session) => {
            set_up(&socket, &session);
            socket.extensions.insert(session);
            Ok(())
        }
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

/// Sets up what every socket can do, and what is done when it goes.
fn set_up(socket: &SocketRef, session: &Arc<Session>) {
    session.on_authenticate(socket);
    let gone = session.clone();
    socket.on_disconnect(move || {
        tracing::info!(connection = %gone.connection, "disconnected");
        gone.disconnected();
        ready(())
    });
}
