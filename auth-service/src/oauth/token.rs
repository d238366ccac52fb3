//! `POST /oauth/token`: tokens for back ends, and the refresh of those of people.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, json};
use shared_claims::claims::{ADMIN_AUDIENCE, API_AUDIENCE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE};

use super::{
    OAuthError, OAuthProblem, Parameters, TokenRequest,
    client_auth::{self, Claimed},
};
use crate::{
    client_info::ClientInfo,
    clients::{self, ADMIN_SCOPES},
    clock::seconds_since_epoch,
    ids::random_id,
    refresh,
    state::AppState,
    store::Client,
    tokens::NewToken,
    users::grants,
};

/// Gives a token to a client, or for a refresh token (RFC 6749).
///
/// Answers a token as RFC 6749 has it (section 5.1).
#[utoipa::path(
    post,
    path = "/oauth/token",
    tag = "oauth",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "a token", body = serde_json::Value),
        (status = 400, description = "a parameter is missing or cannot be what it is", body = OAuthProblem),
        (status = 401, description = "the client does not prove who it is", body = OAuthProblem),
        (status = 403, description = "the claims webhook refuses the refresh", body = OAuthProblem),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = OAuthProblem),
        (status = 503, description = "no database", body = OAuthProblem),
    )
)]
pub(crate) async fn post_token(
    request: HttpRequest,
    state: web::Data<AppState>,
    client_info: ClientInfo,
    parameters: Parameters,
) -> Result<HttpResponse, OAuthError> {
    let claimed = client_auth::claimed(&request, &parameters)?;
    let now = SystemTime::now();
    match parameters.require("grant_type")? {
        "client_credentials" => {
            let now_secs = seconds_since_epoch(now)?;
            let client = client_auth::authenticate(&state, &client_info, claimed, now_secs).await?;
            grant_to_client(&state, &client, &parameters, now).await
        }
        "refresh_token" => refresh(&state, &client_info, claimed, &parameters, now).await,
        _ => Err(OAuthError::UnsupportedGrantType),
    }
}

async fn grant_to_client(
    state: &AppState,
    client: &Client,
    parameters: &Parameters,
    now: SystemTime,
) -> Result<HttpResponse, OAuthError> {
    let (audience, scope) = target(client, parameters)?;
    let subject = clients::subject_of(&client.id);
    let own = state.store().list_grants(&subject).await?;
    let token = NewToken {
        subject: &subject,
        audience,
        client_id: &client.id,
        session_id: &random_id()?,
        scope: (!scope.is_empty()).then(|| scope.clone()),
        authorization_details: grants::merge(Vec::new(), own),
        profile: None,
        further: Map::new(),
        expires_by: None,
    };
    let signed = state.ring().signer.sign(token, now)?;
    tracing::info!(client = client.id, "a client got a token");
    Ok(HttpResponse::Ok().json(json!({
        "access_token": signed.token.as_str(),
        "token_type": "Bearer",
        "expires_in": signed.expires_in,
        "scope": scope,
    })))
}

/// Returns the audience and the scopes of a token that a client asks for. A token has one audience: the
/// scopes of the operator's API are in no token for the gateway's, and the reverse, so that neither
/// service receives a token that the other one accepts.
fn target(client: &Client, parameters: &Parameters) -> Result<(&'static str, String), OAuthError> {
    let is_admin = |scope: &&str| ADMIN_SCOPES.contains(scope);
    let granted: Vec<&str> = client.scopes.split(' ').collect();
    let asked = match parameters.get("scope") {
        None => None,
        Some(asked) => Some(clients::normal_scopes(asked).ok_or(OAuthError::InvalidScope)?),
    };
    let is_for_admin = match (asked_audience(parameters)?, &asked) {
        (Some(audience), _) => audience == ADMIN_AUDIENCE,
        (None, Some(asked)) => asked.split(' ').all(|scope| is_admin(&scope)),
        (None, None) => granted.iter().all(is_admin),
    };
    let scope = asked.unwrap_or_else(|| {
        let own = granted.iter().copied();
        let own: Vec<&str> = own
            .filter(|scope| is_admin(scope) == is_for_admin)
            .collect();
        own.join(" ")
    });
    let is_granted = |scope: &str| {
        granted.contains(&scope) && (scope.is_empty() || is_admin(&scope) == is_for_admin)
    };
    if !scope.is_empty() && !scope.split(' ').all(is_granted) {
        return Err(OAuthError::InvalidScope);
    }
    let audience = if is_for_admin {
        ADMIN_AUDIENCE
    } else {
        API_AUDIENCE
    };
    Ok((audience, scope))
}

/// Returns the audience that `resource` (RFC 8707) or `audience` names.
fn asked_audience(parameters: &Parameters) -> Result<Option<&str>, OAuthError> {
    let mut asked = None;
    for name in ["resource", "audience"] {
        match (parameters.get(name), asked) {
            (None, _) => {}
            (Some(one), None) if [API_AUDIENCE, ADMIN_AUDIENCE].contains(&one) => asked = Some(one),
            (Some(one), Some(other)) if one == other => {}
            _ => return Err(OAuthError::InvalidTarget),
        }
    }
    Ok(asked)
}

/// Tokens of people belong to the one public client; another's refresh token is nobody's.
async fn refresh(
    state: &AppState,
    client_info: &ClientInfo,
    claimed: Claimed,
    parameters: &Parameters,
    now: SystemTime,
) -> Result<HttpResponse, OAuthError> {
    let client_id = match claimed {
        Claimed::Nobody => return Err(OAuthError::InvalidRequest("client_id is missing".into())),
        Claimed::Public(id) => id,
        confidential @ Claimed::Confidential(..) => {
            let now = seconds_since_epoch(now)?;
            client_auth::authenticate(state, client_info, confidential, now)
                .await?
                .id
        }
    };
    let presented = parameters.require("refresh_token")?;
    if parameters.get("scope").is_some() {
        // The session was started without scopes, and none can be added.
        return Err(OAuthError::InvalidScope);
    }
    // Each token of the session is for the same audiences, whichever is asked for (RFC 8707, section 2.2).
    let further = &state.settings().token.audiences;
    let is_meant =
        |asked: &str| asked == REALTIME_AUDIENCE || further.iter().any(|one| one == asked);
    let mut asked = ["resource", "audience"].into_iter();
    if !asked.all(|name| parameters.get(name).is_none_or(is_meant)) {
        return Err(OAuthError::InvalidTarget);
    }
    if client_id != LOGIN_CLIENT_ID {
        return Err(OAuthError::InvalidGrant);
    }
    let answer = refresh::rotate(state, client_info, presented, &client_id, now).await?;
    Ok(HttpResponse::Ok().json(answer.as_oauth()))
}
