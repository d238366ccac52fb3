//! `POST /email` and `POST /email/verify`: another address for mail. It becomes the account's when its
//! owner follows the link in the mail, and not before.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    credentials::email::Email,
    current_user::CurrentUser,
    device_proof::attempt_again,
    error::{ApiError, PROBLEM_TYPE, Problem},
    ids::random_id,
    mail::VERIFY_SECS,
    mail_request::{new_link, refuse_link},
    state::AppState,
    store::{EmailChange, LinkPurpose, Verified},
    vault::Hash,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmailBody {
    /// The password.
    #[schema(value_type = String, format = Password)]
    current_password: Zeroizing<String>,
    /// The address from now on.
    email: String,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for EmailBody {
    const SHAPE: &str = "the body must hold current_password and email, may hold a device_token, all \
                         text, and nothing else";
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyBody {
    /// The token of the link.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
}

impl Body for VerifyBody {
    const SHAPE: &str = "the body must hold a token, a text, and nothing else";
}

/// Asks for another email.
///
/// Mails a link to the new address and a notice to the old one. The address becomes the account's when
/// the link is followed. The answer does not tell whether another account has the address.
#[utoipa::path(
    post,
    path = "/email",
    tag = "account",
    security(("bearer" = [])),
    request_body(content = EmailBody, content_type = "application/json"),
    responses(
        (status = 202, description = "a mail with the link is on its way"),
        (status = 400, description = "no password and email", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or the wrong password", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service sends no mail", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts or mails; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, too many mails wait, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_email(
    request: HttpRequest,
    state: web::Data<AppState>,
    current_user: CurrentUser,
    client_info: ClientInfo,
    Parsed(body): Parsed<EmailBody>,
) -> Result<HttpResponse, ApiError> {
    if state.mailer().is_none() {
        return Err(ApiError::MailOff);
    }
    let email = Email::parse(&body.email)
        .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
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
    let judge = state.judge();
    let change = attempt.judge_and(&judge, async |found| {
        // Only now: whoever does not know the password sends no mail.
        let link = new_link(&state, &client_info, email.clone(), VERIFY_SECS).await?;
        let (version, notice) = (found.password_version, random_id()?);
        let store = state.store();
        let asked = store.request_email_change(&found.account, version, &link, &notice);
        match asked.await? {
            EmailChange::Asked => Ok(Some(())),
            EmailChange::AccountChanged => Ok(None),
            EmailChange::TooManyMails => Err(ApiError::Unavailable),
        }
    });
    change.await?;
    state.outbox().wake();
    Ok(HttpResponse::Accepted().finish())
}

/// Verifies an email by a mailed link.
///
/// Makes the address the account's. A token of the account tells it from the next refresh on.
#[utoipa::path(
    post,
    path = "/email/verify",
    tag = "account",
    request_body(content = VerifyBody, content_type = "application/json"),
    responses(
        (status = 204, description = "the address is verified and the account's"),
        (status = 400, description = "no token, or the link has ended", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service sends no mail", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "another account has the email", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_verify(
    state: web::Data<AppState>,
    client_info: ClientInfo,
    Parsed(body): Parsed<VerifyBody>,
) -> Result<HttpResponse, ApiError> {
    if state.mailer().is_none() {
        return Err(ApiError::MailOff);
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let hash = Hash::of(&body.token);
    let store = state.store();
    let Some(link) = store
        .find_link(LinkPurpose::VerifyEmail, &hash, now)
        .await?
    else {
        return Err(refuse_link(&state, &client_info).await);
    };
    match store.verify_email(&link, &hash, now).await? {
        Verified::Fine => {
            tracing::info!(user = link.user_id, "the email was verified");
            Ok(HttpResponse::NoContent().finish())
        }
        // No secret for the one who reads the mail of the address.
        Verified::EmailTaken => Err(ApiError::EmailTaken),
        Verified::Refused => Err(refuse_link(&state, &client_info).await),
    }
}
