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
use crate::{clock::unix_millis, session::Session};

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
    /// How many there are in all.
    count: usize,
    /// From where to go on, when there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A connection.
#[derive(Serialize, ToSchema)]
pub(super) struct Connected {
    /// Its id, as in `from.connection` of its messages.
    connection: String,
    /// The issuer of its token, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    iss: Option<Arc<str>>,
    /// The subject of its token; a guest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    sub: Option<Arc<str>>,
    /// The name to show, when the token has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    name: Option<Arc<str>>,
    /// The `sid` of its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    session: Option<Arc<str>>,
    /// When it was admitted, in milliseconds since the epoch.
    connected_at: u64,
    /// When its token ends, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    /// How many rooms it is in.
    rooms: usize,
}

impl Connected {
    fn of(session: &Session) -> Self {
        let identity = session.identity();
        let sender = identity.sender.clone();
        let principal = identity.principal.as_ref();
        Self {
            connection: session.connection.to_string(),
            iss: sender.iss,
            sub: sender.sub,
            name: sender.name,
            session: principal.and_then(|principal| principal.session.clone()),
            connected_at: unix_millis(session.admitted_at),
            expires_at: identity.expires_at().map(|(_, wall)| unix_millis(wall)),
            rooms: session.rooms().len(),
        }
    }
}

/// Lists connections. Scope `rt.read`, and no rooms that the token is held to.
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
    let mut sessions = match (&query.sub, &query.iss) {
        (Some(sub), iss) => api.state.sessions_of_user(iss.as_deref(), sub),
        (None, None) => api.state.sessions.sessions.all(),
        (None, Some(_)) => {
            let detail = "iss is only allowed with sub";
            return Err(ApiError::InvalidRequest(detail.into()));
        }
    };
    let count = sessions.len();
    let limit = query.limit.unwrap_or(LISTED).min(MOST_LISTED);
    sessions.sort_unstable_by(|one, other| one.connection.cmp(&other.connection));
    let is_next = |session: &Arc<Session>| {
        let after = query.after.as_ref();
        after.is_none_or(|after| *session.connection > **after)
    };
    sessions.retain(is_next);
    let has_more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| has_more);
    let next = next.map(|session| session.connection.to_string());
    Ok(Json(ConnectionsAnswer {
        connections: sessions.iter().map(|one| Connected::of(one)).collect(),
        count,
        next,
    }))
}
