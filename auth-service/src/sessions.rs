//! Sessions: what a login starts, and what their owner can see and end.

use std::time::SystemTime;

use actix_web::{HttpResponse, web};
use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use shared_claims::{
    authorization::AuthorizationDetail,
    claims::{LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    ids::is_identifier,
};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    claims_webhook::Occasion,
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    cookies::{self, DEVICE_COOKIE, REFRESH_COOKIE},
    current_user::CurrentUser,
    error::{ApiError, PROBLEM_TYPE, Problem},
    guard::devices::{self, KnownDevice},
    ids::{random_id, random_token},
    state::AppState,
    store::{
        Account, EndReason, Ending, LoginProof, NewSession, Session, SessionFilter, SessionStarted,
    },
    tokens::NewToken,
    users::grants,
    vault::Hash,
};

/// Tokens of a client (RFC 6749, section 5.1, but for the token's name, which is the tutorial's).
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenAnswer {
    /// The access token.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Time for which the access token is accepted, in seconds.
    expires_in: u64,
    /// Token for the next access token, good once; in a cookie if that was asked for.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Zeroizing<String>>,
    /// The proof that this device has signed in, after a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_token: Option<String>,
    /// Lifetime of the refresh token's cookie, in seconds.
    #[serde(skip)]
    cookie_secs: i64,
}

impl TokenAnswer {
    /// The answer, with what is to be kept in the body, or in cookies for a page.
    pub(crate) fn into_response(mut self, in_cookies: bool) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        let private = cookies::private_cookie;
        if let Some(token) = self.refresh_token.take_if(|_| in_cookies) {
            response.cookie(private(REFRESH_COOKIE, &token, self.cookie_secs));
        }
        if let Some(token) = self.device_token.take_if(|_| in_cookies) {
            response.cookie(private(DEVICE_COOKIE, &token, devices::MEMORY_SECS));
        }
        response.json(self)
    }

    /// The answer in the names of RFC 6749 (section 5.1).
    pub(crate) fn as_oauth(&self) -> serde_json::Value {
        json!({
            "access_token": self.token.as_str(),
            "token_type": self.token_type,
            "expires_in": self.expires_in,
            "refresh_token": self.refresh_token.as_ref().map(|token| token.as_str()),
        })
    }
}

/// Starts a session for somebody who has proved the password of this version, on a device that has
/// signed in to the account before or on a new one, and spends the further proof. Returns `None` when the
/// password has been changed since, or the account disabled. Without a session, nothing is spent. The
/// sessions that exceed `limits.sessions_per_account` end, those that were used longest ago.
///
/// # Errors
///
/// When the claims webhook refuses the login, when a part of the proof was spent before, when the token would
/// be too long, and when the webhook, the database, the clock or the signer fails.
pub(crate) async fn start(
    state: &AppState,
    owner: &Account,
    password_version: i64,
    client_info: &ClientInfo,
    is_new_device: bool,
    proof: LoginProof<'_>,
) -> Result<Option<TokenAnswer>, ApiError> {
    // Before there is a session, which a refused login does not have.
    let claims = state.claims_of(owner, Occasion::Login).await?;
    let owner = &Account {
        claims,
        ..owner.clone()
    };
    let now = SystemTime::now();
    let now_secs = seconds_since_epoch(now)?;
    let settings = &state.settings().session;
    let absolute_secs = i64::try_from(settings.absolute_secs).context("a lifetime")?;
    let idle_secs = i64::try_from(settings.idle_secs).context("a lifetime")?;
    let session = Session {
        id: random_id()?,
        user_id: owner.id.clone(),
        client_id: LOGIN_CLIENT_ID.to_owned(),
        created_at: now_secs,
        used_at: now_secs,
        expires_at: now_secs.saturating_add(absolute_secs),
        device: client_info.device.clone(),
        address: client_info.address.to_string(),
    };
    let refresh_token = random_token()?;
    let refresh_hash = Hash::of(&refresh_token);
    // Signed first: a token that is too long has no session.
    let grants = state.store().list_grants(&owner.id).await?;
    let mut answer = answer(state, owner, &session, grants, refresh_token, now)?;
    let device_token =
        KnownDevice::prove(&state.ring().vault, (&owner.id, password_version), now_secs)?;
    answer.device_token = Some(device_token);
    let new = NewSession {
        session: &session,
        password_version,
        refresh_token: &refresh_hash,
        refresh_expires_at: session.expires_at.min(now_secs.saturating_add(idle_secs)),
        most_sessions: state.settings().limits.sessions_per_account,
        ending: Ending::new(state.settings(), EndReason::SessionLimit, now_secs)?,
        detail: json!({
            "address": session.address,
            "device": session.device,
            "new_device": is_new_device,
        }),
    };
    match (state.store().insert_session(&new, proof).await?, proof) {
        (SessionStarted::Fine, _) => Ok(Some(answer)),
        (SessionStarted::InPlaceOfOthers, _) => {
            state.outbox().wake();
            Ok(Some(answer))
        }
        (SessionStarted::AccountChanged, _) => Ok(None),
        (SessionStarted::ProofSpent, LoginProof::Passkey { .. }) => Err(ApiError::PasskeyRefused),
        (SessionStarted::ProofSpent, _) => Err(ApiError::CodeRefused),
    }
}

/// Returns an access token of `session` for its owner, with the owner's claims and these grants, and the
/// refresh token.
///
/// # Errors
///
/// When the clock or the signer fails.
pub(crate) fn answer(
    state: &AppState,
    account: &Account,
    session: &Session,
    own_grants: Vec<AuthorizationDetail>,
    refresh_token: Zeroizing<String>,
    now: SystemTime,
) -> Result<TokenAnswer, ApiError> {
    let now_secs = seconds_since_epoch(now)?;
    let idle_secs = i64::try_from(state.settings().session.idle_secs).context("a lifetime")?;
    // None outlives its session, which ends when nobody refreshes it.
    let ends_at = session.expires_at.min(now_secs.saturating_add(idle_secs));
    let everybody = state.settings().grants.iter();
    let everybody = everybody.map(AuthorizationDetail::from).collect();
    let token = NewToken {
        subject: &account.id,
        audience: REALTIME_AUDIENCE,
        client_id: &session.client_id,
        session_id: &session.id,
        scope: None,
        authorization_details: grants::merge(everybody, own_grants),
        profile: Some(account.profile()),
        further: account.claims.in_token(&state.settings().token),
        expires_by: u64::try_from(ends_at).ok(),
    };
    let signed = state.ring().signer.sign(token, now)?;
    Ok(TokenAnswer {
        token: signed.token,
        token_type: "Bearer",
        expires_in: signed.expires_in,
        refresh_token: Some(refresh_token),
        device_token: None,
        cookie_secs: ends_at.saturating_sub(now_secs),
    })
}

/// Where one is signed in.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionList<'a> {
    sessions: Vec<Listed<'a>>,
}

/// One session; its times are in seconds since the epoch.
#[derive(Serialize, ToSchema)]
pub(crate) struct Listed<'a> {
    /// The `sid` of its tokens.
    id: &'a str,
    /// Name that the device gives itself.
    device: &'a str,
    /// The address of the last login or refresh.
    address: &'a str,
    /// The login.
    created_at: i64,
    /// The last login or refresh.
    used_at: i64,
    /// The end that no refresh moves.
    expires_at: i64,
    /// Whether it is the one of the token.
    current: bool,
}

/// Lists where one is signed in.
///
/// `GET /sessions`: where one is signed in.
#[utoipa::path(
    get,
    path = "/sessions",
    tag = "sessions",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "the sessions, the last used first", body = SessionList),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn list_sessions(
    state: web::Data<AppState>,
    current_user: CurrentUser,
) -> Result<HttpResponse, ApiError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let owner = &current_user.account.id;
    let sessions = state.store().list_live_sessions(owner, now).await?;
    let listed: Vec<Listed> = sessions
        .iter()
        .map(|session| Listed {
            id: &session.id,
            device: &session.device,
            address: &session.address,
            created_at: session.created_at,
            used_at: session.used_at,
            expires_at: session.expires_at,
            current: session.id == current_user.session_id,
        })
        .collect();
    Ok(HttpResponse::Ok().json(SessionList { sessions: listed }))
}

/// Ends one of the own sessions.
///
/// `DELETE /sessions/{id}`: ends one of one's own sessions; another's is not found.
#[utoipa::path(
    delete,
    path = "/sessions/{id}",
    tag = "sessions",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "the session")),
    responses(
        (status = 204, description = "the session has ended"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "none of the own sessions", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn delete_session(
    state: web::Data<AppState>,
    current_user: CurrentUser,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    // A text that can be no identifier is no session's, and PostgreSQL takes no NUL in a text.
    if !is_identifier(&id) {
        return Err(ApiError::NotFound);
    }
    match end(&state, &current_user, SessionFilter::One(&id)).await? {
        0 => Err(ApiError::NotFound),
        _ => Ok(HttpResponse::NoContent().finish()),
    }
}

/// Ends the session of the token.
///
/// `POST /logout`: ends the session of the token.
#[utoipa::path(
    post,
    path = "/logout",
    tag = "sessions",
    security(("bearer" = [])),
    responses(
        (status = 204, description = "the session has ended"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_logout(
    state: web::Data<AppState>,
    current_user: CurrentUser,
) -> Result<HttpResponse, ApiError> {
    end(
        &state,
        &current_user,
        SessionFilter::One(&current_user.session_id),
    )
    .await?;
    Ok(signed_out())
}

/// Ends all sessions of the owner of the token.
///
/// `POST /logout/all`: ends all sessions of the token's owner.
#[utoipa::path(
    post,
    path = "/logout/all",
    tag = "sessions",
    security(("bearer" = [])),
    responses(
        (status = 204, description = "the sessions have ended"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_logout_all(
    state: web::Data<AppState>,
    current_user: CurrentUser,
) -> Result<HttpResponse, ApiError> {
    end(&state, &current_user, SessionFilter::All).await?;
    Ok(signed_out())
}

/// The answer that takes the cookie back, if there was one.
fn signed_out() -> HttpResponse {
    HttpResponse::NoContent()
        .cookie(cookies::no_refresh_cookie())
        .finish()
}

/// Ends sessions of somebody at their own wish, tells the gateways, and says how many they were.
async fn end(
    state: &AppState,
    current_user: &CurrentUser,
    which: SessionFilter<'_>,
) -> Result<usize, ApiError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let ending = Ending::new(state.settings(), EndReason::LoggedOut, now)?;
    let owner = &current_user.account.id;
    let ended = state.store().end_sessions(owner, which, ending).await?;
    state.outbox().wake();
    Ok(ended.len())
}
