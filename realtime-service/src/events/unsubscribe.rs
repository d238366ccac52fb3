//! `rt:unsubscribe`: a client leaves a room.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, EventError};

/// The payload of `rt:unsubscribe`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    room: Value,
}

/// Leaves a room; nothing happens when the client is not in it.
pub(super) async fn unsubscribe(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Unsubscribe = call.argument()?;
    call.session.leave(&call.room(payload.room)?);
    call.succeed(&json!({})).await;
    Ok(())
}
