//! `POST /login`: a name and a password for a token.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    attempts::{self, Attempt},
    body::{Body, BodyKind, Parsed},
    cookies,
    devices::KnownDevice,
    error::ApiError,
    second_factor, sessions,
    state::AppState,
    users::{credentials::Password, seconds_since_epoch},
    visitor::Visitor,
};

/// What a client sends, as JSON or as a form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginBody {
    username: String,
    password: Zeroizing<String>,
    /// Whether the refresh token is wanted as a cookie.
    #[serde(default)]
    cookie: bool,
    /// What an earlier login on this device answered.
    device_token: Option<String>,
}

impl Body for LoginBody {
    const KINDS: &[BodyKind] = &[BodyKind::Json, BodyKind::Form];
    const SHAPE: &str = "the body must hold a username and a password, both text, and nothing else";
}

/// Answers a token, or that name and password do not belong together.
pub(crate) async fn post_login(
    request: HttpRequest,
    state: web::Data<AppState>,
    visitor: Visitor,
    Parsed(body): Parsed<LoginBody>,
) -> Result<HttpResponse, ApiError> {
    if body.cookie {
        // Else another site's page could sign somebody in as somebody else.
        cookies::require_listed_page(&request, state.settings())?;
    }
    let password = Password::parse(body.password)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
    let now = seconds_since_epoch(SystemTime::now())?;
    let proof = body
        .device_token
        .or_else(|| attempts::device_cookie(request.headers()));
    let device = proof.and_then(|proof| KnownDevice::recognize(&state.ring().vault, &proof, now));
    let attempt = Attempt {
        visitor: &visitor,
        username: &body.username,
        password,
        device,
    };
    let account = attempt.judge(&state).await?;
    second_factor::require(&state, &account, now).await?;
    let answer = sessions::start(&state, &account, &visitor).await?;
    tracing::info!(outcome = "success", user = account.account.id, "login");
    Ok(answer.into_response(body.cookie))
}
