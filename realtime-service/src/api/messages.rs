//! Sending: to a room, and to everybody.

use std::{panic::resume_unwind, sync::Arc};

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared_claims::{authorization::Action, ids::is_identifier};
use utoipa::ToSchema;

use super::{
    Api,
    body::Body,
    caller::{Caller, Scope},
    problem::{ApiError, PROBLEM_TYPE, Problem},
};
use crate::{
    clock::{self, unix_millis},
    ids::random_id,
    rooms::{Data, Draft, MessageKey, Position, is_publishable, null},
    state::{Meta, Outgoing, Reach},
};

/// A message to a room.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishBody {
    /// The namespace of the room; `/` when it is left out.
    namespace: Option<String>,
    /// The room.
    room: String,
    /// The name of the event that its subscribers listen for.
    event: String,
    /// What it says; `null` when it is left out.
    #[serde(default = "null")]
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// An id of one's choice. What was published under it lately is not published again.
    id: Option<String>,
}

/// Where the message stands.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishAnswer {
    #[serde(flatten)]
    position: Position,
    /// Its id.
    id: String,
    /// Whether it had been published before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// A message to everybody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BroadcastBody {
    /// The namespace of the sockets; `/` when it is left out.
    namespace: Option<String>,
    /// The name of the event.
    event: String,
    /// What it says; `null` when it is left out.
    #[serde(default = "null")]
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
}

/// Who got the message.
#[derive(Serialize, ToSchema)]
pub(super) struct BroadcastAnswer {
    /// Its id.
    id: String,
    /// How many sockets it was queued for.
    sockets: usize,
    #[serde(flatten)]
    reach: Reach,
}

/// Returns the metadata of a new message of `caller` that is in no room.
pub(super) fn meta_of(caller: &Caller) -> Meta {
    Meta {
        id: random_id(),
        ts: unix_millis(clock::now().wall),
        from: caller.sender(),
    }
}

/// # Errors
///
/// When messages cannot have this name.
pub(super) fn require_publishable(event: &str) -> Result<(), ApiError> {
    match is_publishable(event) {
        true => Ok(()),
        false => Err(ApiError::InvalidRequest(
            "this event name is reserved, or longer than 128 bytes".into(),
        )),
    }
}

/// Sends a message to a room. Scope `rt.publish`.
///
/// It has its place among the room's messages, and is kept like every other.
#[utoipa::path(
    post,
    path = "/v1/publish",
    tag = "messages",
    request_body = PublishBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same request with the same key is answered once")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "it is on its way", body = PublishAnswer),
        (status = 400, description = "no such message or room", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_publish(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<PublishBody>,
) -> Result<Json<PublishAnswer>, ApiError> {
    caller.require(Scope::Publish)?;
    let room = api.room(body.namespace.as_deref(), body.room)?;
    caller.require_room(Action::Publish, &room)?;
    require_publishable(&body.event)?;
    if body.id.as_deref().is_some_and(|id| !is_identifier(id)) {
        let detail = "the id must have 1 to 255 bytes, without control or hidden characters";
        return Err(ApiError::InvalidRequest(detail.into()));
    }
    // The issuer's name is in front of users' keys; no back end's id begins like that.
    let key = body.id.as_ref().map(|id| MessageKey {
        publisher: format!("\nback end\n{}", caller.id()),
        id: id.clone(),
    });
    let Meta { id, ts, from } = meta_of(&caller);
    let id = body.id.unwrap_or(id);
    let data = Data::new(body.data, Vec::new());
    let data = data.map_err(|_| {
        ApiError::InvalidRequest("the data must be JSON that every client can parse".into())
    })?;
    let draft = Draft {
        room,
        event: body.event,
        data,
        id,
        from,
        ts,
    };
    publish(&api, draft, key).await.map(Json)
}

/// Publishes a message in a task of its own: whoever hangs up leaves no message without its event for back ends.
async fn publish(
    api: &Api,
    draft: Draft,
    key: Option<MessageKey>,
) -> Result<PublishAnswer, ApiError> {
    let sessions = api.state.sessions.clone();
    let task = tokio::spawn(async move {
        let published = sessions.publish(&draft, key.as_ref()).await;
        published.map(|appended| (appended, draft.id))
    });
    let published = match task.await {
        Ok(published) => published,
        // Nobody cancels it.
        Err(panicked) => resume_unwind(panicked.into_panic()),
    };
    let (appended, id) = published.map_err(|_| ApiError::Unavailable)?;
    Ok(PublishAnswer {
        position: appended.position,
        id,
        duplicate: appended.is_duplicate,
    })
}

/// Sends a message to every socket that was admitted to a namespace, on all gateways. Scope `rt.publish`, and no rooms that the token
/// is held to.
///
/// It is in no room and is not kept. A client that takes its messages too slowly is disconnected.
#[utoipa::path(
    post,
    path = "/v1/broadcast",
    tag = "messages",
    request_body = BroadcastBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same request with the same key is answered once")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "it is on its way", body = BroadcastAnswer),
        (status = 400, description = "no such message", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_broadcast(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<BroadcastBody>,
) -> Result<Json<BroadcastAnswer>, ApiError> {
    caller.require(Scope::Publish)?;
    caller.require_all_rooms()?;
    let namespace = api.namespace(body.namespace.as_deref())?;
    require_publishable(&body.event)?;
    let meta = meta_of(&caller);
    let id = meta.id.clone();
    let message = Outgoing {
        event: body.event,
        data: body.data,
        meta,
    };
    let sent = api.state.broadcast_everywhere(&namespace, message).await;
    let (sockets, reach) = sent.ok_or(ApiError::Unavailable)?;
    Ok(Json(BroadcastAnswer { id, sockets, reach }))
}
