//! `POST /oidc/backchannel-logout`: an issuer says that a session has ended (OpenID Connect
//! Back-Channel Logout 1.0, sections 2.5 to 2.8).

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use shared_claims::Rejection;

use super::RevocationError;
use crate::{gateway::Gateway, keys::Unverified};

/// The longest body: a token of 8 KiB, its name, and what form encoding makes of them.
const MAXIMUM_BODY_BYTES: usize = 16 * 1024;

/// When to come back after what is our own fault, in seconds.
const RETRY_AFTER_SECS: &str = "1";

/// The one path.
pub fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/oidc/backchannel-logout", post(post_logout_token))
        .layer(DefaultBodyLimit::max(MAXIMUM_BODY_BYTES))
        .with_state(gateway)
}

/// Why a logout token is not acknowledged.
enum Refusal {
    /// There is none, or more than one.
    Malformed(&'static str),
    /// It is not accepted.
    Rejected(Rejection),
    /// We are at fault; it may come again.
    Unavailable,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, description) = match self {
            Self::Malformed(description) => (StatusCode::BAD_REQUEST, description),
            Self::Rejected(rejection) => (StatusCode::BAD_REQUEST, rejection.message()),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment"),
        };
        let error = match status {
            StatusCode::BAD_REQUEST => "invalid_request",
            _ => "temporarily_unavailable",
        };
        let body = Json(json!({ "error": error, "error_description": description }));
        let mut response = (status, [(header::CACHE_CONTROL, "no-store")], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let value = header::HeaderValue::from_static(RETRY_AFTER_SECS);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

async fn post_logout_token(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let token = token_of(&headers, &body)?;
    let verified = gateway.keys.verify_logout(&token, SystemTime::now()).await;
    let logout = verified.map_err(|error| match error {
        Unverified::Rejected(rejection) => {
            tracing::info!(reason = rejection.reason(), "a logout token was refused");
            Refusal::Rejected(rejection)
        }
        Unverified::NoKeys => Refusal::Unavailable,
    })?;
    gateway
        .revoke(&logout)
        .await
        .map_err(|error: RevocationError| {
            tracing::error!("a revocation cannot be acknowledged: {error}");
            Refusal::Unavailable
        })?;
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response())
}

/// The one `logout_token` of a form.
fn token_of(headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    const FORM: &str = "application/x-www-form-urlencoded";
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case(FORM) {
        return Err(Refusal::Malformed("the body must be a form"));
    }
    let mut tokens = form_urlencoded::parse(body)
        .filter(|(name, _)| name == "logout_token")
        .map(|(_, value)| value.into_owned());
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => Ok(token),
        _ => Err(Refusal::Malformed("the form must hold one logout_token")),
    }
}
