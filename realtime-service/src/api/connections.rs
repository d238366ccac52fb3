//! Who is connected.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    body::Parameters,
    caller::{Caller, Scope},
    problem::{ApiError, PROBLEM_TYPE, Problem},
    rooms::{LISTED, MOST_LISTED},
};
use crate::state::{Connected, Reach};

/// Which connections to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionsQuery {
    /// Of this user alone.
    sub: Option<String>,
    /// The user's issuer, when it is another than our own.
    iss: Option<String>,
    /// How many at most: 100 when it is left out, 1000 at most.
    limit: Option<usize>,
    /// After which connection to go on: the `next` of the answer before.
    after: Option<String>,
}

/// Some connections, by their ids.
#[derive(Serialize, ToSchema)]
pub(super) struct ConnectionsAnswer {
    /// The connections.
    connections: Vec<Connected>,
    /// Number of all connections, on the gateways that have answered.
    count: usize,
    /// From where to go on, when there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(flatten)]
    reach: Reach,
}

/// Lists the connections of all gateways. Scope `rt.read`, and no rooms that the token is held to.
#[utoipa::path(
    get,
    path = "/v1/connections",
    tag = "users",
    params(ConnectionsQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "some connections", body = ConnectionsAnswer),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn list_connections(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Parameters(query): Parameters<ConnectionsQuery>,
) -> Result<Json<ConnectionsAnswer>, ApiError> {
    caller.require(Scope::Read)?;
    caller.require_all_rooms()?;
    let user = match (query.sub, query.iss) {
        (Some(sub), iss) => Some((iss, sub)),
        (None, None) => None,
        (None, Some(_)) => {
            let detail = "iss is only allowed with sub";
            return Err(ApiError::InvalidRequest(detail.into()));
        }
    };
    let limit = query.limit.unwrap_or(LISTED).min(MOST_LISTED);
    let pages = api.state.connections_everywhere(user, query.after, limit);
    let pages = pages.await;
    Ok(Json(ConnectionsAnswer {
        connections: pages.entries,
        count: pages.count,
        next: pages.next,
        reach: pages.reach,
    }))
}
