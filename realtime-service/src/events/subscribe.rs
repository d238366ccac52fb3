//! `rt:subscribe`: a client enters a room.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use shared_claims::{authorization::Action, json::Object};

use super::{Call, EventError, room};
use crate::{
    rooms::{
        JoinError, Position, Presence, PresenceMode, RoomName, Since, SubscribeOptions,
        Subscription,
    },
    transport::Packet,
};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'a Presence>,
}

/// Enters a room. The messages that a returning client missed come with the answer, and everything
/// that is published from then on after it.
pub(super) async fn subscribe(call: &Call<'_>) -> Result<(), EventError> {
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
    take_place(call, &room)?;
    let can = identity.grants.actions_in(&room);
    let is_returning = payload.since.is_some();
    let since = payload.since.map(|Object(since)| since);
    let options = SubscribeOptions {
        since: since.filter(|_| may_read),
        history: payload.history,
        presence: payload.presence,
    };
    let answer = |subscription: &Subscription<'_>| -> Option<Packet> {
        let answer = Subscribed {
            room: &room,
            position: subscription.position,
            can: &can,
            // Whoever may not read what was said before cannot be told that nothing is missing.
            recovered: subscription.recovered.or(is_returning.then_some(false)),
            messages: subscription.messages.map(|messages| &*messages.json),
            presence: subscription.presence.as_ref(),
        };
        let attachments = subscription
            .messages
            .map(|messages| &messages.attachments[..]);
        call.success(&answer, attachments.unwrap_or_default())
    };
    let subscriber = call.session.subscriber(&room);
    let rooms = &call.context.rooms;
    let entered = rooms.subscribe(&room, &subscriber, &options, answer).await;
    entered.map_err(|error| {
        call.session.leave(&room);
        match error {
            JoinError::SessionEnded => EventError::new("session_ended", "the session has ended"),
            JoinError::Unavailable => {
                EventError::unavailable("the log of the room cannot be reached; try again")
            }
        }
    })
}

/// Takes a place among the rooms of the socket, of which it may be in so many.
fn take_place(call: &Call<'_>, room: &RoomName) -> Result<(), EventError> {
    let mut rooms = call.session.rooms();
    if !rooms.contains(room) && rooms.len() >= call.context.limits.rooms_per_socket {
        let message = "this socket is in as many rooms as it may be";
        return Err(EventError::new("too_many_rooms", message).in_room(room.clone()));
    }
    rooms.insert(room.clone());
    Ok(())
}
