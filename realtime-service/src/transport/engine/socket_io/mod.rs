//! Socket.IO on the engine: divides messages into packets, and assembles attachments.
//!
//! Which namespaces a client has joined is known to the handler. Clients of Socket.IO 2 join the main
//! namespace by opening a session, without a CONNECT packet.

mod packet;

use std::{
    mem,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::Bytes;

use self::packet::SocketPacket;
pub use self::packet::{PacketType, ROOT, write_header};
use super::{
    handler::EngineHandler,
    session::Session,
    violation::{CloseReason, Violation},
};
use crate::transport::ProtocolVersion;

/// A session with data `D` of a [`SocketHandler`].
pub type SocketSession<D> = Session<SocketData<D>>;

/// An event of a client.
pub struct Event<'a> {
    /// The JSON array of the name and the arguments, not parsed. Only its brackets are checked.
    pub json: &'a str,
    /// The attachments that placeholders in `json` refer to.
    pub attachments: Vec<Bytes>,
    /// The id under which the client expects an acknowledgement.
    pub ack_id: Option<u64>,
}

/// The acknowledgement of an event by a client.
pub struct Acknowledgement<'a> {
    /// The id of the event.
    pub ack_id: u64,
    /// The JSON array of the arguments, not parsed. Only its brackets are checked.
    pub json: &'a str,
    /// The attachments that placeholders in `json` refer to.
    pub attachments: Vec<Bytes>,
}

/// Receives the packets of Socket.IO sessions, under the same conditions as an [`EngineHandler`].
///
/// A method that returns an error closes the session.
pub trait SocketHandler: Send + Sync + 'static {
    /// Data of the handler that each session holds.
    type Data: Send + Sync + 'static;

    /// Handles a session that opens.
    fn opened(&self, session: &Arc<SocketSession<Self::Data>>);

    /// Handles CONNECT. `payload` is the JSON of the packet, not parsed, or empty.
    ///
    /// # Errors
    ///
    /// When the packet breaks a rule.
    fn connect(
        &self,
        session: &Arc<SocketSession<Self::Data>>,
        namespace: &str,
        payload: &str,
    ) -> Result<(), Violation>;

    /// Handles an event.
    ///
    /// # Errors
    ///
    /// When the packet breaks a rule, for example because the client has not joined the namespace.
    fn event(
        &self,
        session: &Arc<SocketSession<Self::Data>>,
        namespace: &str,
        event: Event<'_>,
    ) -> Result<(), Violation>;

    /// Handles an acknowledgement.
    ///
    /// # Errors
    ///
    /// As for [`event`](Self::event).
    fn acknowledged(
        &self,
        session: &Arc<SocketSession<Self::Data>>,
        namespace: &str,
        acknowledgement: Acknowledgement<'_>,
    ) -> Result<(), Violation>;

    /// Handles DISCONNECT: the client leaves a namespace.
    ///
    /// # Errors
    ///
    /// As for [`event`](Self::event).
    fn disconnected(
        &self,
        session: &Arc<SocketSession<Self::Data>>,
        namespace: &str,
    ) -> Result<(), Violation>;

    /// Handles the end of a session. There is no call of `disconnected` for the namespaces that the
    /// client is in.
    fn closed(&self, session: &Arc<SocketSession<Self::Data>>, reason: CloseReason);
}

/// The data of a session: that of the handler, to which it dereferences, and the packet whose
/// attachments have not all arrived.
pub struct SocketData<D> {
    incomplete: Mutex<Option<Box<Incomplete>>>,
    data: D,
}

/// A packet whose attachments have not all arrived.
struct Incomplete {
    text: Box<str>,
    attachments: Vec<Bytes>,
    /// How many attachments the packet has.
    expected: usize,
    /// The size of the text and the attachments, in bytes.
    bytes: usize,
    /// Whether a ping found the packet incomplete.
    is_pinged: bool,
}

impl<D> SocketData<D> {
    /// Wraps `data` of the handler.
    #[must_use]
    pub fn new(data: D) -> Self {
        Self {
            incomplete: Mutex::default(),
            data,
        }
    }
}

impl<D> Deref for SocketData<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.data
    }
}

/// The Socket.IO layer between an engine and a [`SocketHandler`].
pub struct SocketIo<H> {
    handler: H,
    maximum_attachments: usize,
}

impl<H: SocketHandler> SocketIo<H> {
    /// Makes a layer that accepts packets with at most `maximum_attachments` attachments. A packet
    /// and its attachments together are bounded by the session's message limit.
    #[must_use]
    pub fn new(handler: H, maximum_attachments: usize) -> Self {
        Self {
            handler,
            maximum_attachments,
        }
    }

    /// Returns the handler.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.handler
    }

    fn dispatch(
        &self,
        session: &Arc<SocketSession<H::Data>>,
        packet: &SocketPacket<'_>,
        attachments: Vec<Bytes>,
    ) -> Result<(), Violation> {
        let SocketPacket {
            namespace, json, ..
        } = *packet;
        match packet.packet_type {
            PacketType::Connect => {
                // Clients of Socket.IO 2 put a query behind the namespace.
                let namespace = namespace.split('?').next().unwrap_or(namespace);
                self.handler.connect(session, namespace, json)
            }
            PacketType::Disconnect => self.handler.disconnected(session, namespace),
            PacketType::Event | PacketType::BinaryEvent => {
                let event = Event {
                    json,
                    attachments,
                    ack_id: packet.id,
                };
                self.handler.event(session, namespace, event)
            }
            PacketType::Acknowledgement | PacketType::BinaryAcknowledgement => {
                let acknowledgement = Acknowledgement {
                    ack_id: packet.id.ok_or(Violation::Protocol)?,
                    json,
                    attachments,
                };
                self.handler
                    .acknowledged(session, namespace, acknowledgement)
            }
            PacketType::ConnectError => Err(Violation::Protocol),
        }
    }
}

impl<H: SocketHandler> EngineHandler for SocketIo<H> {
    type Data = SocketData<H::Data>;

    fn opened(&self, session: &Arc<Session<Self::Data>>) {
        self.handler.opened(session);
        if session.dialect().version == ProtocolVersion::V3
            && let Err(violation) = self.handler.connect(session, ROOT, "")
        {
            session.end(CloseReason::Violated(violation));
        }
    }

    fn text(&self, session: &Arc<Session<Self::Data>>, text: &str) -> Result<(), Violation> {
        let incomplete = &session.data().incomplete;
        if lock(incomplete).is_some() {
            return Err(Violation::Protocol);
        }
        let packet = SocketPacket::parse(text)?;
        if packet.attachments > self.maximum_attachments {
            return Err(Violation::TooLarge);
        }
        if packet.attachments > 0 {
            *lock(incomplete) = Some(Box::new(Incomplete {
                text: text.into(),
                attachments: Vec::new(),
                expected: packet.attachments,
                bytes: text.len(),
                is_pinged: false,
            }));
            return Ok(());
        }
        self.dispatch(session, &packet, Vec::new())
    }

    fn binary(&self, session: &Arc<Session<Self::Data>>, data: Bytes) -> Result<(), Violation> {
        let mut slot = lock(&session.data().incomplete);
        let incomplete = slot.as_mut().ok_or(Violation::Protocol)?;
        incomplete.bytes += data.len();
        if incomplete.bytes > session.message_limit() {
            return Err(Violation::TooLarge);
        }
        incomplete.attachments.push(data);
        if incomplete.attachments.len() < incomplete.expected {
            return Ok(());
        }
        let complete = slot.take();
        drop(slot);
        let Some(complete) = complete else {
            return Ok(());
        };
        let packet = SocketPacket::parse(&complete.text)?;
        self.dispatch(session, &packet, complete.attachments)
    }

    /// Refuses to keep a packet any longer that was incomplete at the ping before.
    fn pinged(&self, session: &Arc<Session<Self::Data>>) -> Result<(), Violation> {
        let mut slot = lock(&session.data().incomplete);
        let before = slot
            .as_mut()
            .map(|incomplete| mem::replace(&mut incomplete.is_pinged, true));
        match before {
            Some(true) => Err(Violation::Protocol),
            _ => Ok(()),
        }
    }

    fn closed(&self, session: &Arc<Session<Self::Data>>, reason: CloseReason) {
        let _incomplete = lock(&session.data().incomplete).take();
        self.handler.closed(session, reason);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
