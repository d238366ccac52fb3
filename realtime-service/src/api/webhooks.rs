//! The queue of events for back ends.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    body::{Body, Parameters, Segment},
    caller::{Caller, Scope},
    problem::{ApiError, PROBLEM_TYPE, Problem},
    rooms::{LISTED, MOST_LISTED},
};
use crate::backends::queue::store::StoredEvent;

/// Selection of events to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhooksQuery {
    /// `true` for dead letters, which are not delivered any more, in place of the events that are to be
    /// delivered.
    #[serde(default)]
    dead: bool,
    /// Maximum number of events: 100 when it is left out, 1000 at most.
    limit: Option<usize>,
    /// The `next` of the answer before.
    #[serde(default)]
    after: i64,
}

/// Some events, in their order.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhooksAnswer {
    /// The events.
    events: Vec<StoredEvent>,
    /// From where to go on, when there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// An event with its body.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookAnswer {
    /// The event.
    #[serde(flatten)]
    event: StoredEvent,
    /// The CloudEvent, which has what a client has sent.
    body: Value,
}

/// One event, or all dead letters.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChosenBody {
    /// The id of the event.
    id: Option<String>,
    /// `true` for all dead letters.
    #[serde(default)]
    dead: bool,
}

/// The events that a request has changed.
#[derive(Serialize, ToSchema)]
pub(super) struct ChangedAnswer {
    /// Number of the events.
    events: usize,
}

impl ChosenBody {
    /// Returns the id, or `None` for all dead letters.
    fn id(self) -> Result<Option<String>, ApiError> {
        match (&self.id, self.dead) {
            (Some(_), false) | (None, true) => Ok(self.id),
            _ => {
                let detail = "exactly one of id and dead must be set";
                Err(ApiError::InvalidRequest(detail.into()))
            }
        }
    }
}

fn require(caller: &Caller) -> Result<(), ApiError> {
    caller.require(Scope::Webhooks)?;
    caller.require_all_rooms()
}

/// Lists the events that wait for their back ends. Scope `rt.webhooks`, and no rooms that the token is held
/// to.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    tag = "webhooks",
    params(WebhooksQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "some events", body = WebhooksAnswer),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "the file cannot be read", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn list_webhooks(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Parameters(query): Parameters<WebhooksQuery>,
) -> Result<Json<WebhooksAnswer>, ApiError> {
    require(&caller)?;
    let limit = query.limit.unwrap_or(LISTED).min(MOST_LISTED);
    let back_ends = &api.state.sessions.back_ends;
    // A further event shows that there is a next page.
    let page = (u32::try_from(limit + 1).unwrap_or(u32::MAX), query.after);
    let events = back_ends.list_events(query.dead, page).await;
    let mut events = events.map_err(|_| ApiError::Unavailable)?;
    let has_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| has_more).map(|event| event.seq);
    Ok(Json(WebhooksAnswer { events, next }))
}

/// Shows one event with its body. Scope `rt.webhooks`, and no rooms that the token is held to.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}",
    tag = "webhooks",
    params(("id" = String, Path, description = "the id of the event")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "the event", body = WebhookAnswer),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "no such event, or it was delivered", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "the file cannot be read", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn show_webhook(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<WebhookAnswer>, ApiError> {
    require(&caller)?;
    let found = api.state.sessions.back_ends.find_event(id).await;
    let found = found.map_err(|_| ApiError::Unavailable)?;
    let (event, body) = found.ok_or(ApiError::NotFound)?;
    let body = serde_json::from_slice(&body).map_err(|_| ApiError::Unavailable)?;
    Ok(Json(WebhookAnswer { event, body }))
}

/// Has a dead letter, or all of them, delivered after all. Scope `rt.webhooks`, and no rooms that the token is
/// held to.
#[utoipa::path(
    post,
    path = "/v1/webhooks/replay",
    tag = "webhooks",
    request_body = ChosenBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same request with the same key is answered once")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "they are to be delivered", body = ChangedAnswer),
        (status = 400, description = "not one of id and dead", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "the file cannot be written", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_replay(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ChosenBody>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    require(&caller)?;
    let replayed = api.state.sessions.back_ends.replay_events(body.id()?).await;
    let events = replayed.map_err(|_| ApiError::Unavailable)?;
    tracing::info!(by = caller.id(), events, "a back end replays dead letters");
    Ok(Json(ChangedAnswer { events }))
}

/// Removes an event, or all dead letters. Scope `rt.webhooks`, and no rooms that the token is held to.
#[utoipa::path(
    post,
    path = "/v1/webhooks/drop",
    tag = "webhooks",
    request_body = ChosenBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same request with the same key is answered once")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "they are gone", body = ChangedAnswer),
        (status = 400, description = "not one of id and dead", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "the file cannot be written", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_drop(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ChosenBody>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    require(&caller)?;
    let dropped = api.state.sessions.back_ends.drop_events(body.id()?).await;
    let events = dropped.map_err(|_| ApiError::Unavailable)?;
    tracing::info!(
        by = caller.id(),
        events,
        "a back end removes events from the queue"
    );
    Ok(Json(ChangedAnswer { events }))
}
