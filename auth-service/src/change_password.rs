//! `POST /password`: another password for somebody who is signed in.

use std::time::SystemTime;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    body::{Body, Parsed},
    error::ApiError,
    login, sessions,
    signed_in::SignedIn,
    state::AppState,
    store::EndReason,
    users::{ChangeError, PasswordChangeError, credentials::Password, seconds_since_epoch},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordBody {
    current_password: Zeroizing<String>,
    new_password: Zeroizing<String>,
}

impl Body for PasswordBody {
    const SHAPE: &str = "the body must hold current_password and new_password, both text, \
                         and nothing else";
}

/// Sets the new password and ends the owner's other sessions.
pub(crate) async fn post_password(
    state: web::Data<AppState>,
    signed_in: SignedIn,
    Parsed(body): Parsed<PasswordBody>,
) -> Result<HttpResponse, ApiError> {
    let parse = |text| {
        Password::parse(text).map_err(|error| ApiError::InvalidRequest(error.to_string().into()))
    };
    let passwords = (parse(body.current_password)?, parse(body.new_password)?);
    let now = seconds_since_epoch(SystemTime::now())?;
    let ending = sessions::ending(state.settings(), EndReason::PasswordChanged, now)?;
    let spared = (signed_in.session_id.as_str(), ending);
    state
        .users()
        .change_password(&signed_in.account, passwords, spared)
        .await
        .map_err(refuse)?;
    state.outbox().wake();
    Ok(HttpResponse::NoContent().finish())
}

fn refuse(error: PasswordChangeError) -> ApiError {
    match error {
        PasswordChangeError::Authentication(error) => login::refuse(error),
        PasswordChangeError::Change(ChangeError::Other(error)) => error.into(),
        PasswordChangeError::Change(error) => ApiError::PasswordRefused(error.to_string().into()),
    }
}
