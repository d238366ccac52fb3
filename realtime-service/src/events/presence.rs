//! `rt:presence`: who is in a room.

use serde::Deserialize;
use serde_json::Value;
use shared_claims::authorization::Action;

use super::{Call, EventError};
use crate::rooms::{Presence, PresenceMode};

/// The payload of `rt:presence`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    room: Value,
    #[serde(default = "full")]
    mode: PresenceMode,
}

fn full() -> PresenceMode {
    PresenceMode::Full
}

/// Answers with the users in a room. The client need not be in the room; if it is, it is told of
/// changes, too, as `mode` says from now on.
pub(super) async fn show(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Ask = call.argument()?;
    let room = call.room(payload.room)?;
    call.require(Action::Presence, &room).await?;
    call.session.outbox().wait_for_room().await;
    let subscriber = call.session.subscriber(&room).that_may_watch();
    let answer = |presence: &Presence| call.success(presence, &[]);
    // What comes after the end is not sent.
    let rooms = &call.context.rooms;
    let _ = rooms.watch(&room, &subscriber, payload.mode, answer).await;
    Ok(())
}
