//! `/v1/users`: the list of accounts, and new ones.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web,
};
use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use shared_claims::{claims::Profile, ids::is_identifier};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::caller::{Caller, Read, Write};
use crate::{
    body::{Body, Parsed},
    credentials::{CredentialError, Password, Username},
    error::{ApiError, PROBLEM_TYPE, Problem},
    state::AppState,
    store::{AccountPage, ManagedAccount},
    users::{self, ChangeError},
};

/// Number of accounts on a page, unless the request says otherwise.
const DEFAULT_LIMIT: i64 = 50;

/// The most accounts of a page.
const MAXIMUM_LIMIT: i64 = 500;

/// An account; its times are in seconds since the epoch.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountBody {
    /// The `sub` of its tokens.
    id: String,
    /// The name to sign in with.
    username: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Whether the email was verified; it comes with the email.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    /// Whether a login asks for a code.
    second_factor: bool,
    /// Number of passkeys.
    passkeys: i64,
    created_at: i64,
    /// When the account was shut, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<i64>,
}

impl AccountBody {
    pub(super) fn of(managed: &ManagedAccount) -> Self {
        let account = managed.account.clone();
        let email_verified = account.profile().email_verified;
        Self {
            id: account.id,
            username: account.username,
            name: account.name,
            given_name: account.given_name,
            family_name: account.family_name,
            email: account.email,
            email_verified,
            second_factor: managed.second_factor,
            passkeys: managed.passkeys,
            created_at: account.created_at,
            disabled_at: account.disabled_at,
        }
    }

    /// The entity tag (RFC 9110, section 8.8.3): of the whole account, so that any change shows.
    pub(super) fn tag(&self) -> Result<String, serde_json::Error> {
        let hash = digest(&SHA256, &serde_json::to_vec(self)?);
        Ok(format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash)))
    }

    /// Answers with the account and its tag.
    pub(super) fn answer(&self, mut response: HttpResponse) -> Result<HttpResponse, ApiError> {
        let tag = self.tag().context("an account is no JSON")?;
        let tag = HeaderValue::from_str(&tag).context("a tag is no header")?;
        response.headers_mut().insert(header::ETAG, tag);
        let body = serde_json::to_string(self).context("an account is no JSON")?;
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response.set_body(body).map_into_boxed_body())
    }
}

/// Filter of the accounts that are listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only accounts whose name, full name or email contains this text; ASCII letters match in
    /// capitals too.
    search: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Maximum number of accounts, 1 to 500; 50 if it is left out.
    limit: Option<i64>,
}

impl ListQuery {
    fn parse(request: &HttpRequest) -> Result<AccountPage, ApiError> {
        const RULE: &str = "the query may have a search of 1 to 255 bytes, a cursor that a page \
                            named, and a limit from 1 to 500";
        let refuse = || ApiError::InvalidRequest(RULE.into());
        let query = web::Query::<Self>::from_query(request.query_string()).map_err(|_| refuse())?;
        let Self {
            search,
            cursor,
            limit,
        } = query.into_inner();
        let after = cursor.map(|text| name_of_cursor(&text).ok_or_else(refuse));
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        let is_text = search.as_deref().is_none_or(is_identifier);
        if !(1..=MAXIMUM_LIMIT).contains(&limit) || !is_text {
            return Err(refuse());
        }
        Ok(AccountPage {
            search,
            after: after.transpose()?.unwrap_or_default(),
            limit,
        })
    }
}

fn name_of_cursor(cursor: &str) -> Option<String> {
    let name = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    is_identifier(&name).then_some(name)
}

/// One page of accounts, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountList {
    users: Vec<AccountBody>,
    /// The `cursor` of the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Lists accounts.
///
/// Answers the accounts by name, in pages.
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "users",
    security(("bearer" = ["users.read"])),
    params(ListQuery),
    responses(
        (status = 200, description = "a page of accounts", body = AccountList),
        (status = 400, description = "the query cannot be what it is", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn list_accounts(
    request: HttpRequest,
    caller: Caller<Read>,
) -> Result<HttpResponse, ApiError> {
    let mut page = ListQuery::parse(&request)?;
    let limit = usize::try_from(page.limit).context("a limit")?;
    // One more shows whether there is a next page.
    page.limit += 1;
    let found = caller.administration().list(&page).await.map_err(refuse)?;
    let users: Vec<AccountBody> = found.iter().take(limit).map(AccountBody::of).collect();
    let last = users.last().filter(|_| found.len() > limit);
    let next_cursor = last.map(|last| URL_SAFE_NO_PAD.encode(&last.username));
    Ok(HttpResponse::Ok().json(AccountList { users, next_cursor }))
}

/// An account that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccountBody {
    username: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
    name: Option<String>,
    given_name: Option<String>,
    family_name: Option<String>,
    email: Option<String>,
    /// Whether the caller vouches for the email.
    #[serde(default)]
    email_verified: bool,
}

impl Body for NewAccountBody {
    const SHAPE: &str = "the body must hold a username and a password, may hold name, given_name, \
                         family_name, email, all text, and email_verified, true or false, and \
                         nothing else";
}

/// Makes an account.
///
/// Answers the account, and its address in `Location`.
#[utoipa::path(
    post,
    path = "/v1/users",
    tag = "users",
    security(("bearer" = ["users.write"])),
    request_body(content = NewAccountBody, content_type = "application/json"),
    responses(
        (status = 201, description = "the account", body = AccountBody),
        (status = 400, description = "no name and password", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "the name or the email is taken", body = Problem, content_type = PROBLEM_TYPE),
        (status = 422, description = "the password cannot be one", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_account(
    state: web::Data<AppState>,
    caller: Caller<Write>,
    Parsed(body): Parsed<NewAccountBody>,
) -> Result<HttpResponse, ApiError> {
    let parse = |error: CredentialError| refuse(error.into());
    let username = Username::parse(&body.username).map_err(parse)?;
    let password = Password::parse(body.password).map_err(parse)?;
    let profile = Profile {
        preferred_username: None,
        name: body.name,
        given_name: body.given_name,
        family_name: body.family_name,
        email: body.email,
        email_verified: Some(body.email_verified),
    };
    users::check_profile(&profile).map_err(parse)?;
    users::check_password(state.settings(), &password, username.as_str(), &profile)
        .await
        .map_err(|error| match error {
            ChangeError::Credential(error) => ApiError::PasswordRefused(error.to_string().into()),
            error => refuse(error),
        })?;
    let hash = state.users().hash(password).await?;
    let administration = caller.administration();
    let added = administration.add(&username, profile, hash).await;
    let id = added.map_err(refuse)?;
    let account = administration.find(&id).await.map_err(refuse)?;
    let created = HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/users/{id}")))
        .finish();
    AccountBody::of(&account).answer(created)
}

/// The answer to a change that was refused.
pub(super) fn refuse(error: ChangeError) -> ApiError {
    match error {
        ChangeError::NameTaken(_) => ApiError::UsernameTaken,
        ChangeError::EmailTaken => ApiError::EmailTaken,
        ChangeError::NoSuchUser(_) => ApiError::UserNotFound,
        ChangeError::Changed => ApiError::PreconditionFailed,
        ChangeError::Credential(error) => ApiError::InvalidRequest(error.to_string().into()),
        ChangeError::Grants(error) => ApiError::InvalidRequest(error.to_string().into()),
        ChangeError::Claims(error) => ApiError::InvalidRequest(error.to_string().into()),
        ChangeError::Store(error) => error.into(),
        ChangeError::Other(error) => error.into(),
        error @ ChangeError::NoSecondFactor(_) => ApiError::Internal(error.into()),
    }
}
