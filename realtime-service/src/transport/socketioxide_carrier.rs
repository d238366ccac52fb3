//! The carrier that hands packets to socketioxide, for an application's own namespaces.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool},
};

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor},
    ser::SerializeTuple as _,
};
use serde_json::{Map, Value, json, value::RawValue};
use socketioxide::{
    AckError, SendError, SocketError, extract::AckSender, handler::FromMessageParts as _,
    socket::Socket,
};
use tokio_util::sync::CancellationToken;

use super::{
    acks::InvalidAcknowledgement,
    copies::InFlight,
    engine_session::EngineSession,
    listener::Connection,
    packet::Packet,
    placeholders::Placed,
    registry::Polling,
    socket_packet::{SocketPacket, SocketPacketType},
};
use crate::{metrics::Cause, timers::Timer};

/// The side of socketioxide of one session: its sockets there, the packets that socketioxide has of
/// them, and the connection.
#[derive(Default)]
pub(crate) struct SocketioxideCarrier {
    sockets: Mutex<Vec<Arc<Socket>>>,
    in_flight: Mutex<InFlight>,
    /// The connection of the WebSocket that serves the session; `None` while it polls.
    stream: Mutex<Option<Arc<Connection>>>,
    /// Set for a session that began by polling.
    pub(super) polling: OnceLock<Polling>,
    /// Cancelled when the session ends.
    pub(super) ended: CancellationToken,
    /// Forgets the credentials, once every namespace has had the time to be joined with them.
    forgetting: Mutex<Option<Timer>>,
    /// Whether a turn will hand over what waits.
    pub(super) is_noted: AtomicBool,
}

impl SocketioxideCarrier {
    pub(super) fn stream(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        lock(&self.stream)
    }

    /// Whether a WebSocket serves the session, and takes what it is given.
    pub(super) fn is_taking(&self) -> bool {
        let takes = |one: &Arc<Connection>| !one.switch.is_blocked() && !one.switch.is_closed();
        self.stream().as_ref().is_some_and(takes)
    }

    /// Whether a WebSocket takes nothing now.
    pub(super) fn is_blocked(&self) -> bool {
        let stream = self.stream();
        stream.as_ref().is_some_and(|one| one.switch.is_blocked())
    }

    /// Whether the session began by polling; a WebSocket may serve it since.
    pub(crate) fn began_by_polling(&self) -> bool {
        self.polling.get().is_some()
    }

    /// Keeps the timer that forgets the credentials, in place of an earlier one.
    pub(super) fn forget_later(&self, timer: Timer) {
        *lock(&self.forgetting) = Some(timer);
    }

    /// Closes the connection of a session that has ended.
    pub(super) fn close(&self) {
        // Both, for a session in the middle of an upgrade is served by both.
        if let Some(stream) = &*self.stream() {
            stream.switch.close();
        }
        if let Some(polling) = self.polling.get() {
            polling.close();
        }
    }

    /// Adds the socket of a namespace.
    pub(crate) fn add(&self, socket: &Arc<Socket>) {
        lock(&self.sockets).push(socket.clone());
    }

    /// Returns the socket of a namespace; the main one is `/`.
    fn socket(&self, namespace: &str) -> Option<Arc<Socket>> {
        let sockets = lock(&self.sockets);
        let found = sockets.iter().find(|socket| socket.ns() == namespace);
        found.cloned()
    }

    /// Whether the socket of a namespace has gone.
    pub(crate) fn has_lost(&self, namespace: &str) -> bool {
        self.socket(namespace)
            .is_none_or(|socket| !socket.connected())
    }

    /// Removes and returns the socket of a namespace.
    pub(super) fn remove(&self, namespace: &str) -> Option<Arc<Socket>> {
        let mut sockets = lock(&self.sockets);
        let place = sockets.iter().position(|socket| socket.ns() == namespace)?;
        Some(sockets.swap_remove(place))
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        lock(&self.in_flight).bytes()
    }

    pub(super) fn frames_left(&self, frames: usize) {
        lock(&self.in_flight).frames_left(frames);
    }

    pub(super) fn clear(&self) {
        *lock(&self.in_flight) = InFlight::default();
        let sockets = std::mem::take(&mut *lock(&self.sockets));
        drop(sockets);
    }

    /// Hands over what waits in the queue of `session`, as far as the window and the budget allow.
    pub(super) fn flush(&self, session: &Arc<EngineSession>) {
        let mut closed = Vec::new();
        let mut is_full = false;
        let mut in_flight = lock(&self.in_flight);
        while in_flight.has_room() && !is_full {
            let Some(first) = session.queue().first() else {
                break;
            };
            let packet = SocketPacket::parse(first.packet().text());
            let Some(socket) = packet.as_ref().and_then(|one| self.socket(one.namespace)) else {
                session.queue().take(1);
                continue;
            };
            // Before CONNECT is acknowledged nothing is sent.
            if !socket.connected() {
                break;
            }
            let Some(charge) = session
                .context()
                .copies
                .charge(first.packet().wire_bytes(), session)
            else {
                break;
            };
            session.queue().take(1);
            let frames = first.packet().payloads().count();
            in_flight.push(frames, first.packet().wire_bytes(), charge);
            let sent = match packet {
                Some(one) if one.kind == SocketPacketType::Disconnect => {
                    closed.push(socket);
                    Ok(())
                }
                Some(one) => send(session, &socket, &one, first.packet()),
                None => Ok(()),
            };
            if let Err(error) = sent {
                in_flight.pop_last();
                is_full = error == SendFailure::Full;
            }
        }
        drop(in_flight);
        for socket in closed {
            // It may have gone already.
            let _ = socket.disconnect();
        }
        if is_full {
            session.end(Cause::Overflowed);
        }
    }
}

/// Why socketioxide does not take a packet.
#[derive(PartialEq, Eq)]
enum SendFailure {
    /// The socket has gone.
    Gone,
    /// Its channel is full of what the application itself has sent.
    Full,
}

fn send(
    session: &Arc<EngineSession>,
    socket: &Arc<Socket>,
    packet: &SocketPacket<'_>,
    encoded: &Packet,
) -> Result<(), SendFailure> {
    let arguments: Vec<&RawValue> =
        serde_json::from_str(packet.json).map_err(|_| SendFailure::Gone)?;
    let attachments: Vec<Bytes> = encoded.attachments().map(Bytes::copy_from_slice).collect();
    if packet.kind == SocketPacketType::Ack {
        let arguments = Arguments::new(&arguments, &attachments);
        let id = packet.ack_id.and_then(|id| i64::try_from(id).ok());
        let mut unused = socketioxide::handler::Value::Bytes(Bytes::new());
        let Ok(ack) = AckSender::from_message_parts(socket, &mut unused, &id);
        return outcome(ack.send(&arguments));
    }
    let (event, arguments) = arguments.split_first().ok_or(SendFailure::Gone)?;
    let event: String = serde_json::from_str(event.get()).map_err(|_| SendFailure::Gone)?;
    let arguments = Arguments::new(arguments, &attachments);
    let Some(id) = packet.ack_id else {
        return outcome(socket.emit(event, &arguments));
    };
    let stream = outcome(socket.emit_with_ack::<_, Answer>(event, &arguments))?;
    let session = Arc::downgrade(session);
    tokio::spawn(async move {
        let answer = match stream.await {
            Ok(Answer(arguments)) => Ok(arguments),
            Err(AckError::Decode(_)) => Err(InvalidAcknowledgement),
            // Whoever waits has a deadline of its own.
            Err(_) => return,
        };
        if let Some(session) = session.upgrade() {
            session.acks().resolve(id, answer);
        }
    });
    Ok(())
}

fn outcome<T>(sent: Result<T, SendError>) -> Result<T, SendFailure> {
    sent.map_err(|error| match error {
        SendError::Socket(SocketError::InternalChannelFull) => SendFailure::Full,
        _ => SendFailure::Gone,
    })
}

/// Arguments with binary data in its places, each as an argument of its own.
struct Arguments<'a> {
    json: &'a [&'a RawValue],
    attachments: &'a [Bytes],
}

impl<'a> Arguments<'a> {
    fn new(json: &'a [&'a RawValue], attachments: &'a [Bytes]) -> Self {
        Self { json, attachments }
    }
}

impl Serialize for Arguments<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut arguments = serializer.serialize_tuple(self.json.len())?;
        for argument in self.json {
            if self.attachments.is_empty() {
                arguments.serialize_element(argument)?;
            } else {
                let value: Value =
                    serde_json::from_str(argument.get()).map_err(serde::ser::Error::custom)?;
                arguments.serialize_element(&Placed::new(&value, self.attachments))?;
            }
        }
        arguments.end()
    }
}

/// All arguments of an acknowledgement, however many there are.
struct Answer(Vec<Value>);

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for a tuple, socketioxide gives all arguments, and for anything else the first.
        deserializer.deserialize_tuple(0, AnswerVisitor)
    }
}

struct AnswerVisitor;

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Answer;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Answer, A::Error> {
        let mut arguments = Vec::new();
        while let Some(Plain(argument)) = items.next_element()? {
            arguments.push(argument);
        }
        Ok(Answer(arguments))
    }
}

/// A value with `{"base64": …}` in the places of binary data.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON or binary data")
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_bytes<E>(self, data: &[u8]) -> Result<Plain, E> {
        Ok(Plain(json!({ "base64": STANDARD.encode(data) })))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Plain, A::Error> {
        let mut values = Vec::new();
        while let Some(Plain(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Plain(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Plain, A::Error> {
        let mut values = Map::new();
        while let Some((name, Plain(value))) = members.next_entry()? {
            values.insert(name, value);
        }
        Ok(Plain(Value::Object(values)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
