//! `rt:publish`: a client sends a message to a room.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use shared_claims::{authorization::Action, ids::is_identifier};

use super::{Call, EventError};
use crate::{
    auth::policy::GrantVerdict,
    clock::{self, unix_millis},
    ids::random_id,
    outbox,
    rooms::{Data, Draft, MessageKey, Position, is_publishable, null},
};

/// The payload of `rt:publish`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    room: Value,
    event: String,
    /// `null` when it is left out.
    #[serde(default = "null")]
    data: Box<RawValue>,
    /// An id of the publisher's choice.
    id: Option<String>,
}

/// Appends the arguments of an acknowledgement: the place of the message, and its id. A derived `Serialize`
/// would look at each byte of the names.
fn append_answer(json: &mut Vec<u8>, position: &Position, id: &str, is_duplicate: bool) {
    outbox::append_json(json, r#"[{"ok":true,"epoch":"#, &position.epoch);
    outbox::append_json(json, r#","offset":"#, &position.offset);
    outbox::append_json(json, r#","id":"#, id);
    json.extend_from_slice(match is_duplicate {
        true => br#","duplicate":true}]"#,
        false => b"}]",
    });
}

/// Publishes a message in a room; the client need not be in it. What was published under the same id
/// by the same user lately is not published again.
pub(super) async fn publish(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Publish = call.argument_with_attachments()?;
    let room = call.room(payload.room)?;
    let identity = call.session.identity();
    let verdict = identity.grants.verdict(Action::Publish, &room);
    if verdict == GrantVerdict::Denied {
        return Err(EventError::forbidden(room));
    }
    if !is_publishable(&payload.event) {
        let message = "this event name is reserved, or longer than 128 bytes";
        return Err(EventError::new("invalid_event", message).in_room(room));
    }
    if payload.id.as_deref().is_some_and(|id| !is_identifier(id)) {
        return Err(EventError::invalid(
            "the id must have 1 to 255 bytes, without control or hidden characters",
        )
        .in_room(room));
    }
    let data = Data::new(payload.data, call.received.attachments().to_vec());
    let data = data.map_err(|_| {
        EventError::invalid(
            "the data must be JSON that every client can parse, with one placeholder for each attachment",
        )
    })?;
    let key = payload.id.as_ref().map(|id| MessageKey {
        publisher: identity.key(),
        id: id.clone(),
    });
    let mut draft = Draft {
        room,
        event: payload.event,
        data,
        id: payload.id.unwrap_or_else(random_id),
        from: identity.sender.clone(),
        ts: unix_millis(clock::now().wall),
    };
    if let GrantVerdict::Asks(rule) = verdict {
        Box::pin(call.review(&identity, rule, &mut draft)).await?;
    }
    let published = call.context.publish(&draft, key.as_ref()).await;
    let published =
        published.map_err(|error| EventError::from(error).in_room(draft.room.clone()))?;
    let (position, is_duplicate) = (&published.position, published.is_duplicate);
    let write = |json: &mut Vec<u8>| append_answer(json, position, &draft.id, is_duplicate);
    call.received.acknowledge_by(call.session, write).await;
    Ok(())
}
