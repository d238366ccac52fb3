//! `POST /login`: a name and a password for a token.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    body::{Body, BodyKind, Parsed},
    error::ApiError,
    sessions,
    state::AppState,
    users::{AuthenticationError, credentials::Password},
    visitor::Visitor,
};

/// What a client sends, as JSON or as a form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginBody {
    username: String,
    password: Zeroizing<String>,
}

impl Body for LoginBody {
    const KINDS: &[BodyKind] = &[BodyKind::Json, BodyKind::Form];
    const SHAPE: &str = "the body must hold a username and a password, both text, and nothing else";
}

/// Answers a token, or that name and password do not belong together.
pub(crate) async fn post_login(
    state: web::Data<AppState>,
    visitor: Visitor,
    Parsed(body): Parsed<LoginBody>,
) -> Result<HttpResponse, ApiError> {
    let password = Password::parse(body.password)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
    let account = state
        .users()
        .authenticate(&body.username, password)
        .await
        .map_err(refuse)?;
    let answer = sessions::start(&state, &account, &visitor).await?;
    tracing::info!(outcome = "success", user = account.account.id, "login");
    Ok(HttpResponse::Ok().json(answer))
}

/// Logs the reason, by the account's id if there is one: what was typed as a name may be a
/// password. The visitor is told the same for all of them.
fn refuse(error: AuthenticationError) -> ApiError {
    let (outcome, user) = match error {
        AuthenticationError::Unknown => ("unknown_user", None),
        AuthenticationError::WrongPassword { id } => ("wrong_password", Some(id)),
        AuthenticationError::Disabled { id } => ("disabled", Some(id)),
        AuthenticationError::Pool(error) => return error.into(),
        AuthenticationError::Store(error) => return error.into(),
    };
    tracing::info!(outcome, user, "login");
    ApiError::InvalidCredentials
}
