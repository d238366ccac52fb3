//! `rt:subscribe`: a client enters a room.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use shared_claims::{authorization::Action, json::Object};

use super::{Call, EventError};
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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    asks: &'a [Action],
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'a Presence>,
}

/// The rights of a client in the room that it enters.
struct Permissions {
    /// The actions that are allowed.
    can: Vec<Action>,
    /// The actions on which a back end decides when they are used.
    asks: Vec<Action>,
    /// Whether a returning client may get the messages that it missed.
    may_read: bool,
}

impl Permissions {
    /// Finds the rights, and asks the back end that decides on those which the subscription needs.
    ///
    /// # Errors
    ///
    /// When one that is needed is missing, or a back end gives no answer.
    async fn of(call: &Call<'_>, payload: &Subscribe, room: &RoomName) -> Result<Self, EventError> {
        let identity = call.require(Action::Subscribe, room).await?;
        let (mut can, mut asks) = identity.grants.actions_in(room);
        let mut decided = vec![Action::Subscribe];
        if payload.history.is_some() {
            call.require(Action::History, room).await?;
            decided.push(Action::History);
        } else if payload.since.is_some() && call.may(Action::History, room).await? {
            decided.push(Action::History);
        }
        if payload.presence != PresenceMode::Off {
            call.require(Action::Presence, room).await?;
            decided.push(Action::Presence);
        }
        asks.retain(|action| !decided.contains(action));
        can.extend(decided);
        can.sort_unstable();
        can.dedup();
        Ok(Self {
            may_read: can.contains(&Action::History),
            can,
            asks,
        })
    }
}

/// Enters a room. The messages that a returning client missed come with the answer, and everything
/// that is published from then on after it.
pub(super) async fn subscribe(call: &Call<'_>) -> Result<(), EventError> {
    let mut payload: Subscribe = call.argument()?;
    let room = call.room(std::mem::take(&mut payload.room))?;
    let permissions = Permissions::of(call, &payload, &room).await?;
    let place = call.session.take_place(&room, Membership::Granted);
    place.map_err(|error| EventError::of_join(error, &room))?;
    let is_returning = payload.since.is_some();
    let since = payload.since.map(|Object(since)| since);
    let options = SubscribeOptions {
        since: since.filter(|_| permissions.may_read),
        history: payload.history,
        presence: payload.presence,
    };
    let answer = |subscription: &Subscription<'_>| -> Option<Packet> {
        let answer = Subscribed {
            room: &room,
            position: subscription.position,
            can: &permissions.can,
            asks: &permissions.asks,
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
    let subscriber = match payload.presence {
        PresenceMode::Off => subscriber,
        PresenceMode::Count | PresenceMode::Full => subscriber.that_may_watch(),
    };
    let rooms = &call.context.rooms;
    let entered = rooms.subscribe(&room, &subscriber, &options, answer).await;
    entered.map_err(|error| {
        call.session.leave(&room);
        EventError::of_join(error.into(), &room)
    })
}
