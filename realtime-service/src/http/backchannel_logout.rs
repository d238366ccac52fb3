//! `POST /oidc/backchannel-logout`: an issuer says that a session has ended (OpenID Connect
//! Back-Channel Logout 1.0, sections 2.5 to 2.8).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use shared_claims::Rejection;

use crate::{
    auth::keys::Unverified, limits::AddressKey, metrics::Limit, state::AppState,
    transport::listener::Connection,
};

/// The longest body: a token of 8 KiB, its name, and what form encoding makes of them.
const MAXIMUM_BODY_BYTES: usize = 16 * 1024;

/// When to come back after what is our own fault, in seconds.
const RETRY_AFTER_SECS: u64 = 1;

/// The one path.
pub fn routes(state: Arc<AppState>) -> Router {
    Router::new()
        .route("/oidc/backchannel-logout", post(post_logout_token))
        .layer(DefaultBodyLimit::max(MAXIMUM_BODY_BYTES))
        .with_state(state)
}

/// Why a logout token is not acknowledged.
enum Refusal {
    /// There is none, or more than one.
    Malformed(&'static str),
    /// It is not accepted.
    Rejected(Rejection),
    /// We are at fault; it may come again.
    Unavailable,
    /// This address had too many refusals, and has to wait for so long. Its token is not looked at.
    Flood(Duration),
}

impl Refusal {
    /// Whether the one who posts is at fault, as no issuer of ours is by accident.
    fn is_counted(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Rejected(_))
    }

    /// How many seconds the issuer should wait before it tries again.
    fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::Malformed(_) | Self::Rejected(_) => None,
            Self::Unavailable => Some(RETRY_AFTER_SECS),
            Self::Flood(wait) => Some(wait.as_secs() + 1),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after_secs();
        let (status, error, description) = match self {
            Self::Malformed(description) => {
                (StatusCode::BAD_REQUEST, "invalid_request", description)
            }
            Self::Rejected(rejection) => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                rejection.message(),
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "try again in a moment",
            ),
            Self::Flood(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                "too many logout tokens of this address were refused",
            ),
        };
        let body = Json(json!({ "error": error, "error_description": description }));
        let mut response = (status, [(header::CACHE_CONTROL, "no-store")], body).into_response();
        if let Some(secs) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, secs.into());
        }
        response
    }
}

async fn post_logout_token(
    State(state): State<Arc<AppState>>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let address = AddressKey::from(connection.client(&headers));
    if let Some(wait) = state.logout_refusals.wait(address) {
        state
            .transport
            .metrics
            .limited(Limit::LogoutRefusalsPerAddress);
        return Err(Refusal::Flood(wait));
    }
    let accepted = accept(&state, &headers, &body).await;
    if accepted.as_ref().is_err_and(Refusal::is_counted) {
        state.logout_refusals.count(address);
    }
    accepted?;
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response())
}

/// Ends what the posted logout token names.
async fn accept(state: &AppState, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let token = token_of(headers, body)?;
    let verified = state
        .sessions
        .keys
        .verify_logout(&token, SystemTime::now())
        .await;
    let logout = verified.map_err(|error| match error {
        Unverified::Rejected(rejection) => {
            tracing::info!(reason = rejection.reason(), "a logout token was refused");
            Refusal::Rejected(rejection)
        }
        Unverified::NoKeys => Refusal::Unavailable,
    })?;
    state.revoke(&logout).await.map_err(|error| {
        tracing::error!("a revocation cannot be acknowledged: {error}");
        Refusal::Unavailable
    })
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
