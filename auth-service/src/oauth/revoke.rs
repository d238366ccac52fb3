//! `POST /oauth/revoke`: ends the session of a token (RFC 7009).

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use shared_claims::claims::LOGIN_CLIENT_ID;

use super::{
    OAuthError, OAuthProblem, Parameters, TokenParameter,
    client_auth::{self, Claimed},
};
use crate::{
    client_info::ClientInfo,
    clients::client_of,
    clock::seconds_since_epoch,
    guard::counters::Counter,
    guard::limits::Limit,
    refresh,
    state::AppState,
    store::{EndReason, Ending, SessionFilter, TokenState},
    vault::Hash,
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
    client_info: ClientInfo,
    parameters: Parameters,
) -> Result<HttpResponse, OAuthError> {
    let now = SystemTime::now();
    let now_secs = seconds_since_epoch(now)?;
    let is_login_client = match client_auth::claimed(&request, &parameters)? {
        Claimed::Nobody => return Err(OAuthError::InvalidRequest("client_id is missing".into())),
        Claimed::Public(id) if id == LOGIN_CLIENT_ID => true,
        claimed => {
            client_auth::authenticate(&state, &client_info, claimed, now_secs).await?;
            false
        }
    };
    let token = parameters.require("token")?;
    let found = match state.ring().verify_any(token, now) {
        Some(claims) if client_of(&claims.sub).is_some() => {
            return Err(OAuthError::UnsupportedTokenType);
        }
        Some(claims) => {
            let session_id = claims.sid.clone().unwrap_or_default();
            Some((claims.sub.clone(), session_id, EndReason::LoggedOut))
        }
        None => find_refresh_token(&state, token, now_secs).await?,
    };
    let Some((user_id, session_id, reason)) = found else {
        let address =
            Counter::of_address(state.limits(), Limit::TokensOfAddress, client_info.address);
        address.take(&state.counting()).await?;
        return Ok(HttpResponse::Ok().finish());
    };
    if !is_login_client {
        // The token was given to another client (RFC 7009, section 2.1).
        return Err(OAuthError::UnauthorizedClient);
    }
    if reason == EndReason::RefreshTokenReused {
        refresh::report_reuse(&state, &user_id, &session_id);
    }
    let ending = Ending::new(state.settings(), reason, now_secs)?;
    let which = SessionFilter::One(&session_id);
    state.store().end_sessions(&user_id, which, ending).await?;
    state.outbox().wake();
    Ok(HttpResponse::Ok().finish())
}

/// Returns the user, the session and the reason of its end, for a refresh token. A token that was
/// spent ends its session too: it is a copy if its successor was used, as at a refresh.
async fn find_refresh_token(
    state: &AppState,
    token: &str,
    now: i64,
) -> Result<Option<(String, String, EndReason)>, OAuthError> {
    let found = state
        .store()
        .find_session_of_token(&Hash::of(token), now)
        .await?;
    let Some((session, token_state)) = found else {
        return Ok(None);
    };
    let is_copy = match token_state {
        TokenState::Usable | TokenState::Expired => false,
        TokenState::Spent(generation) => {
            refresh::is_successor_spent(state, (&session, token), generation, now).await?
        }
    };
    let reason = match is_copy {
        true => EndReason::RefreshTokenReused,
        false => EndReason::LoggedOut,
    };
    Ok(Some((session.user_id, session.id, reason)))
}
