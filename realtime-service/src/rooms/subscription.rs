//! Entering a room and leaving it: `rt:subscribe` and `rt:unsubscribe`.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use shared_claims::{authorization::Action, json::Object};
use socketioxide::extract::SocketRef;

use super::{NotEntered, Position, RoomName};
use crate::{
    events::{Call, EventError, room},
    history::Since,
    messages::Published,
    presence::{Presence, PresenceMode},
    session::{QueueFull, wait_for_room},
};

/// What somebody who enters a room wants to know.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The last message that it has, when it was there before.
    pub since: Option<Since>,
    /// How many of the last messages it wants, when there is no coming back.
    pub history: Option<usize>,
    /// What it wants to know of who is there, now and later.
    pub presence: PresenceMode,
}

/// What somebody who enters a room is told: all that comes later follows it.
pub struct Entry {
    /// Where the room's messages stand.
    pub position: Position,
    /// Whether nothing is missing between the last message that it had and `messages`; `None` when
    /// it named none.
    pub recovered: Option<bool>,
    /// What it missed, or the last messages.
    pub messages: Option<Vec<Arc<Published>>>,
    /// Who is there, with itself.
    pub presence: Option<Presence>,
}

/// The payload of `rt:subscribe`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    room: Value,
    since: Option<Object<Since>>,
    history: Option<usize>,
    #[serde(default)]
    presence: PresenceMode,
}

/// The answer.
#[derive(Serialize)]
struct Subscribed<'a> {
    room: &'a RoomName,
    #[serde(flatten)]
    position: &'a Position,
    can: &'a [Action],
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "messages_in_place"
    )]
    messages: Option<&'a [Arc<Published>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'a Presence>,
}

/// socketioxide takes no binary data out of what stands in an `Option`.
fn messages_in_place<S: Serializer>(
    messages: &Option<&[Arc<Published>]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    messages.unwrap_or_default().serialize(serializer)
}

/// Enters a room. What somebody missed who was there before comes with the answer, and everything
/// that is published from then on after it.
pub(crate) async fn subscribe(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Subscribe = call.argument()?;
    let room = room(payload.room)?;
    let identity = call.require(Action::Subscribe, &room)?;
    let may_read = identity.grants.allow(Action::History, &room);
    if payload.history.is_some() {
        call.require(Action::History, &room)?;
    }
    if payload.presence != PresenceMode::Off {
        call.require(Action::Presence, &room)?;
    }
    require_place(call, &room)?;
    let can = identity.grants.actions_in(&room);
    let is_returning = payload.since.is_some();
    let since = payload.since.map(|Object(since)| since);
    let wanted = Wanted {
        since: since.filter(|_| may_read),
        history: payload.history,
        presence: payload.presence,
    };
    let tell = |entry: &Entry| -> Result<(), QueueFull> {
        let answer = Subscribed {
            room: &room,
            position: &entry.position,
            can: &can,
            // Whoever may not read what was said before cannot be told that nothing is missing.
            recovered: entry.recovered.or(is_returning.then_some(false)),
            messages: entry.messages.as_deref(),
            presence: entry.presence.as_ref(),
        };
        call.try_succeed(&answer)
    };
    let socket = SocketRef::from(call.received.socket.clone());
    loop {
        let entered = call
            .gateway
            .rooms
            .enter(&room, (call.session, &socket), &wanted, tell);
        match entered {
            Ok(()) => return Ok(()),
            Err(NotEntered::SessionEnded) => {
                return Err(EventError::new("session_ended", "the session has ended"));
            }
            Err(NotEntered::Untold(QueueFull)) => wait_for_room().await,
        }
    }
}

/// A socket may be in so many rooms.
fn require_place(call: &Call<'_>, room: &RoomName) -> Result<(), EventError> {
    let rooms = call.session.rooms();
    if !rooms.contains(room) && rooms.len() >= call.gateway.limits.rooms_per_socket {
        let message = "this socket is in as many rooms as it may be";
        return Err(EventError::new("too_many_rooms", message).in_room(room.clone()));
    }
    Ok(())
}

/// The payload of `rt:unsubscribe`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    room: Value,
}

/// Leaves a room.
pub(crate) async fn unsubscribe(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Unsubscribe = call.argument()?;
    call.gateway.rooms.leave(&room(payload.room)?, call.session);
    call.succeed(&json!({})).await;
    Ok(())
}
