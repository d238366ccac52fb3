//! `POST /password`: another password for somebody who is signed in.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    attempts::{Attempt, own_device},
    body::{Body, Parsed},
    error::{ApiError, PROBLEM_TYPE, Problem},
    sessions,
    signed_in::SignedIn,
    state::AppState,
    store::{EndReason, Which},
    users::{self, ChangeError, credentials::Password, seconds_since_epoch},
    visitor::Visitor,
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
    signed_in: SignedIn,
    visitor: Visitor,
    Parsed(body): Parsed<PasswordBody>,
) -> Result<HttpResponse, ApiError> {
    let new = Password::parse(body.new_password)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
    let account = &signed_in.account;
    let now = seconds_since_epoch(SystemTime::now())?;
    let device = own_device(
        &state,
        request.headers(),
        body.device_token,
        &signed_in,
        now,
    );
    let attempt = Attempt {
        visitor: &visitor,
        username: &account.username,
        password: body.current_password,
        device: Some(device),
    };
    let ending = sessions::ending(state.settings(), EndReason::PasswordChanged, now)?;
    let keep = Which::AllBut(&signed_in.session_id);
    let change = attempt.judge_and(&state, async |found| {
        // Only now, since to judge a password takes some time of a thread.
        let profile = account.profile();
        users::check_password(state.settings(), &new, &account.username, &profile)
            .await
            .map_err(refuse)?;
        let hash = state.users().hash(new.clone()).await?;
        let version = found.password_version;
        let store = state.store();
        let changed = store.change_password(&account.id, version, &hash, keep, ending);
        Ok(changed.await?.then_some(()))
    });
    change.await?;
    state.outbox().wake();
    Ok(HttpResponse::NoContent().finish())
}

fn refuse(error: ChangeError) -> ApiError {
    match error {
        ChangeError::Other(error) => error.into(),
        error => ApiError::PasswordRefused(error.to_string().into()),
    }
}
