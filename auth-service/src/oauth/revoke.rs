//! `POST /oauth/revoke`: ends the session of a token (RFC 7009).

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use shared_claims::claims::LOGIN_CLIENT_ID;

use super::{
    OAuthError, OAuthProblem, Parameters, TokenParameter,
    client_auth::{self, Claimed},
};
use crate::{
    clients::client_of,
    sessions,
    state::AppState,
    store::{EndReason, Which},
    users::seconds_since_epoch,
    vault::Hash,
    visitor::Visitor,
};

/// Ends the session of a token (RFC 7009).
///
/// Ends the session that a refresh token or an access token belongs to. Whoever has the token may:
/// it is the public client's. A token that nobody knows is as good as revoked.
#[utoipa::path(
    post,
    path = "/oauth/revoke",
    tag = "oauth",
    request_body(content = TokenParameter, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "the token is worth nothing"),
        (status = 400, description = "a parameter is missing or cannot be what it is", body = OAuthProblem),
        (status = 401, description = "the client does not prove who it is", body = OAuthProblem),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = OAuthProblem),
        (status = 503, description = "no database", body = OAuthProblem),
    )
)]
pub(crate) async fn post_revoke(
    request: HttpRequest,
    state: web::Data<AppState>,
    visitor: Visitor,
    parameters: Parameters,
) -> Result<HttpResponse, OAuthError> {
    let now = SystemTime::now();
    let now_secs = seconds_since_epoch(now)?;
    let is_login_client = match client_auth::claimed(&request, &parameters)? {
        Claimed::Nobody => return Err(OAuthError::InvalidRequest("client_id is missing".into())),
        Claimed::Public(id) if id == LOGIN_CLIENT_ID => true,
        claimed => {
            client_auth::authenticate(&state, &visitor, claimed, now_secs).await?;
            false
        }
    };
    let token = parameters.require("token")?;
    let (user_id, session_id) = match state.ring().verify_any(token, now) {
        Some(claims) if client_of(&claims.sub).is_some() => {
            return Err(OAuthError::UnsupportedTokenType);
        }
        Some(claims) => (claims.sub.clone(), claims.sid.clone().unwrap_or_default()),
        None => match state
            .store()
            .find_refresh_token(&Hash::of(token), now_secs)
            .await?
        {
            Some(session) => (session.user_id, session.id),
            None => return Ok(HttpResponse::Ok().finish()),
        },
    };
    if !is_login_client {
        // The token was given to another client (RFC 7009, section 2.1).
        return Err(OAuthError::UnauthorizedClient);
    }
    let ending = sessions::ending(state.settings(), EndReason::LoggedOut, now_secs)?;
    let which = Which::One(&session_id);
    state.store().end_sessions(&user_id, which, ending).await?;
    state.outbox().wake();
    Ok(HttpResponse::Ok().finish())
}
