//! Users and their connections: send to them and hear back, and end them.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared_claims::authorization::Action;
use utoipa::ToSchema;

use super::{
    Api,
    body::{Body, Segment},
    caller::{Caller, Scope},
    messages::{meta_of, require_publishable},
    problem::{ApiError, PROBLEM_TYPE, Problem},
};
use crate::{
    auth::policy::percent_encode,
    rooms::{RoomName, null},
    session::ACKNOWLEDGEMENT_DEADLINE,
    state::{Acknowledged, Outgoing, Reach, Target},
};

/// How long acknowledgements are waited for unless the request says otherwise.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// A message to a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmitBody {
    /// The namespace of the sockets; `/` when it is left out.
    namespace: Option<String>,
    /// The issuer, when it is another than our own.
    iss: Option<String>,
    /// The name of the event.
    event: String,
    /// What it says; `null` when it is left out.
    #[serde(default = "null")]
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// Whether the clients are to acknowledge it, and the answer waits for them.
    #[serde(default)]
    ack: bool,
    /// How long it waits for them, in milliseconds: 5000 when it is left out, 30000 at most.
    timeout_ms: Option<u64>,
}

/// What became of the message.
#[derive(Serialize, ToSchema)]
pub(super) struct EmitAnswer {
    /// Its id.
    id: String,
    /// How many sockets it was queued for.
    sockets: usize,
    /// What each client answered, when they were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    acks: Option<Vec<Acknowledged>>,
    #[serde(flatten)]
    reach: Reach,
}

/// Sends a message to every socket of a user in a namespace, on all gateways, and gathers their acknowledgements. Scope `rt.publish`;
/// a token that is held to rooms must be able to publish in `user:{sub}`.
#[utoipa::path(
    post,
    path = "/v1/users/{sub}/emit",
    tag = "users",
    request_body = EmitBody,
    params(
        ("sub" = String, Path, description = "the subject of the user's tokens"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same request with the same key is answered once"),
    ),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "it is on its way, or answered", body = EmitAnswer),
        (status = 400, description = "no such message", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_emit(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Segment(sub): Segment,
    Body(body): Body<EmitBody>,
) -> Result<Json<EmitAnswer>, ApiError> {
    caller.require(Scope::Publish)?;
    let namespace = api.namespace(body.namespace.as_deref())?;
    require_user(&caller, &namespace, (body.iss.as_deref(), &sub))?;
    require_publishable(&body.event)?;
    let wait = body
        .timeout_ms
        .map_or(DEFAULT_DEADLINE, Duration::from_millis);
    if wait > ACKNOWLEDGEMENT_DEADLINE {
        let detail = "timeout_ms must be at most 30000";
        return Err(ApiError::InvalidRequest(detail.into()));
    }
    let meta = meta_of(&caller);
    let id = meta.id.clone();
    let message = Outgoing {
        event: body.event,
        data: body.data,
        meta,
    };
    let wait = body.ack.then_some(wait);
    let emitting = api
        .state
        .emit_everywhere(&namespace, (body.iss, sub), message, wait);
    let (emitted, reach) = emitting.await;
    Ok(Json(EmitAnswer {
        id,
        sockets: emitted.sockets,
        acks: emitted.acks,
        reach,
    }))
}

/// # Errors
///
/// When the caller is held to rooms, and the user's own is none of them.
fn require_user(
    caller: &Caller,
    namespace: &str,
    (iss, sub): (Option<&str>, &str),
) -> Result<(), ApiError> {
    let own_room = RoomName::parse_in(namespace, format!("user:{}", percent_encode(sub))).ok();
    match (iss, own_room) {
        (None, Some(room)) => caller.require_room(Action::Publish, &room),
        _ => caller.require_all_rooms(),
    }
}

/// Whose connections are to end: exactly one of `sub`, `session` and `connection`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DisconnectBody {
    /// The subject of a user.
    sub: Option<String>,
    /// The issuer of the user or the session, when it is another than our own.
    iss: Option<String>,
    /// The `sid` of a session.
    session: Option<String>,
    /// The id of a connection.
    connection: Option<String>,
    /// Whether the clients may come back by themselves. Tokens stay as they are in any case: who must
    /// stay away has to be logged out at their issuer.
    #[serde(default)]
    reconnect: bool,
}

/// What has ended.
#[derive(Serialize, ToSchema)]
pub(super) struct DisconnectAnswer {
    /// How many sockets were disconnected.
    disconnected: usize,
    #[serde(flatten)]
    reach: Reach,
}

/// Ends the connections of a user or a session, or one connection, on all gateways. Scope `rt.kick`, and no rooms that
/// the token is held to.
///
/// Without `reconnect`, stock clients stay away until their program connects again.
#[utoipa::path(
    post,
    path = "/v1/disconnect",
    tag = "users",
    request_body = DisconnectBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same request with the same key is answered once")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "they are gone", body = DisconnectAnswer),
        (status = 400, description = "not one of `sub`, `session` and `connection`", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_disconnect(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<DisconnectBody>,
) -> Result<Json<DisconnectAnswer>, ApiError> {
    caller.require(Scope::Kick)?;
    caller.require_all_rooms()?;
    let iss = body.iss;
    let target = match (body.sub, body.session, body.connection) {
        (Some(sub), None, None) => Target::User(iss, sub),
        (None, Some(sid), None) => Target::Session(iss, sid),
        (None, None, Some(connection)) if iss.is_none() => Target::Connection(connection),
        _ => {
            let detail = "exactly one of sub, session and connection is required";
            return Err(ApiError::InvalidRequest(detail.into()));
        }
    };
    let state = &api.state;
    let ending = state.disconnect_everywhere(target, body.reconnect, caller.id());
    let (disconnected, reach) = ending.await;
    Ok(Json(DisconnectAnswer {
        disconnected,
        reach,
    }))
}
