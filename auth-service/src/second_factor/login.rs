//! `POST /login/totp`: the second half of a login.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{CHALLENGE_ATTEMPTS, CodeLane, check_code};
use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    cookies,
    device_proof::known_device,
    error::{ApiError, PROBLEM_TYPE, Problem},
    guard::{address_count::AddressCount, devices::KnownDevice},
    metrics::LoginOutcome,
    sessions::{self, TokenAnswer},
    state::AppState,
    store::LoginProof,
    vault::Hash,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeBody {
    /// The `challenge` that the login answered.
    #[schema(value_type = String)]
    challenge: Zeroizing<String>,
    /// Six digits of the authenticator, or a recovery code.
    #[schema(value_type = String)]
    code: Zeroizing<String>,
    /// Whether the refresh token is wanted as a cookie.
    #[serde(default)]
    cookie: bool,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for CodeBody {
    const SHAPE: &str = "the body must hold a challenge and a code, both text, may hold a cookie, \
                         true or false, and a device_token, a text, and nothing else";
}

/// Signs somebody in whose login waits for a code.
///
/// Answers what a login answers, for a challenge and a code.
#[utoipa::path(
    post,
    path = "/login/totp",
    tag = "sessions",
    request_body(content = CodeBody, content_type = "application/json"),
    responses(
        (status = 200, description = "a session, and its tokens", body = TokenAnswer),
        (status = 400, description = "no challenge and code", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "a wrong code, or no such challenge", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "a cookie for a page that is not listed, or the claims webhook refuses the login", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_code(
    request: HttpRequest,
    state: web::Data<AppState>,
    client_info: ClientInfo,
    Parsed(body): Parsed<CodeBody>,
) -> Result<HttpResponse, ApiError> {
    if body.cookie {
        cookies::require_listed_page(&request, state.origins())?;
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let proof = body.device_token.clone();
    let device = known_device(&state, &request, proof, now);
    let device = device.as_ref();
    let counting = state.counting();
    let mut address = AddressCount::begin(&counting, client_info.address, device.is_some())?;
    let outcome = answer(&state, (&client_info, device), &mut address, &body, now).await;
    let is_failure = matches!(
        outcome,
        Err(ApiError::CodeRefused | ApiError::RateLimited { .. })
    );
    address.settle(&counting, is_failure).await?;
    let (user_id, answer) = outcome?;
    let outcome = LoginOutcome::Success;
    state.metrics().login(outcome);
    tracing::info!(
        outcome = outcome.name(),
        user = user_id,
        "login with a code"
    );
    Ok(answer.into_response(body.cookie))
}

/// Starts the session that a challenge and a code stand for. Returns the account's id with it.
async fn answer(
    state: &AppState,
    (client_info, device): (&ClientInfo, Option<&KnownDevice>),
    address: &mut AddressCount,
    body: &CodeBody,
    now: i64,
) -> Result<(String, TokenAnswer), ApiError> {
    let challenge = Hash::of(&body.challenge);
    let store = state.store();
    // Counting an attempt takes the writer, which a challenge that nobody has must not.
    if !store.is_challenge_open(&challenge, now).await? {
        return Err(ApiError::CodeRefused);
    }
    let challenged = store.try_challenge(&challenge, CHALLENGE_ATTEMPTS, now);
    let challenged = challenged.await?.ok_or(ApiError::CodeRefused)?;
    let lane = CodeLane::of(device, &challenged);
    address.decide(&state.counting(), lane == CodeLane::KnownDevices)?;
    let code = check_code(state, &challenged.user_id, lane, &body.code, now).await?;
    let account = state.users().find_active(&challenged.user_id).await?;
    let account = account.ok_or(ApiError::CodeRefused)?;
    let version = challenged.password_version;
    let is_new = !device.is_some_and(|device| device.is_of(&account));
    // Spent with the session: of two codes that are right at once, one starts a session.
    let challenge = &challenge;
    let proof = LoginProof::Code { code, challenge };
    let answer = sessions::start(state, &account, version, client_info, is_new, proof).await?;
    // The password has been changed since, so the first half of the login counts for nothing.
    let answer = answer.ok_or(ApiError::InvalidCredentials)?;
    Ok((account.id, answer))
}
