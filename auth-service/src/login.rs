//! `POST /login`: a name and a password for a token.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    body::{Body, BodyKind, Parsed},
    cookies,
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
    /// Whether the refresh token is wanted as a cookie.
    #[serde(default)]
    cookie: bool,
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
    let account = state
        .users()
        .authenticate(&body.username, password)
        .await
        .map_err(refuse)?;
    let answer = sessions::start(&state, &account, &visitor).await?;
    tracing::info!(outcome = "success", user = account.account.id, "login");
    Ok(answer.into_response(body.cookie))
}

/// Logs the reason, by the account's id if there is one: what was typed as a name may be a
/// password. The visitor is told the same for all of them.
pub(crate) fn refuse(error: AuthenticationError) -> ApiError {
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
