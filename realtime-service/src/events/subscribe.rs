//! `rt:subscribe`: a client enters a room.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use shared_claims::{authorization::Action, json::Object};

use super::{Call, EventError, room};
use crate::{
    rooms::{Position, Presence, PresenceMode, RoomName, Since, SubscribeOptions, Subscription},
    session::Membership,
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
    call.take_place(&room, Membership::Granted)?;
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
        EventError::of_join(error)
    })
}
