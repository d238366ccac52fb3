//! `POST /totp`, `/totp/confirm` and `/totp/disable`: one's own second factor.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use totp_rs::Secret;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    CodeLane, RECOVERY_CODES, authenticator, new_secret, qr::QrImage, recovery_code, step_of,
    use_code,
};
use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    current_user::CurrentUser,
    device_proof::attempt_again,
    error::{ApiError, PROBLEM_TYPE, Problem},
    state::AppState,
    store::TotpSecret,
    vault::{Hash, Purpose},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    /// The password, as proof that it is not a stolen token that asks.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for StartBody {
    const SHAPE: &str = "the body must hold the password, may hold a device_token, both text, \
                         and nothing else";
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmBody {
    /// A code of the authenticator.
    #[schema(value_type = String)]
    code: Zeroizing<String>,
}

impl Body for ConfirmBody {
    const SHAPE: &str = "the body must hold a code and nothing else";
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisableBody {
    /// The password, as proof that it is not a stolen token that asks.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
    /// A code of the authenticator.
    #[schema(value_type = String)]
    code: Zeroizing<String>,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for DisableBody {
    const SHAPE: &str = "the body must hold the password and a code, may hold a device_token, \
                         all text, and nothing else";
}

/// Secret of an authenticator, to be entered there.
#[derive(Serialize, ToSchema)]
pub(crate) struct Enrolment {
    /// The secret in base32, to be typed.
    secret: String,
    /// The same as a URI.
    uri: String,
    /// The URI as a QR code, to be scanned by an authenticator.
    qr: QrImage,
}

/// Codes for when the authenticator is lost, each of them once.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecoveryCodes {
    /// Ten codes.
    recovery_codes: Vec<String>,
}

/// Starts to set a second factor up.
///
/// Makes a secret and shows it this once. It asks nobody for codes until one has confirmed it.
#[utoipa::path(
    post,
    path = "/totp",
    tag = "second factor",
    security(("bearer" = [])),
    request_body(content = StartBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the secret for an authenticator, shown this once", body = Enrolment),
        (status = 401, description = "no token, or the wrong password", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "there is a second factor already", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_start(
    request: HttpRequest,
    state: web::Data<AppState>,
    current_user: CurrentUser,
    client_info: ClientInfo,
    Parsed(body): Parsed<StartBody>,
) -> Result<HttpResponse, ApiError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let attempt = attempt_again(
        &state,
        &request,
        &client_info,
        &current_user,
        body.password,
        body.device_token,
    )
    .await?;
    attempt.judge(&state.judge()).await?;
    let account = &current_user.account;
    let secret = new_secret()?;
    if !write_secret(&state, &account.id, &*secret, now).await? {
        return Err(ApiError::SecondFactorState(
            "there is a second factor already",
        ));
    }
    let uri = authenticator(&*secret, &account.username)?.to_url();
    let uri = uri.map_err(|_| anyhow::anyhow!("this name makes no URI"))?;
    let text = Secret::from(secret.to_vec()).to_base32();
    let qr = QrImage::draw(&uri)?;
    Ok(HttpResponse::Ok().json(Enrolment {
        secret: text,
        uri,
        qr,
    }))
}

/// Stores a secret that is yet to be confirmed, encrypted under the first of our secrets. Returns `false`
/// when the account has a second factor already.
async fn write_secret(
    state: &AppState,
    user_id: &str,
    secret: &[u8],
    now: i64,
) -> Result<bool, ApiError> {
    loop {
        let ring = state.ring();
        let sealed = ring.vault.seal(Purpose::SecondFactor, user_id, secret)?;
        let writing = state.store().put_totp_secret(user_id, &sealed, now);
        if !writing.await? {
            return Ok(false);
        }
        // A SIGHUP can have replaced our secrets before the row was there to be encrypted anew.
        if !state.ring().vault.is_outdated(&sealed) {
            return Ok(true);
        }
    }
}

/// Sets the second factor up, by a first code.
///
/// Takes the first code, and shows the recovery codes this once.
#[utoipa::path(
    post,
    path = "/totp/confirm",
    tag = "second factor",
    security(("bearer" = [])),
    request_body(content = ConfirmBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the recovery codes, shown this once", body = RecoveryCodes),
        (status = 401, description = "no token, or a wrong code", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "there is none to be confirmed", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_confirm(
    state: web::Data<AppState>,
    current_user: CurrentUser,
    Parsed(body): Parsed<ConfirmBody>,
) -> Result<HttpResponse, ApiError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let user_id = &current_user.account.id;
    let none_to_confirm = || ApiError::SecondFactorState("there is none to be confirmed");
    // A confirmed one is out of reach here: a guess would count against its owner, and tell whether it is right.
    let secret = state.store().find_totp_secret(user_id).await?;
    let secret = secret.filter(|secret| secret.confirmed_at.is_none());
    let secret = secret.ok_or_else(none_to_confirm)?;
    let step = confirming_step(&state, user_id, &secret, (&body.code, now)).await?;
    let codes = (0..RECOVERY_CODES)
        .map(|_| recovery_code())
        .collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<Hash> = codes.iter().map(|code| Hash::of(code)).collect();
    if !state
        .store()
        .confirm_totp(user_id, (&secret.sealed, step), &hashes, now)
        .await?
    {
        return Err(none_to_confirm());
    }
    Ok(HttpResponse::Ok().json(RecoveryCodes {
        recovery_codes: codes,
    }))
}

/// The step of a first code. Guesses at it count like those at any other.
async fn confirming_step(
    state: &AppState,
    user_id: &str,
    secret: &TotpSecret,
    (code, now): (&str, i64),
) -> Result<i64, ApiError> {
    let counter = CodeLane::KnownDevices.counter(state, user_id);
    let taken = counter.take(&state.counting()).await?;
    let step = step_of(state, user_id, secret, (code.trim(), now))?;
    let step = step.ok_or(ApiError::CodeRefused)?;
    counter.give_back(&state.counting(), taken).await;
    Ok(step)
}

/// Takes the second factor away.
///
/// Takes the second factor away, for somebody who has it.
#[utoipa::path(
    post,
    path = "/totp/disable",
    tag = "second factor",
    security(("bearer" = [])),
    request_body(content = DisableBody, content_type = "application/json"),
    responses(
        (status = 204, description = "no codes are asked for any more"),
        (status = 401, description = "no token, the wrong password, or a wrong code", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_disable(
    request: HttpRequest,
    state: web::Data<AppState>,
    current_user: CurrentUser,
    client_info: ClientInfo,
    Parsed(body): Parsed<DisableBody>,
) -> Result<HttpResponse, ApiError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let attempt = attempt_again(
        &state,
        &request,
        &client_info,
        &current_user,
        body.password,
        body.device_token,
    )
    .await?;
    attempt.judge(&state.judge()).await?;
    let user_id = &current_user.account.id;
    use_code(&state, user_id, &body.code, now).await?;
    state.store().delete_totp(user_id, now).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests;
