//! `POST /register`: an account for whoever wants one, when the settings are open to that.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Deserialize;
use shared_claims::claims::Profile;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    config::Registration,
    cookies,
    credentials::{CredentialError, Password, Username},
    error::{ApiError, PROBLEM_TYPE, Problem},
    guard::{counters::Counter, limits::Limit},
    ids::random_id,
    mail::VERIFY_SECS,
    mail_request::new_link,
    new_password,
    sessions::{self, TokenAnswer},
    state::AppState,
    store::{Added, LoginProof, NewAccount},
    users,
};

/// Body of a registration. Nothing else of an account is theirs to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterBody {
    username: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
    name: Option<String>,
    given_name: Option<String>,
    family_name: Option<String>,
    email: Option<String>,
    /// Whether the refresh token is wanted as a cookie.
    #[serde(default)]
    cookie: bool,
}

impl Body for RegisterBody {
    const SHAPE: &str = "the body must hold a username and a password, may hold name, given_name, \
                         family_name, email, all text, and a cookie, true or false, and nothing \
                         else";
}

/// Makes an account.
///
/// Makes the account and answers as a login does.
///
/// A name that is taken is told to be, as it has to be where names are public; the limit of the address
/// bounds how many can be asked for. Where mail is sent, an email is not: it gets a link, and becomes the
/// account's when the link is followed.
#[utoipa::path(
    post,
    path = "/register",
    tag = "account",
    request_body(content = RegisterBody, content_type = "application/json"),
    responses(
        (status = 201, description = "the account, signed in", body = TokenAnswer),
        (status = 400, description = "no name and password", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "registration is closed, or the claims webhook refuses the login", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "the name or the email is taken", body = Problem, content_type = PROBLEM_TYPE),
        (status = 422, description = "the password cannot be one", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_register(
    request: HttpRequest,
    state: web::Data<AppState>,
    client_info: ClientInfo,
    Parsed(body): Parsed<RegisterBody>,
) -> Result<HttpResponse, ApiError> {
    let settings = state.settings();
    if settings.registration == Registration::Closed {
        return Err(ApiError::RegistrationClosed);
    }
    if body.cookie {
        cookies::require_listed_page(&request, state.origins())?;
    }
    let address = Counter::of_address(
        state.limits(),
        Limit::RegistrationsOfAddress,
        client_info.address,
    );
    let place = state.wait(address.key()).ok_or(ApiError::Overloaded)?;
    address.take(&state.counting()).await?;

    let parse = |error: CredentialError| ApiError::InvalidRequest(error.to_string().into());
    let username = Username::parse(&body.username).map_err(parse)?;
    let password = Password::parse(body.password).map_err(parse)?;
    let profile = Profile {
        preferred_username: None,
        name: body.name,
        given_name: body.given_name,
        family_name: body.family_name,
        email: body.email,
        email_verified: None,
    };
    let email = users::check_profile(&profile).map_err(parse)?;
    users::check_password(settings, &password, username.as_str(), &profile)
        .await
        .map_err(new_password::refuse)?;
    let account = NewAccount {
        id: random_id()?,
        skeleton: username.skeleton(),
        username: username.as_str().to_owned(),
        password_hash: state.users().hash(password).await?,
        profile,
        email,
        created_at: seconds_since_epoch(SystemTime::now())?,
    };
    let account = insert(&state, &client_info, account).await?;
    let found = state.users().find(&account.username).await?;
    let found = found.ok_or(ApiError::AccountUnavailable)?;
    let version = found.password_version;
    // Nothing waits for a password thread any more, and the claims webhook may take its time.
    drop(place);
    // The device of a new account is no news.
    let proof = LoginProof::PasswordAlone;
    let answer =
        sessions::start(&state, &found.account, version, &client_info, false, proof).await?;
    let answer = answer.ok_or(ApiError::AccountUnavailable)?;
    tracing::info!(user = account.id, "registered");
    let mut response = answer.into_response(body.cookie);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Writes the account. Where mail is sent, the address becomes the account's when its owner has followed
/// the link: nobody learns here whether another account has it, and nobody can keep it from its owner.
async fn insert(
    state: &AppState,
    client_info: &ClientInfo,
    mut account: NewAccount,
) -> Result<NewAccount, ApiError> {
    let added = match account.email.take_if(|_| state.mailer().is_some()) {
        Some(email) => {
            account.profile.email = None;
            let link = new_link(state, client_info, email, VERIFY_SECS).await?;
            state.store().register_account(&account, &link).await?
        }
        None => state.store().insert_account(&account).await?,
    };
    state.outbox().wake();
    match added {
        Added::Fine => Ok(account),
        Added::NameTaken => Err(ApiError::UsernameTaken),
        Added::EmailTaken => Err(ApiError::EmailTaken),
        Added::IdTaken => Err(anyhow::anyhow!("a random id was given before").into()),
    }
}
