//! `POST /login`: a name and a password for a token.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    attempts::{self, Attempt},
    body::{Body, BodyKind, Parsed},
    cookies,
    error::{ApiError, PROBLEM_TYPE, Problem},
    metrics::LoginOutcome,
    second_factor,
    sessions::{self, TokenAnswer},
    state::AppState,
    users::seconds_since_epoch,
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
        (status = 403, description = "a cookie for a page that is not listed, or the claims webhook refuses the login", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many logins at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_login(
    request: HttpRequest,
    state: web::Data<AppState>,
    visitor: Visitor,
    Parsed(body): Parsed<LoginBody>,
) -> Result<HttpResponse, ApiError> {
    if body.cookie {
        // Else another site's page could sign somebody in as somebody else.
        cookies::require_listed_page(&request, state.origins())?;
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let attempt = Attempt {
        visitor: &visitor,
        username: &body.username,
        password: body.password,
        device: attempts::known_device(&state, request.headers(), body.device_token, now),
    };
    let signed_in = attempt.judge_and(&state, async |account| {
        second_factor::require(&state, &account, now).await?;
        let version = account.password_version;
        let is_new = !attempts::is_own(attempt.device.as_ref(), &account.account);
        let answer = sessions::start(&state, &account.account, version, &visitor, is_new).await?;
        Ok(answer.map(|answer| (account.account.id, answer)))
    });
    let (user_id, answer) = signed_in.await?;
    let outcome = LoginOutcome::Success;
    state.metrics().login(outcome);
    tracing::info!(outcome = outcome.name(), user = user_id, "login");
    Ok(answer.into_response(body.cookie))
}
