//! `rt:history`: what is kept of a room.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use shared_claims::{authorization::Action, json::Object};

use super::{Call, EventError};
use crate::rooms::{Position, Selection, Since, list};

/// The payload of `rt:history`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    room: Value,
    since: Option<Object<Since>>,
    limit: Option<usize>,
}

/// The answer.
#[derive(Serialize)]
struct Kept<'a> {
    messages: &'a RawValue,
    #[serde(flatten)]
    position: &'a Position,
    more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
}

/// Answers with the kept messages of a room, oldest first. The client need not be in the room.
pub(super) async fn read(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Read = call.argument()?;
    let room = call.room(payload.room)?;
    call.require(Action::History, &room).await?;
    let limit = payload.limit.unwrap_or(usize::MAX);
    let selection = Selection {
        since: payload.since.map(|Object(since)| since),
        last: limit,
        limit: Some(limit),
    };
    let extract = call.context.rooms.read(&room, &selection).await;
    let extract = extract
        .map_err(|_| EventError::unavailable("the log of the room cannot be reached; try again"))?;
    let messages = list(extract.messages.iter().map(AsRef::as_ref));
    let answer = Kept {
        messages: &messages.json,
        position: &extract.position,
        more: extract.more,
        recovered: extract.recovered,
    };
    if let Some(packet) = call.success(&answer, &messages.attachments) {
        call.session.outbox().wait_for_room().await;
        // What comes after the end is not sent.
        let _ = call.session.outbox().send(packet);
    }
    Ok(())
}
