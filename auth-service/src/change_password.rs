//! `POST /password`: another password for somebody who is signed in.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    credentials::Password,
    current_user::CurrentUser,
    device_proof::attempt_again,
    error::{ApiError, PROBLEM_TYPE, Problem},
    new_password,
    state::AppState,
    store::{EndReason, Ending, SessionFilter},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordBody {
    /// The password until now.
    #[schema(value_type = String, format = Password)]
    current_password: Zeroizing<String>,
    /// The password from now on.
    #[schema(value_type = String, format = Password)]
    new_password: Zeroizing<String>,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for PasswordBody {
    const SHAPE: &str = "the body must hold current_password and new_password, may hold a \
                         device_token, all text, and nothing else";
}

/// Changes the own password.
///
/// Sets the new password and ends the owner's other sessions.
#[utoipa::path(
    post,
    path = "/password",
    tag = "account",
    security(("bearer" = [])),
    request_body(content = PasswordBody, content_type = "application/json"),
    responses(
        (status = 204, description = "the password is another, and the other sessions have ended"),
        (status = 400, description = "no two passwords", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or the wrong current password", body = Problem, content_type = PROBLEM_TYPE),
        (status = 422, description = "the new password cannot be one", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_password(
    request: HttpRequest,
    state: web::Data<AppState>,
    current_user: CurrentUser,
    client_info: ClientInfo,
    Parsed(body): Parsed<PasswordBody>,
) -> Result<HttpResponse, ApiError> {
    let new = Password::parse(body.new_password)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
    let account = &current_user.account;
    let now = seconds_since_epoch(SystemTime::now())?;
    let password = body.current_password;
    let attempt = attempt_again(
        &state,
        &request,
        &client_info,
        &current_user,
        password,
        body.device_token,
    )
    .await?;
    let ending = Ending::new(state.settings(), EndReason::PasswordChanged, now)?;
    let keep = SessionFilter::AllBut(&current_user.session_id);
    let judge = state.judge();
    let change = attempt.judge_and(&judge, async |found| {
        // Only now, since to judge a password takes some time of a thread.
        new_password::judge(&state, account, &new).await?;
        let hash = state.users().hash(new.clone()).await?;
        let version = found.password_version;
        let store = state.store();
        let changed = store.change_password(&account.id, version, &hash, keep, ending);
        Ok::<_, ApiError>(changed.await?.then_some(()))
    });
    change.await?;
    state.outbox().wake();
    Ok(HttpResponse::NoContent().finish())
}
