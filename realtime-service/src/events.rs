//! The table of events: what each name does.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shared_claims::{authorization::Action, ids::is_identifier};
use socketioxide::extract::{SocketRef, State};

use crate::{
    gateway::Gateway,
    guard::SessionRef,
    messages::{Message, Publish, is_publishable, is_shallow, milliseconds},
    rooms::{Position, RoomName},
    session::{Received, Session, random_id},
};

/// What a client can ask for.
#[derive(Clone, Copy)]
enum Event {
    Subscribe,
    Unsubscribe,
    Publish,
    NotYet,
    Unknown,
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
        }
    }
}

/// Every event that clients can send, besides `authenticate`. What is not in it is answered with
/// `unknown_event`.
const EVENTS: [(&str, Event); 5] = [
    ("rt:subscribe", Event::Subscribe),
    ("rt:unsubscribe", Event::Unsubscribe),
    ("rt:publish", Event::Publish),
    ("rt:history", Event::NotYet),
    ("rt:presence", Event::NotYet),
];

/// Why an event was not carried out: the `error` of its acknowledgement.
#[derive(Debug, Serialize)]
struct EventError {
    code: &'static str,
    message: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomName>,
}

impl EventError {
    fn new(code: &'static str, message: &'static str) -> Self {
        Self {
            code,
            message,
            retryable: false,
            room: None,
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

    fn internal() -> Self {
        Self {
            retryable: true,
            ..Self::new("internal", "the gateway failed")
        }
    }
}

/// Registers every event on a socket that is about to be admitted: a connect middleware behind the
/// [`crate::guard`].
///
/// # Errors
///
/// None that can happen.
pub async fn register(
    socket: SocketRef,
    session: SessionRef,
    State(gateway): State<Arc<Gateway>>,
) -> Result<(), std::convert::Infallible> {
    for (name, event) in EVENTS {
        let gateway = gateway.clone();
        session.on(&socket, name, move |session, received| {
            answer(event, received, session, gateway.clone())
        });
    }
    session.on_any_other(&socket, move |session, received| {
        answer(Event::Unknown, received, session, gateway.clone())
    });
    Ok(())
}

/// Carries an event out and acknowledges it.
async fn answer(event: Event, received: Received, session: Arc<Session>, gateway: Arc<Gateway>) {
    let handling = AssertUnwindSafe(|| handle(event, &received, &session, &gateway));
    let result = catch_unwind(handling).unwrap_or_else(|_| {
        tracing::error!("a handler panicked");
        Err(EventError::internal())
    });
    let outcome = result.as_ref().err().map_or("ok", |error| error.code);
    gateway.metrics.event(event.name(), outcome);
    let answer = match result {
        Ok(mut answer) => {
            answer["ok"] = json!(true);
            answer
        }
        Err(error) => json!({ "ok": false, "error": error }),
    };
    received.acknowledge(&session, &answer).await;
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
    let payload: Subscribe = argument(received)?;
    let room = room(payload.room)?;
    if payload.since.is_some() || payload.history.is_some() || payload.presence.is_some() {
        let message = "since, history and presence are not supported yet";
        return Err(EventError::new("not_supported", message).in_room(room));
    }
    let identity = session.identity();
    if !identity.grants.allow(Action::Subscribe, &room) {
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
    let can = identity.grants.actions_in(&room);
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
    let payload: Unsubscribe = argument(received)?;
    gateway.rooms.leave(&room(payload.room)?, session);
    Ok(json!({}))
}

fn publish(
    received: &Received,
    session: &Arc<Session>,
    gateway: &Gateway,
) -> Result<Value, EventError> {
    let payload: Publish = argument(received)?;
    let room = room(payload.room)?;
    let identity = session.identity();
    if !identity.grants.allow(Action::Publish, &room) {
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
        from: identity.sender.clone(),
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

/// The one argument of an event, as an object of the given shape.
fn argument<T: DeserializeOwned>(received: &Received) -> Result<T, EventError> {
    if !received.attachments().is_empty() {
        return Err(EventError::new(
            "not_supported",
            "binary payloads are not supported yet",
        ));
    }
    let arguments = received
        .arguments()
        .map_err(|_| EventError::invalid("the arguments are no JSON"))?;
    let [argument] = arguments[..] else {
        return Err(EventError::invalid("exactly one argument is expected"));
    };
    if !is_shallow(argument.get()) {
        return Err(EventError::invalid("the payload is nested too deeply"));
    }
    serde_json::from_str(argument.get()).map_err(|_| {
        EventError::invalid("the payload does not have the shape that this event takes")
    })
}
