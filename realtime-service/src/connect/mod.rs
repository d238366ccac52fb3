//! CONNECT: from token text to a [`Session`], or a rejection. Token text goes no further than this
//! feature. Here are the clients of the engine; [`guard`] has those of socketioxide.

mod admission;
mod guard;
mod refusal;

use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::{Value, json, value::RawValue};
use shared_claims::{Rejection, VerifiedClaims};

use self::{
    admission::{Admission, Begun, Stage},
    refusal::ClientRefusal,
};

pub use self::guard::{Guarded, SessionRef, Unguarded, guard};
use crate::{
    auth::{Payload, find_token, keys::Unverified},
    backends::AdmissionStage,
    clock::wall_now,
    events,
    ids::random_id,
    metrics::Cause,
    namespaces::{MAIN, MAXIMUM_NAME_BYTES},
    rooms::Data,
    session::{ClientShare, Identity, NotRenewed, Received, Session, SessionContext},
    transport::{
        Acknowledgement as Answer, Client, EngineSession, InvalidAcknowledgement, Packet,
        ProtocolVersion, Waiting,
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

/// Maximum number of CONNECT packets of one Engine.IO session that are answered. A client may leave a
/// namespace and connect to it again, but not without end.
const MAXIMUM_CONNECTS: usize = 64;

/// Opens the session of a client that presents a token which is accepted, or rejects the client.
///
/// # Errors
///
/// See [`Unadmitted`].
async fn authenticate(
    context: &Arc<SessionContext>,
    engine: &Arc<EngineSession>,
    (namespace, share): (&str, &Arc<ClientShare>),
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
        Err(Rejection::TokenMissing) if context.admits_guests(namespace) => Ok(None),
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    let session = match claims {
        Ok(claims) => open(context, engine, (namespace, share), claims.as_ref()).await,
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

/// Opens the session of the bearer of verified claims, or of a guest. The claims must be those that the
/// namespace needs. The back end of its `connect.backend` is asked about the bearer, and the claims must not
/// be revoked when it has answered.
async fn open(
    context: &Arc<SessionContext>,
    engine: &Arc<EngineSession>,
    (namespace, share): (&str, &Arc<ClientShare>),
    claims: Option<&VerifiedClaims>,
) -> Result<Arc<Session>, NotRenewed> {
    let (policy, connection) = (context.policies.of(namespace), random_id().into());
    let identity = match claims {
        Some(claims) if !policy.admits(&policy.bearer(claims)) => {
            return Err(Rejection::NamespaceForbidden.into());
        }
        Some(claims) => {
            let admission = context
                .ask_admission(claims, &connection, namespace, AdmissionStage::Connect)
                .await?;
            Identity::admitted(claims, policy, connection, wall_now(), admission)
        }
        None => Identity::guest(policy, connection),
    };
    let session = Session::open(context, engine.clone(), (namespace, share), identity)?;
    // Asked once the session can be found: whoever revokes at the same time finds it, or is seen
    // here.
    if claims.is_some_and(|claims| context.revocations.covers(claims)) {
        session.discard(Cause::Revoked);
        return Err(Rejection::TokenRevoked.into());
    }
    session.open_book().await;
    Ok(session)
}

/// Maximum number of packets that wait when a client is told that it is not admitted: with a session in some
/// namespace, and without one.
const MAXIMUM_WAITING: usize = 4096;
const MAXIMUM_WAITING_OUTSIDE: usize = 64;

/// Maximum number of bytes that wait for a client without a session in any namespace: as many as a message of it
/// may have.
const MAXIMUM_BYTES_OUTSIDE: usize = 16 * 1024;

/// Lets the clients of the engine in, and has their events handled.
pub struct EngineClients(Arc<SessionContext>);

type EngineClient = SocketSession<Client<Admission>>;

impl EngineClients {
    /// A handler for clients whose sessions share `context`.
    #[must_use]
    pub fn new(context: Arc<SessionContext>) -> Self {
        Self(context)
    }

    /// Answers a CONNECT whose token is not looked at. It counts like any other.
    fn refuse(&self, client: &Arc<EngineClient>, namespace: &str, error: &Value) {
        let record = client.data().record();
        if record.count_connect() > MAXIMUM_CONNECTS {
            return record.end(Cause::Flooded);
        }
        send_error(&self.0, client, namespace, error);
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
        let record = client.data().record();
        let version = record.version();
        if namespace.len() > MAXIMUM_NAME_BYTES {
            return Err(Violation::Protocol);
        }
        let Some(policy) = self.0.policies.get(namespace) else {
            let message = "Invalid namespace";
            let error = match version {
                ProtocolVersion::V3 => json!(message),
                ProtocolVersion::V4 => json!({ "message": message }),
            };
            self.refuse(client, namespace, &error);
            return Ok(());
        };
        let namespace = policy.namespace().clone();
        let limit = self.0.limits.namespaces_per_connection;
        match client.data().state().begin(&namespace, limit) {
            Begun::Connecting => {}
            // The first CONNECT is answered.
            Begun::Again => return Ok(()),
            // A client of Socket.IO 2 has joined by opening its session, and may not know it.
            Begun::Joined if version == ProtocolVersion::V3 => return Ok(()),
            // Node closes the transport too. A stock client that has left opens another one.
            Begun::Joined | Begun::Leaving => return Err(Violation::Protocol),
            Begun::TooMany => {
                let refusal = ClientRefusal::from(Rejection::TooManyNamespaces);
                record.reject(refusal.rejection);
                self.refuse(client, &namespace, &refusal.to_error(version));
                return Ok(());
            }
        }
        let payload = match payload {
            "" => Ok(Payload::default()),
            json => serde_json::from_str(json),
        };
        let payload = payload.map_err(|_| Rejection::PayloadMalformed);
        let (context, client) = (self.0.clone(), client.clone());
        let admitting = async move {
            let data = client.data();
            let place = (&*namespace, data.state().share());
            let admitted = authenticate(&context, data.record(), place, payload).await;
            admit(&context, &client, &namespace, admitted);
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
        let session = client.data().state().session(namespace);
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
        let is_joined = client.data().state().session(namespace).is_some();
        if is_joined && acks.is_expected(acknowledgement.ack_id) {
            acks.resolve(acknowledgement.ack_id, arguments_of(&acknowledgement));
        }
        Ok(())
    }

    fn disconnected(&self, client: &Arc<EngineClient>, namespace: &str) -> Result<(), Violation> {
        if let Some(session) = client.data().state().leave(namespace) {
            session.disconnected();
        }
        Ok(())
    }

    fn closed(&self, client: &Arc<EngineClient>, reason: CloseReason) {
        client.data().record().closed(reason);
        for session in client.data().state().leave_all() {
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

/// Tells a client whether it is admitted to a namespace.
fn admit(
    context: &SessionContext,
    client: &Arc<EngineClient>,
    namespace: &str,
    admitted: Result<Arc<Session>, Unadmitted>,
) {
    let version = client.data().record().version();
    let mut stages = client.data().state().stages();
    let has_left = matches!(stages.take(namespace), Stage::Leaving);
    match admitted {
        Ok(session) if has_left => {
            drop(stages);
            session.discard(Cause::Client);
        }
        Err(_) if has_left => {}
        Ok(session) => {
            let answer = message(&connected(version, namespace));
            if session.admit(Some(answer)).is_err() {
                return;
            }
            // The client may have gone while its token was verified.
            if !client.is_open() {
                drop(stages);
                return session.disconnected();
            }
            let identity = session.identity();
            let sub = identity.sender.sub.as_deref();
            tracing::info!(sub, namespace, connection = %session.connection, "connected");
            stages.join(namespace, session.clone());
            drop(stages);
            session.outbox().flush();
            session.start();
        }
        Err(Unadmitted::Rejected(refusal)) => {
            drop(stages);
            send_error(context, client, namespace, &refusal.to_error(version));
        }
        Err(Unadmitted::Ended) => {}
    }
}

/// The packet that confirms CONNECT. Only Socket.IO 3 and later have an identifier in it.
fn connected(version: ProtocolVersion, namespace: &str) -> String {
    let namespace = prefix(namespace);
    match version {
        ProtocolVersion::V3 => format!("0{namespace}"),
        ProtocolVersion::V4 => format!(r#"0{namespace}{{"sid":"{}"}}"#, random_id()),
    }
}

/// The namespace as it is written in a packet: the main one is left out.
fn prefix(namespace: &str) -> String {
    match namespace {
        MAIN => String::new(),
        name => format!("{name},"),
    }
}

/// Tells a client why it is not admitted to a namespace. `error` is the content of CONNECT_ERROR.
///
/// DISCONNECT follows: otherwise a client of Socket.IO 2 or 3 would connect again, with the same token,
/// whenever the transport ends. A client of Socket.IO 2 gets the data alone.
fn send_error(
    context: &SessionContext,
    client: &Arc<EngineClient>,
    namespace: &str,
    error: &Value,
) {
    let namespace = prefix(namespace);
    send(context, client, &format!("4{namespace}{error}"));
    send(context, client, &format!("1{namespace}"));
}

/// Encodes the text of a Socket.IO packet.
fn message(text: &str) -> Packet {
    let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice(text.as_bytes());
    Packet::message(write, &[])
}

/// Sends a Socket.IO packet to a client that may not be admitted. A client for which too much waits is closed.
fn send(context: &SessionContext, client: &Arc<EngineClient>, packet: &str) {
    let record: &Arc<EngineSession> = client.data().record();
    // One that is ending already is told by its end.
    let waiting = record.push(context.outboxes.share(message(packet)));
    let is_too_much = |waiting: Waiting| match client.data().state().has_session() {
        true => {
            let is_full = waiting.bytes > context.limits.outbound_bytes;
            waiting.packets > MAXIMUM_WAITING || is_full && !record.keeps_up()
        }
        false => waiting.packets > MAXIMUM_WAITING_OUTSIDE || waiting.bytes > MAXIMUM_BYTES_OUTSIDE,
    };
    if waiting.is_some_and(is_too_much) {
        return record.end(Cause::Overflowed);
    }
    record.flush();
}
