//! `POST /login`: a name and a password for a token.

use std::{pin::Pin, time::SystemTime};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, web};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    body::{self, BodyKind},
    error::ApiError,
    state::AppState,
    tokens::TokenIds,
    users::{AuthenticationError, credentials::Password},
};

/// What a client sends, as JSON or as a form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    username: String,
    password: Zeroizing<String>,
}

/// What a client gets (RFC 6749, section 5.1, but for the token's name, which is the tutorial's).
#[derive(Serialize)]
struct LoginAnswer<'a> {
    token: &'a str,
    token_type: &'static str,
    expires_in: u64,
}

/// A name and a password that are worth a hash.
pub struct Credentials {
    username: String,
    password: Password,
}

impl FromRequest for Credentials {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            let state = request
                .app_data::<web::Data<AppState>>()
                .context("the state is missing")?;
            let kind = body::kind_of(&request)?;
            let (limit, deadline) = (state.body_limit_bytes(), state.body_deadline());
            let body = body::read(&request, payload, limit, deadline).await?;
            Self::parse(kind, &body)
        })
    }
}

impl Credentials {
    fn parse(kind: BodyKind, body: &[u8]) -> Result<Self, ApiError> {
        let body = match kind {
            BodyKind::Json => from_json(body),
            BodyKind::Form => from_form(body),
        };
        // What serde says may repeat a piece of the password.
        let body = body.ok_or(ApiError::InvalidRequest(
            "the body must hold a username and a password, both text, and nothing else".into(),
        ))?;
        let password = Password::parse(body.password)
            .map_err(|error| ApiError::InvalidRequest(error.to_string().into()))?;
        Ok(Self {
            username: body.username,
            password,
        })
    }
}

fn from_json(body: &[u8]) -> Option<LoginBody> {
    // A struct would also be taken from an array.
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(body).ok())?
}

fn from_form(body: &[u8]) -> Option<LoginBody> {
    let text = str::from_utf8(body).ok()?;
    let parsed = web::Query::<LoginBody>::from_query(text).ok()?.into_inner();
    // Bytes that are no UTF-8 were replaced on the way, which would make passwords equal that are not.
    let is_replaced = parsed.password.contains(char::REPLACEMENT_CHARACTER);
    (!is_replaced).then_some(parsed)
}

/// Answers a token, or that name and password do not belong together.
pub(crate) async fn post_login(
    state: web::Data<AppState>,
    credentials: Credentials,
) -> Result<HttpResponse, ApiError> {
    let Credentials { username, password } = credentials;
    let account = state
        .users()
        .authenticate(&username, password)
        .await
        .map_err(refuse)?;
    let signer = state.signer();
    let token = signer.sign(
        &account.id,
        Some(account.profile()),
        TokenIds::random()?,
        SystemTime::now(),
    )?;
    tracing::info!(outcome = "success", user = account.id, "login");
    Ok(HttpResponse::Ok().json(LoginAnswer {
        token: &token,
        token_type: "Bearer",
        expires_in: signer.lifetime_secs(),
    }))
}

/// Logs the reason, by the account's id if there is one: what was typed as a name may be a
/// password. The visitor is told the same for all of them.
fn refuse(error: AuthenticationError) -> ApiError {
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
