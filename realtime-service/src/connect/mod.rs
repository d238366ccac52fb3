//! CONNECT: from token text to a [`Session`], or a rejection. Token text goes no further than this
//! feature. Here are the clients of the engine; [`guard`] has those of socketioxide.

mod guard;
mod refusal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use serde_json::{Value, json, value::RawValue};
use shared_claims::{Rejection, VerifiedClaims};

use self::refusal::ClientRefusal;

pub use self::guard::{Guarded, SessionRef, Unguarded, guard};
use crate::{
    auth::{Payload, find_token, keys::Unverified},
    backends::AdmissionStage,
    clock::wall_now,
    events,
    ids::random_id,
    metrics::Cause,
    rooms::Data,
    session::{Identity, NotRenewed, Received, Session, SessionContext},
    transport::{
        Acknowledgement as Answer, Client, EngineSession, InvalidAcknowledgement, Packet,
        ProtocolVersion, Queued, Waiting,
        engine::{
            CloseReason, Violation,
            socket_io::{Acknowledgement, Event, SocketHandler, SocketSession},
        },
    },
};

/// Why a client is not admitted.
enum Unadmitted {
    /// It is told so.
    Rejected(ClientRefusal),
    /// Its transport has ended, and nothing reaches it.
    Ended,
}

/// Maximum number of CONNECT packets of one Engine.IO session whose tokens are verified. A client may
/// leave a namespace and connect to it again, but not without end.
const MAXIMUM_CONNECTS: usize = 64;

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
    if engine.count_connect() > MAXIMUM_CONNECTS {
        engine.end(Cause::Flooded);
        return Err(Unadmitted::Ended);
    }
    let token = payload
        .and_then(|payload| find_token(&context.credentials, &payload, &engine.credentials()));
    let claims = match token {
        Ok(token) => context.keys.verify(&token, wall_now()).await.map(Some),
        Err(Rejection::TokenMissing) if context.auth.admits_guests() => Ok(None),
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    let session = match claims {
        Ok(claims) => open(context, engine, namespace, claims.as_ref()).await,
        Err(unverified) => Err(unverified.into()),
    };
    session.map_err(|not_renewed| match not_renewed {
        NotRenewed::Rejected { rejection, detail } => {
            tracing::info!(reason = rejection.reason(), "rejected");
            engine.reject(rejection);
            Unadmitted::Rejected(ClientRefusal { rejection, detail })
        }
        NotRenewed::Unavailable { cause, message } => {
            tracing::warn!("nobody can be admitted: {message}");
            // The client is not to blame. A closed transport brings it back by itself, where a
            // rejection would make it give up.
            engine.end(cause);
            Unadmitted::Ended
        }
    })
}

/// Opens the session of the bearer of verified claims, or of a guest. The back end of `connect.backend` is
/// asked about the bearer, and the claims must not be revoked when it has answered.
async fn open(
    context: &Arc<SessionContext>,
    engine: &Arc<EngineSession>,
    namespace: &str,
    claims: Option<&VerifiedClaims>,
) -> Result<Arc<Session>, NotRenewed> {
    let (policy, connection) = (&context.policy, random_id().into());
    let identity = match claims {
        Some(claims) => {
            let place = (&connection, namespace);
            let admission = context
                .ask_admission(claims, place, AdmissionStage::Connect)
                .await?;
            Identity::admitted(claims, policy, connection, wall_now(), admission)
        }
        None => Identity::guest(policy, connection),
    };
    let session = Session::open(context, engine.clone(), namespace, identity)?;
    // Asked once the session can be found: whoever revokes at the same time finds it, or is seen
    // here.
    if claims.is_some_and(|claims| context.revocations.covers(claims)) {
        session.discard(Cause::Revoked);
        return Err(Rejection::TokenRevoked.into());
    }
    session.open_book().await;
    Ok(session)
}

/// The one namespace of the gateway.
const NAMESPACE: &str = "/";

/// How many packets may wait when a client is told that it is not admitted: with a session in the
/// namespace, and without one.
const MAXIMUM_WAITING: usize = 4096;
const MAXIMUM_WAITING_OUTSIDE: usize = 64;

/// Lets the clients of the engine in, and has their events handled.
pub struct EngineClients(Arc<SessionContext>);

/// How far a client has come in the namespace.
#[derive(Default)]
pub struct Admission(Mutex<Stage>);

#[derive(Default)]
enum Stage {
    /// It has not presented a token, or was rejected, or has left.
    #[default]
    Outside,
    /// Its token is being verified.
    Connecting,
    /// It has left while its token is being verified.
    Leaving,
    /// It was admitted.
    Joined(Arc<Session>),
}

type EngineClient = SocketSession<Client<Admission>>;

impl EngineClients {
    /// A handler for clients whose sessions share `context`.
    #[must_use]
    pub fn new(context: Arc<SessionContext>) -> Self {
        Self(context)
    }
}

impl Admission {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> Option<Arc<Session>> {
        match &*self.stage() {
            Stage::Joined(session) => Some(session.clone()),
            Stage::Outside | Stage::Connecting | Stage::Leaving => None,
        }
    }

    /// Takes the session out, when the client leaves.
    fn leave(&self) -> Option<Arc<Session>> {
        let mut stage = self.stage();
        match std::mem::take(&mut *stage) {
            Stage::Joined(session) => Some(session),
            Stage::Outside => None,
            Stage::Connecting | Stage::Leaving => {
                *stage = Stage::Leaving;
                None
            }
        }
    }
}

impl SocketHandler for EngineClients {
    type Data = Client<Admission>;

    fn opened(&self, client: &Arc<EngineClient>) {
        client.data().record().connect(client);
    }

    fn connect(
        &self,
        client: &Arc<EngineClient>,
        namespace: &str,
        payload: &str,
    ) -> Result<(), Violation> {
        if namespace != NAMESPACE {
            // As for a refused token, so that no client tries the namespace again.
            let message = "Invalid namespace";
            let error = match client.data().record().version() {
                ProtocolVersion::V3 => json!(message),
                ProtocolVersion::V4 => json!({ "message": message }),
            };
            send(client, &format!("4{namespace},{error}"));
            send(client, &format!("1{namespace},"));
            return Ok(());
        }
        let is_version_2 = client.data().record().version() == ProtocolVersion::V3;
        {
            let mut stage = client.data().state().stage();
            match *stage {
                Stage::Outside => *stage = Stage::Connecting,
                // The first CONNECT is answered.
                Stage::Connecting => return Ok(()),
                // A client of Socket.IO 2 has joined by opening its session, and may not know it.
                Stage::Joined(_) if is_version_2 => return Ok(()),
                // Node closes the transport too. A stock client that has left opens another one.
                Stage::Joined(_) | Stage::Leaving => return Err(Violation::Protocol),
            }
        }
        let payload = match payload {
            "" => Ok(Payload::default()),
            json => serde_json::from_str(json),
        };
        let payload = payload.map_err(|_| Rejection::PayloadMalformed);
        let (context, client) = (self.0.clone(), client.clone());
        let admitting = async move {
            let record = client.data().record();
            let admitted = authenticate(&context, record, NAMESPACE, payload).await;
            admit(&client, admitted);
        };
        // Nothing is awaited unless an issuer is asked for its keys, or a back end about the client.
        let mut admitting = Box::pin(admitting);
        if admitting.as_mut().now_or_never().is_none() {
            tokio::spawn(admitting);
        }
        Ok(())
    }

    fn event(
        &self,
        client: &Arc<EngineClient>,
        namespace: &str,
        event: Event<'_>,
    ) -> Result<(), Violation> {
        let session = client.data().state().session();
        let session = session.filter(|_| namespace == NAMESPACE);
        let session = session.ok_or(Violation::Protocol)?;
        let received = Received::new(event.json.to_owned(), event.attachments, event.ack_id);
        events::receive(&session, received).map_err(|_| Violation::Protocol)
    }

    fn acknowledged(
        &self,
        client: &Arc<EngineClient>,
        namespace: &str,
        acknowledgement: Acknowledgement<'_>,
    ) -> Result<(), Violation> {
        let acks = client.data().record().acks();
        // What nobody asked for is not read.
        if namespace == NAMESPACE && acks.is_expected(acknowledgement.ack_id) {
            acks.resolve(acknowledgement.ack_id, arguments_of(&acknowledgement));
        }
        Ok(())
    }

    fn disconnected(&self, client: &Arc<EngineClient>, namespace: &str) -> Result<(), Violation> {
        if namespace == NAMESPACE
            && let Some(session) = client.data().state().leave()
        {
            session.disconnected();
        }
        Ok(())
    }

    fn closed(&self, client: &Arc<EngineClient>, reason: CloseReason) {
        client.data().record().closed(reason);
        if let Some(session) = client.data().state().leave() {
            session.disconnected();
        }
    }
}

/// The arguments of an acknowledgement, with `{"base64": …}` in the places of binary data.
fn arguments_of(acknowledgement: &Acknowledgement<'_>) -> Answer {
    let json = RawValue::from_string(acknowledgement.json.to_owned());
    let json = json.map_err(|_| InvalidAcknowledgement)?;
    let data = Data::new(json, acknowledgement.attachments.clone());
    match data.map_err(|_| InvalidAcknowledgement)?.to_value() {
        Value::Array(arguments) => Ok(arguments),
        _ => Err(InvalidAcknowledgement),
    }
}

/// Tells a client whether it is admitted.
fn admit(client: &Arc<EngineClient>, admitted: Result<Arc<Session>, Unadmitted>) {
    let mut stage = client.data().state().stage();
    let has_left = matches!(std::mem::take(&mut *stage), Stage::Leaving);
    match admitted {
        Ok(session) if has_left => {
            drop(stage);
            session.discard(Cause::Client);
        }
        Err(_) if has_left => {}
        Ok(session) => {
            let answer = message(&connected(client.data().record().version()));
            if session.admit(Some(answer)).is_err() {
                return;
            }
            // The client may have gone while its token was verified.
            if !client.is_open() {
                drop(stage);
                return session.disconnected();
            }
            let identity = session.identity();
            let sub = identity.sender.sub.as_deref();
            tracing::info!(sub, connection = %session.connection, "connected");
            *stage = Stage::Joined(session.clone());
            drop(stage);
            session.outbox().flush();
            session.start();
        }
        Err(Unadmitted::Rejected(rejection)) => {
            drop(stage);
            reject(client, &rejection);
        }
        Err(Unadmitted::Ended) => {}
    }
}

/// The packet that confirms CONNECT. Only Socket.IO 3 and later have an identifier in it.
fn connected(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::V3 => "0".to_owned(),
        ProtocolVersion::V4 => format!(r#"0{{"sid":"{}"}}"#, random_id()),
    }
}

/// Tells a client why it is not admitted.
///
/// DISCONNECT follows: otherwise a client of Socket.IO 2 or 3 would connect again, with the same token,
/// whenever the transport ends. A client of Socket.IO 2 gets the data alone.
fn reject(client: &Arc<EngineClient>, refusal: &ClientRefusal) {
    let error = refusal.to_error(client.data().record().version());
    send(client, &format!("4{error}"));
    send(client, "1");
}

/// Encodes the text of a Socket.IO packet.
fn message(text: &str) -> Packet {
    let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice(text.as_bytes());
    Packet::message(text.len(), write, &[])
}

/// Sends a Socket.IO packet to a client that may not be admitted.
fn send(client: &Arc<EngineClient>, packet: &str) {
    let record: &Arc<EngineSession> = client.data().record();
    // One that is ending already is told by its end.
    let waiting = record.push(Queued::new(message(packet), None));
    let is_flood = |waiting: Waiting| {
        waiting.packets > MAXIMUM_WAITING
            || waiting.packets > MAXIMUM_WAITING_OUTSIDE
                && client.data().state().session().is_none()
    };
    if waiting.is_some_and(is_flood) {
        return record.end(Cause::Overflowed);
    }
    record.flush();
}
