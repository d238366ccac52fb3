//! Sessions: what a login starts.

use std::time::SystemTime;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use shared_claims::claims::{LOGIN_CLIENT_ID, REALTIME_AUDIENCE};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    error::ApiError,
    state::AppState,
    store::{Account, AccountWithHash, NewSession, Session},
    tokens::{NewToken, random_id, random_token},
    users::seconds_since_epoch,
    vault::Hash,
    visitor::Visitor,
};

/// What a client gets (RFC 6749, section 5.1, but for the token's name, which is the tutorial's).
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenAnswer {
    /// The access token.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
    /// Always `Bearer`.
    token_type: &'static str,
    /// How long the access token is accepted, in seconds.
    expires_in: u64,
    /// What the next access token is got with, once.
    #[schema(value_type = String)]
    refresh_token: Zeroizing<String>,
}

/// Starts a session for somebody who has proved who they are.
///
/// # Errors
///
/// [`ApiError::InvalidCredentials`] when the account was shut or its password changed meanwhile.
pub(crate) async fn start(
    state: &AppState,
    account: &AccountWithHash,
    visitor: &Visitor,
) -> Result<TokenAnswer, ApiError> {
    let now = SystemTime::now();
    let now_secs = seconds_since_epoch(now)?;
    let settings = &state.settings().session;
    let absolute_secs = i64::try_from(settings.absolute_secs).context("a lifetime")?;
    let idle_secs = i64::try_from(settings.idle_secs).context("a lifetime")?;
    let session = Session {
        id: random_id()?,
        user_id: account.account.id.clone(),
        client_id: LOGIN_CLIENT_ID.to_owned(),
        created_at: now_secs,
        used_at: now_secs,
        expires_at: now_secs.saturating_add(absolute_secs),
        device: visitor.device.clone(),
        address: visitor.address.to_string(),
    };
    let refresh_token = random_token()?;
    let new = NewSession {
        session: &session,
        password_hash: &account.password_hash,
        refresh_token: &Hash::of(&refresh_token),
        refresh_expires_at: session.expires_at.min(now_secs.saturating_add(idle_secs)),
        detail: json!({"address": session.address, "device": session.device}),
    };
    if !state.store().insert_session(&new).await? {
        return Err(ApiError::InvalidCredentials);
    }
    answer(state, &account.account, &session, refresh_token, now)
}

/// An access token of `session` for its owner, with the refresh token that goes with it.
fn answer(
    state: &AppState,
    account: &Account,
    session: &Session,
    refresh_token: Zeroizing<String>,
    now: SystemTime,
) -> Result<TokenAnswer, ApiError> {
    let signer = state.signer();
    let token = NewToken {
        subject: &account.id,
        audience: REALTIME_AUDIENCE,
        client_id: &session.client_id,
        session_id: &session.id,
        scope: None,
        authorization_details: Vec::new(),
        profile: Some(account.profile()),
    };
    Ok(TokenAnswer {
        token: signer.sign(token, now)?,
        token_type: "Bearer",
        expires_in: signer.lifetime_secs(),
        refresh_token,
    })
}
