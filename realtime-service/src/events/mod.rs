//! The table of events: what each name does.

mod queue;

use std::{
    future::ready,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared_claims::ids::is_identifier;
use socketioxide::extract::SocketRef;

use self::queue::{Queue, Received};
use crate::{
    gateway::Gateway,
    messages::{Message, Publish, is_publishable, milliseconds},
    rooms::{Position, RoomName, policy::Action},
    session::{Session, random_id},
};

/// What a client can ask for.
#[derive(Clone, Copy)]
enum Event {
    Subscribe,
    Unsubscribe,
    Publish,
    NotYet,
    Unknown,
    /// One too many, whatever it was: the client has to wait for so long.
    TooFast(Duration),
}

impl Event {
    /// The name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "rt:subscribe",
            Self::Unsubscribe => "rt:unsubscribe",
            Self::Publish => "rt:publish",
            Self::NotYet => "not_yet",
            Self::Unknown => "unknown",
            Self::TooFast(_) => "too_fast",
        }
    }
}

/// Every event that clients can send. What is not in it is answered with `unknown_event`.
const EVENTS: [(&str, Event); 6] = [
    ("rt:subscribe", Event::Subscribe),
    ("rt:unsubscribe", Event::Unsubscribe),
    ("rt:publish", Event::Publish),
    ("rt:history", Event::NotYet),
    ("rt:presence", Event::NotYet),
    ("authenticate", Event::NotYet),
];

/// Why an event was not carried out: the `error` of its acknowledgement.
#[derive(Debug, Serialize)]
struct EventError {
    code: &'static str,
    message: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomName>,
}

impl EventError {
    fn new(code: &'static str, message: &'static str) -> Self {
        Self {
            code,
            message,
            retryable: false,
            retry_after_ms: None,
            room: None,
        }
    }

    fn rate_limited(wait: Duration) -> Self {
        Self {
            retryable: true,
            // Rounded up: whoever comes back after it is not too early.
            retry_after_ms: u64::try_from(wait.as_millis() + 1).ok(),
            ..Self::new("rate_limited", "this socket sends events too fast")
        }
    }

    fn in_room(self, room: RoomName) -> Self {
        Self {
            room: Some(room),
            ..self
        }
    }

    fn invalid(message: &'static str) -> Self {
        Self::new("invalid_request", message)
    }

    fn forbidden(room: RoomName) -> Self {
        Self::new("forbidden", "no grant allows this in this room").in_room(room)
    }
}

/// Registers every event on a socket that is about to be admitted, and starts its worker.
pub fn register(socket: &SocketRef, session: &Arc<Session>, gateway: &Arc<Gateway>) {
    let queue = Queue::start(session, gateway);
    for (name, event) in EVENTS {
        let queue = queue.clone();
        socket.on(name, move |received: Received| {
            queue.push(event, received);
            ready(())
        });
    }
    socket.on_fallback(move |received: Received| {
        queue.push(Event::Unknown, received);
        ready(())
    });
    let (gone, gateway_gone) = (session.clone(), gateway.clone());
    socket.on_disconnect(move || {
        tracing::info!(sub = %gone.sender.sub, connection = %gone.sender.connection, "disconnected");
        gone.disconnected(&gateway_gone);
        ready(())
    });
}

fn handle(
    event: Event,
    received: &Received,
    session: &Arc<Session>,
    gateway: &Gateway,
) -> Result<Value, EventError> {
    match event {
        Event::Subscribe => subscribe(received, session, gateway),
        Event::Unsubscribe => unsubscribe(received, session, gateway),
        Event::Publish => publish(received, session, gateway),
        Event::NotYet => Err(EventError::new(
            "not_supported",
            "this event is not supported yet",
        )),
        Event::TooFast(wait) => Err(EventError::rate_limited(wait)),
        Event::Unknown => Err(EventError::new("unknown_event", "there is no such event")),
    }
}

/// The payload of `rt:subscribe`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    room: Value,
    since: Option<Value>,
    history: Option<Value>,
    presence: Option<Value>,
}

fn subscribe(
    received: &Received,
    session: &Arc<Session>,
    gateway: &Gateway,
) -> Result<Value, EventError> {
    let payload: Subscribe = received.argument()?;
    let room = room(payload.room)?;
    if payload.since.is_some() || payload.history.is_some() || payload.presence.is_some() {
        let message = "since, history and presence are not supported yet";
        return Err(EventError::new("not_supported", message).in_room(room));
    }
    if !session.grants.allow(Action::Sub, &room) {
        return Err(EventError::forbidden(room));
    }
    let (is_new, count) = {
        let rooms = session.rooms();
        (!rooms.contains(&room), rooms.len())
    };
    if is_new && count >= gateway.limits.rooms_per_socket {
        let message = "this socket is in as many rooms as it may be";
        return Err(EventError::new("too_many_rooms", message).in_room(room));
    }
    let position = gateway
        .rooms
        .join(&room, session, SocketRef::from(received.socket.clone()))
        .ok_or_else(|| EventError::new("session_ended", "the session has ended"))?;
    let Position { epoch, offset } = position;
    let can = session.grants.actions_in(&room);
    Ok(json!({ "room": room, "epoch": epoch, "offset": offset, "can": can }))
}

/// The payload of `rt:unsubscribe`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    room: Value,
}

fn unsubscribe(
    received: &Received,
    session: &Arc<Session>,
    gateway: &Gateway,
) -> Result<Value, EventError> {
    let payload: Unsubscribe = received.argument()?;
    gateway.rooms.leave(&room(payload.room)?, session);
    Ok(json!({}))
}

fn publish(
    received: &Received,
    session: &Arc<Session>,
    gateway: &Gateway,
) -> Result<Value, EventError> {
    let payload: Publish = received.argument()?;
    let room = room(payload.room)?;
    if !session.grants.allow(Action::Pub, &room) {
        return Err(EventError::forbidden(room));
    }
    if !is_publishable(&payload.event) {
        let message = "events of this name cannot be published";
        return Err(EventError::new("invalid_event", message).in_room(room));
    }
    if payload.id.as_deref().is_some_and(|id| !is_identifier(id)) {
        return Err(EventError::invalid("the id must have 1 to 255 visible bytes").in_room(room));
    }
    let message = Message {
        room,
        event: payload.event,
        data: payload.data,
        id: payload.id.unwrap_or_else(random_id),
        from: session.sender.clone(),
        ts: milliseconds(SystemTime::now()),
    };
    let Position { epoch, offset } = gateway.rooms.publish(&message, gateway);
    Ok(json!({ "epoch": epoch, "offset": offset, "id": message.id }))
}

/// The room that a payload names.
fn room(value: Value) -> Result<RoomName, EventError> {
    let invalid = || EventError::new("invalid_room", "this is not the name of a room");
    match value {
        Value::String(text) => RoomName::parse(text).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}
