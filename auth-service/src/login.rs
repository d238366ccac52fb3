//! `POST /login`: a name and a password for a token.

use std::time::SystemTime;

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
    web,
};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    body::{self, Body, BodyKind, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    cookies,
    device_proof::known_device,
    error::{ApiError, PROBLEM_TYPE, Problem},
    guard::attempts::Attempt,
    metrics::LoginOutcome,
    second_factor,
    sessions::{self, TokenAnswer},
    state::AppState,
    store::LoginProof::PasswordAlone,
    users::Authenticated,
};

/// Body of a login, as JSON or as a form.
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
    /// The `device_token` of an earlier login on this device.
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
    client_info: ClientInfo,
    Parsed(body): Parsed<LoginBody>,
) -> Result<HttpResponse, ApiError> {
    if body.cookie {
        // Else another site's page could sign somebody in as somebody else.
        cookies::require_listed_page(&request, state.origins())?;
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let attempt = Attempt {
        address: client_info.address,
        username: &body.username,
        password: body.password,
        device: known_device(&state, &request, body.device_token, now),
    };
    let judge = state.judge();
    let login = attempt.judge_and(&judge, async |account: Authenticated| {
        second_factor::require(&state, &account, now).await?;
        let version = account.password_version;
        let is_new = !attempt.is_own(&account.account);
        let answer = sessions::start(
            &state,
            &account.account,
            version,
            &client_info,
            is_new,
            PasswordAlone,
        )
        .await?;
        Ok::<_, ApiError>(answer.map(|answer| (account.account.id, answer)))
    });
    let (user_id, answer) = login.await?;
    let outcome = LoginOutcome::Success;
    state.metrics().login(outcome);
    tracing::info!(outcome = outcome.name(), user = user_id, "login");
    Ok(answer.into_response(body.cookie))
}

/// Turns a login away before anything of it is looked at when there is no room for its password: a
/// flood should cost little more than saying no.
pub(crate) async fn require_room<B: MessageBody>(
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if request.method() != Method::POST || state.users().passwords().has_room() {
        let answer = next.call(request).await?;
        return Ok(answer.map_into_left_body());
    }
    // A body that is left unread would end the connection, and a new one costs more than a login that is
    // refused.
    let payload = request.take_payload();
    body::discard(request.request(), payload).await;
    state.metrics().login(LoginOutcome::Overloaded);
    let refusal = ApiError::Overloaded;
    Ok(request.error_response(refusal).map_into_right_body())
}
