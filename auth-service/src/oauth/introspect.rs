//! `POST /oauth/introspect`: what a token is worth now (RFC 7662).

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use shared_claims::VerifiedClaims;

use super::{OAuthError, OAuthProblem, Parameters, TokenParameter, client_auth};
use crate::{
    client_info::ClientInfo,
    clients::{INTROSPECT, client_of},
    clock::seconds_since_epoch,
    state::AppState,
    vault::Hash,
};

/// Tells what a token is worth now (RFC 7662).
///
/// Answers whether a token is accepted now, and what it says if so. Of any other token nothing is
/// told but that it is not active.
#[utoipa::path(
    post,
    path = "/oauth/introspect",
    tag = "oauth",
    request_body(content = TokenParameter, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "whether the token is active, and what it says if so", body = serde_json::Value),
        (status = 400, description = "a parameter is missing or cannot be what it is", body = OAuthProblem),
        (status = 401, description = "the client does not prove who it is", body = OAuthProblem),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = OAuthProblem),
        (status = 503, description = "no database", body = OAuthProblem),
    )
)]
pub(crate) async fn post_introspect(
    request: HttpRequest,
    state: web::Data<AppState>,
    client_info: ClientInfo,
    parameters: Parameters,
) -> Result<HttpResponse, OAuthError> {
    let now = SystemTime::now();
    let now_secs = seconds_since_epoch(now)?;
    let claimed = client_auth::claimed(&request, &parameters)?;
    let client = client_auth::authenticate(&state, &client_info, claimed, now_secs).await?;
    if !client.scopes.split(' ').any(|one| one == INTROSPECT) {
        return Err(OAuthError::UnauthorizedClient);
    }
    let token = parameters.require("token")?;
    let answer = match state.ring().verify_any(token, now) {
        Some(claims) if is_active(&state, &claims, now_secs).await? => describe(&claims),
        Some(_) => inactive(),
        None => describe_refresh_token(&state, token, now_secs).await?,
    };
    Ok(HttpResponse::Ok().json(answer))
}

fn inactive() -> Value {
    json!({"active": false})
}

/// A token alone proves what was so when it was signed.
async fn is_active(
    state: &AppState,
    claims: &VerifiedClaims,
    now: i64,
) -> Result<bool, OAuthError> {
    if let Some(client) = client_of(&claims.sub) {
        return Ok(state.store().find_client(client).await?.is_some());
    }
    let account = state.users().find_active(&claims.sub).await?;
    let lives =
        state
            .store()
            .is_session_live(claims.sid.as_deref().unwrap_or_default(), &claims.sub, now);
    Ok(account.is_some() && lives.await?)
}

fn describe(claims: &VerifiedClaims) -> Value {
    json!({
        "active": true,
        "token_type": "Bearer",
        "iss": claims.iss,
        "sub": claims.sub,
        "aud": claims.aud,
        "exp": claims.exp,
        "iat": claims.iat,
        "jti": claims.jti,
        "sid": claims.sid,
        "client_id": claims.client_id,
        "scope": claims.scope.as_deref().unwrap_or_default(),
        "username": claims.profile.preferred_username,
    })
}

async fn describe_refresh_token(
    state: &AppState,
    token: &str,
    now: i64,
) -> Result<Value, OAuthError> {
    let found = state
        .store()
        .find_refresh_token(&Hash::of(token), now)
        .await?;
    Ok(found.map_or_else(inactive, |session| {
        json!({
            "active": true,
            "token_type": "refresh_token",
            "sub": session.user_id,
            "sid": session.id,
            "client_id": session.client_id,
        })
    }))
}
