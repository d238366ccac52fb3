//! The clients of a gateway, handed over to other gateways.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    body::Body,
    caller::{Caller, Scope},
    problem::{ApiError, PROBLEM_TYPE, Problem},
};
use crate::{config::DrainSettings, state::NotDrained};

/// Pace at which the clients are handed over.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainBody {
    /// Time over which the clients are told, in seconds, 3600 at most: `drain.window_secs` when it is
    /// left out.
    window_secs: Option<u64>,
    /// The name of the gateway to drain, as in the answer to `GET /v1/connections`: the one that is asked
    /// when it is left out.
    gateway: Option<String>,
}

/// The drain that runs.
#[derive(Serialize, ToSchema)]
pub(super) struct DrainAnswer {
    /// Number of sockets when the drain began.
    sockets: usize,
    /// Time over which they are told, in seconds.
    window_secs: u64,
    /// The name of the gateway that drains, when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

/// Asks every client of one gateway to reconnect, a few at a time. Scope `rt.kick`, and no rooms that
/// the token is held to.
///
/// Until all are gone the gateway is not ready, and refuses new sessions; then it takes clients again. A
/// drain that runs already goes on as it was begun.
#[utoipa::path(
    post,
    path = "/v1/drain",
    tag = "users",
    request_body = DrainBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same request with the same key is answered once")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "it has begun", body = DrainAnswer),
        (status = 400, description = "no such window, or no such gateway", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "the gateway does not answer", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_drain(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<DrainBody>,
) -> Result<Json<DrainAnswer>, ApiError> {
    caller.require(Scope::Kick)?;
    caller.require_all_rooms()?;
    let window_secs = body.window_secs.unwrap_or(api.drain_window_secs);
    if window_secs > DrainSettings::MAXIMUM_WINDOW_SECS {
        let detail = "window_secs must be at most 3600";
        return Err(ApiError::InvalidRequest(detail.into()));
    }
    tracing::info!(by = caller.id(), "a back end asks for a drain");
    let window = Duration::from_secs(window_secs);
    let drained = api.state.drain_gateway(body.gateway.as_deref(), window);
    let (gateway, plan) = drained.await.map_err(|error| match error {
        NotDrained::Unknown => ApiError::InvalidRequest("no gateway has this name".into()),
        NotDrained::Silent => ApiError::Unavailable,
    })?;
    Ok(Json(DrainAnswer {
        sockets: plan.sockets,
        window_secs: plan.window.as_secs(),
        gateway,
    }))
}
