//! Why somebody may do something, or may not.

use std::{sync::Arc, time::SystemTime};

use axum::{Extension, Json, extract::State};
use serde::Deserialize;
use shared_claims::authorization::Action;
use utoipa::ToSchema;

use super::{
    Api,
    body::Body,
    caller::{Caller, Scope},
    problem::{ApiError, PROBLEM_TYPE, Problem},
};
use crate::{
    auth::{
        keys::Unverified,
        policy::{Explanation, Holder},
    },
    session::Identity,
};

/// Who, what and where: either `token` or `connection`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainBody {
    /// A user's access token.
    token: Option<String>,
    /// The id of a connection.
    connection: Option<String>,
    /// The room.
    room: String,
    /// The namespace of the room: for a token `/` when it is left out, and for a connection its own.
    namespace: Option<String>,
    /// What is to be done: `sub`, `pub`, `hst` or `prs`.
    #[schema(value_type = String)]
    action: Action,
    /// Whether a back end that decides is asked, whatever answer is kept.
    #[serde(default)]
    ask: bool,
}

/// Explains by which grant somebody may do something in a room, or which were considered. Scope
/// `rt.read`, and no rooms that the token is held to.
#[utoipa::path(
    post,
    path = "/v1/authz/explain",
    tag = "authorization",
    request_body = ExplainBody,
    security(("bearer" = [])),
    responses(
        (status = 200, description = "whether, and why", body = Object),
        (status = 400, description = "no such token, connection, room or action", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token of the back end's own", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_explain(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ExplainBody>,
) -> Result<Json<Explanation>, ApiError> {
    caller.require(Scope::Read)?;
    caller.require_all_rooms()?;
    let context = &api.state.sessions;
    let (identity, namespace) = match (body.token, body.connection) {
        (Some(token), None) => {
            let now = SystemTime::now();
            let verified = context.keys.verify(&token, now).await;
            let claims = verified.map_err(|error| match error {
                Unverified::Rejected(rejection) => {
                    ApiError::InvalidRequest(format!("token: {}", rejection.message()).into())
                }
                Unverified::NoKeys => ApiError::Unavailable,
            })?;
            let namespace = api.namespace(body.namespace.as_deref())?;
            let policy = context.policies.of(&namespace);
            let identity = Identity::of(&claims, policy, "".into(), now);
            (Arc::new(identity), namespace)
        }
        (None, Some(connection)) => {
            let session = context.sessions.find_connection(&connection);
            let session =
                session.ok_or(ApiError::InvalidRequest("no connection has this id".into()))?;
            let own = session.policy().namespace();
            if body.namespace.is_some_and(|name| *name != **own) {
                let detail = "the connection is in another namespace";
                return Err(ApiError::InvalidRequest(detail.into()));
            }
            (session.identity(), own.clone())
        }
        _ => {
            let detail = "exactly one of token and connection is required";
            return Err(ApiError::InvalidRequest(detail.into()));
        }
    };
    let room = api.room(Some(&namespace), body.room)?;
    let policy = context.policies.of(&namespace);
    let claims = identity.claims();
    let holder = match &claims {
        Some(claims) => policy
            .bearer(claims)
            .with_added(&identity.admission().grants),
        None => Holder::Guest,
    };
    let explanation = policy.explain(&holder, body.action, &room);
    if !body.ask {
        return Ok(Json(explanation));
    }
    let details = identity.details();
    let decisions = context.back_ends.decisions();
    let asker = details.asker(&namespace);
    Ok(Json(decisions.explain(&asker, explanation).await))
}
