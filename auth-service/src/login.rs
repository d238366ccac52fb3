//! `POST /login`: a name and a password for a token.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    body::{Body, BodyKind, Parsed},
    error::{ApiError, PROBLEM_TYPE, Problem},
    metrics::LoginOutcome,
    sessions::{self, TokenAnswer},
    state::AppState,
    users::{AuthenticationError, credentials::Password, password::PoolError},
    visitor::Visitor,
};

/// What a client sends, as JSON or as a form.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginBody {
    /// The name to sign in with.
    username: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
}

impl Body for LoginBody {
    const KINDS: &[BodyKind] = &[BodyKind::Json, BodyKind::Form];
    const SHAPE: &str = "the body must hold a username and a password, both text, and nothing else";
}

/// Signs somebody in: a name and a password for a token.
///
/// Answers a token, or that name and password do not belong together.
#[utoipa::path(
    post,
    path = "/login",
    tag = "sessions",
    request_body(content(
        (LoginBody = "application/json"),
        (LoginBody = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "a session, and its tokens", body = TokenAnswer),
        (status = 400, description = "no name and password", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "they do not belong together", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many logins at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
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
