//! The handler for the suite of Socket.IO.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use realtime_service::transport::{
    Packet,
    engine::{
        CloseCode, CloseReason, Violation,
        socket_io::{
            Acknowledgement, Event, PacketType, SocketHandler, SocketSession, write_header,
        },
    },
};

/// Time that a client has to send CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// Time from the answer to CONNECT to the event that follows. The engine would write both at once, and
/// the suite misses a message that it reads together with another.
const AUTH_DELAY: Duration = Duration::from_millis(5);

/// The namespaces that a client has joined.
#[derive(Default)]
pub(crate) struct Namespaces(Mutex<HashSet<String>>);

impl Namespaces {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client uses only namespaces that it has joined.
    fn check(&self, namespace: &str) -> Result<(), Violation> {
        match self.lock().contains(namespace) {
            true => Ok(()),
            false => Err(Violation::Protocol),
        }
    }
}

/// Admits every client, and sends events back.
pub(crate) struct Conformance;

type Client = Arc<SocketSession<Namespaces>>;

fn packet(
    packet_type: PacketType,
    namespace: &str,
    id: Option<u64>,
    json: &str,
    attachments: &[Bytes],
) -> Packet {
    let write = |buffer: &mut Vec<u8>| {
        write_header(buffer, packet_type, attachments.len(), namespace, id);
        buffer.extend_from_slice(json.as_bytes());
    };
    Packet::message(write, attachments)
}

impl SocketHandler for Conformance {
    type Data = Namespaces;

    fn opened(&self, session: &Client) {
        let session = Arc::downgrade(session);
        tokio::spawn(async move {
            tokio::time::sleep(CONNECT_TIMEOUT).await;
            if let Some(session) = session.upgrade()
                && session.data().lock().is_empty()
            {
                session.close(CloseCode::PolicyViolation);
            }
        });
    }

    fn connect(&self, session: &Client, namespace: &str, payload: &str) -> Result<(), Violation> {
        if !matches!(namespace, "/" | "/custom") {
            let refusal = r#"{"message":"Invalid namespace"}"#;
            session.send(packet(
                PacketType::ConnectError,
                namespace,
                None,
                refusal,
                &[],
            ));
            return Ok(());
        }
        session.set_admitted();
        session.data().lock().insert(namespace.to_owned());
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let joined = format!(r#"{{"sid":"{id}"}}"#);
        session.send(packet(PacketType::Connect, namespace, None, &joined, &[]));
        let payload = match payload {
            "" => "{}",
            payload => payload,
        };
        let auth = format!(r#"["auth",{payload}]"#);
        let auth = packet(PacketType::Event, namespace, None, &auth, &[]);
        let session = session.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AUTH_DELAY).await;
            session.send(auth);
        });
        Ok(())
    }

    fn event(&self, session: &Client, namespace: &str, event: Event<'_>) -> Result<(), Violation> {
        session.data().check(namespace)?;
        let is_binary = !event.attachments.is_empty();
        let answer = if let Some(rest) = event.json.strip_prefix(r#"["message","#) {
            let packet_type = match is_binary {
                true => PacketType::BinaryEvent,
                false => PacketType::Event,
            };
            let json = format!(r#"["message-back",{rest}"#);
            packet(packet_type, namespace, None, &json, &event.attachments)
        } else if let Some(rest) = event.json.strip_prefix(r#"["message-with-ack","#) {
            let packet_type = match is_binary {
                true => PacketType::BinaryAcknowledgement,
                false => PacketType::Acknowledgement,
            };
            let json = format!("[{rest}");
            let id = event.ack_id;
            packet(packet_type, namespace, id, &json, &event.attachments)
        } else {
            return Ok(());
        };
        session.send(answer);
        Ok(())
    }

    fn acknowledged(
        &self,
        session: &Client,
        namespace: &str,
        acknowledgement: Acknowledgement<'_>,
    ) -> Result<(), Violation> {
        session.data().check(namespace)?;
        let (id, json) = (acknowledgement.ack_id, acknowledgement.json);
        let attachments = acknowledgement.attachments.len();
        tracing::debug!(id, json, attachments, "acknowledged");
        Ok(())
    }

    fn disconnected(&self, session: &Client, namespace: &str) -> Result<(), Violation> {
        session.data().check(namespace)?;
        session.data().lock().remove(namespace);
        Ok(())
    }

    fn closed(&self, session: &Client, reason: CloseReason) {
        session.data().lock().clear();
        tracing::debug!(?reason, "closed");
    }
}
