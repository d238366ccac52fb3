//! `POST /password/forgot` and `POST /password/reset`: a new password for an owner who has forgotten the
//! old one and reads the account's mail.

use std::time::SystemTime;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    credentials::{Password, email::Email},
    error::{ApiError, PROBLEM_TYPE, Problem},
    mail_request::{new_reset_request, refuse_link},
    new_password,
    state::AppState,
    store::{EndReason, Ending, LinkPurpose},
    vault::Hash,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgotBody {
    /// The account's email.
    email: String,
}

impl Body for ForgotBody {
    const SHAPE: &str = "the body must hold an email, a text, and nothing else";
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetBody {
    /// The token of the link.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
    /// The password from now on.
    #[schema(value_type = String, format = Password)]
    new_password: Zeroizing<String>,
}

impl Body for ResetBody {
    const SHAPE: &str =
        "the body must hold a token and a new_password, both text, and nothing else";
}

/// Mails a link with which a forgotten password is replaced.
///
/// Answers the same, after the same time, whether or not an account has the email.
#[utoipa::path(
    post,
    path = "/password/forgot",
    tag = "account",
    request_body(content = ForgotBody, content_type = "application/json"),
    responses(
        (status = 202, description = "a mail is on its way, if an account has the email"),
        (status = 400, description = "no email", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service sends no mail", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many mails; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many mails wait, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_forgot(
    state: web::Data<AppState>,
    client_info: ClientInfo,
    Parsed(body): Parsed<ForgotBody>,
) -> Result<HttpResponse, ApiError> {
    let email = Email::parse(&body.email)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
    let request = new_reset_request(&state, &client_info, email).await?;
    state.store().request_password_reset(&request).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// Sets a new password by a mailed link.
///
/// Ends all sessions of the account and signs nobody in: the owner logs in with the new password, and
/// with the second factor if there is one.
#[utoipa::path(
    post,
    path = "/password/reset",
    tag = "account",
    request_body(content = ResetBody, content_type = "application/json"),
    responses(
        (status = 204, description = "the password is another, and all sessions have ended"),
        (status = 400, description = "no token and password, or the link has ended", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service sends no mail", body = Problem, content_type = PROBLEM_TYPE),
        (status = 422, description = "the password cannot be one; the link still can be used", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_reset(
    state: web::Data<AppState>,
    client_info: ClientInfo,
    Parsed(body): Parsed<ResetBody>,
) -> Result<HttpResponse, ApiError> {
    if state.mailer().is_none() {
        return Err(ApiError::MailOff);
    }
    let new = Password::parse(body.new_password)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
    let now = seconds_since_epoch(SystemTime::now())?;
    let hash = Hash::of(&body.token);
    let store = state.store();
    let link = store
        .find_link(LinkPurpose::ResetPassword, &hash, now)
        .await?;
    // The password is judged and hashed for a link that can be followed alone.
    let Some(link) = link else {
        return Err(refuse_link(&state, &client_info).await);
    };
    let Some(account) = state.users().find_active(&link.user_id).await? else {
        return Err(refuse_link(&state, &client_info).await);
    };
    let address = state.limits().address_key(client_info.address);
    let _place = state.wait(address).ok_or(ApiError::Overloaded)?;
    new_password::judge(&state, &account, &new).await?;
    let new = state.users().hash(new).await?;
    let ending = Ending::new(state.settings(), EndReason::PasswordChanged, now)?;
    if !store.reset_password(&link, &hash, &new, ending).await? {
        return Err(refuse_link(&state, &client_info).await);
    }
    state.outbox().wake();
    tracing::info!(user = account.id, "the password was reset by a link");
    Ok(HttpResponse::NoContent().finish())
}
