//! `POST /login`: a name and a password for a token.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    body::{Body, BodyKind, Parsed},
    error::ApiError,
    metrics::LoginOutcome,
    sessions,
    state::AppState,
    users::{AuthenticationError, credentials::Password, password::PoolError},
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
        .map_err(|error| refuse(&state, error))?;
    let answer = sessions::start(&state, &account, &visitor).await?;
    let outcome = LoginOutcome::Success;
    state.metrics().login(outcome);
    tracing::info!(outcome = outcome.name(), user = account.account.id, "login");
    Ok(HttpResponse::Ok().json(answer))
}

/// Logs the reason, by the account's id if there is one: what was typed as a name may be a
/// password. The visitor is told the same for all of them.
fn refuse(state: &AppState, error: AuthenticationError) -> ApiError {
    let (outcome, user) = match error {
        AuthenticationError::Unknown => (LoginOutcome::UnknownUser, None),
        AuthenticationError::WrongPassword { id } => (LoginOutcome::WrongPassword, Some(id)),
        AuthenticationError::Disabled { id } => (LoginOutcome::Disabled, Some(id)),
        AuthenticationError::Pool(error) => {
            state.metrics().login(match error {
                PoolError::Overloaded => LoginOutcome::Overloaded,
                PoolError::Failed => LoginOutcome::Failed,
            });
            return error.into();
        }
        AuthenticationError::Store(error) => {
            state.metrics().login(LoginOutcome::Failed);
            return error.into();
        }
    };
    state.metrics().login(outcome);
    tracing::info!(outcome = outcome.name(), user, "login");
    ApiError::InvalidCredentials
}
