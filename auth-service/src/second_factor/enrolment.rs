//! `POST /totp`, `/totp/confirm` and `/totp/disable`: one's own second factor.

use std::time::SystemTime;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use totp_rs::Secret;
use zeroize::Zeroizing;

use super::{RECOVERY_CODES, authenticator, new_secret, recovery_code, step_of, use_code};
use crate::{
    attempts::Attempt,
    body::{Body, Parsed},
    error::ApiError,
    signed_in::SignedIn,
    state::AppState,
    users::{credentials::Password, seconds_since_epoch},
    vault::{Hash, Purpose},
    visitor::Visitor,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    password: Zeroizing<String>,
}

impl Body for StartBody {
    const SHAPE: &str = "the body must hold the password and nothing else";
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmBody {
    code: Zeroizing<String>,
}

impl Body for ConfirmBody {
    const SHAPE: &str = "the body must hold a code and nothing else";
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisableBody {
    password: Zeroizing<String>,
    code: Zeroizing<String>,
}

impl Body for DisableBody {
    const SHAPE: &str = "the body must hold the password and a code, and nothing else";
}

/// Makes a secret and shows it this once. It asks nobody for codes until one has confirmed it.
pub(crate) async fn post_start(
    state: web::Data<AppState>,
    signed_in: SignedIn,
    visitor: Visitor,
    Parsed(body): Parsed<StartBody>,
) -> Result<HttpResponse, ApiError> {
    check_password(&state, &signed_in, &visitor, body.password).await?;
    let now = seconds_since_epoch(SystemTime::now())?;
    let account = &signed_in.account;
    let secret = new_secret()?;
    let sealed = state
        .ring()
        .vault
        .seal(Purpose::SecondFactor, &account.id, &*secret)?;
    if !state
        .store()
        .put_totp_secret(&account.id, &sealed, now)
        .await?
    {
        return Err(ApiError::SecondFactorState(
            "there is a second factor already",
        ));
    }
    let uri = authenticator(&*secret, &account.username)?.to_url();
    let uri = uri.map_err(|_| anyhow::anyhow!("this name makes no URI"))?;
    let text = Secret::from(secret.to_vec()).to_base32();
    Ok(HttpResponse::Ok().json(json!({"secret": text, "uri": uri})))
}

/// Takes the first code, and shows the recovery codes this once.
pub(crate) async fn post_confirm(
    state: web::Data<AppState>,
    signed_in: SignedIn,
    Parsed(body): Parsed<ConfirmBody>,
) -> Result<HttpResponse, ApiError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let user_id = &signed_in.account.id;
    let step = step_of(&state, user_id, &body.code, now).await?;
    let step = step.ok_or(ApiError::CodeRefused)?;
    let codes = (0..RECOVERY_CODES)
        .map(|_| recovery_code())
        .collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<Hash> = codes.iter().map(|code| Hash::of(code)).collect();
    if !state
        .store()
        .confirm_totp(user_id, step, &hashes, now)
        .await?
    {
        return Err(ApiError::SecondFactorState("there is none to be confirmed"));
    }
    Ok(HttpResponse::Ok().json(json!({"recovery_codes": codes})))
}

/// Takes the second factor away, for somebody who has it.
pub(crate) async fn post_disable(
    state: web::Data<AppState>,
    signed_in: SignedIn,
    visitor: Visitor,
    Parsed(body): Parsed<DisableBody>,
) -> Result<HttpResponse, ApiError> {
    check_password(&state, &signed_in, &visitor, body.password).await?;
    let now = seconds_since_epoch(SystemTime::now())?;
    let user_id = &signed_in.account.id;
    use_code(&state, user_id, &body.code, now).await?;
    state.store().delete_totp(user_id, now).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A stolen access token is not enough to change what guards the account.
async fn check_password(
    state: &AppState,
    signed_in: &SignedIn,
    visitor: &Visitor,
    password: Zeroizing<String>,
) -> Result<(), ApiError> {
    let password = Password::parse(password)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
    let attempt = Attempt {
        visitor,
        username: &signed_in.account.username,
        password,
        device: None,
    };
    attempt.judge(state).await?;
    Ok(())
}
