//! `POST /token/refresh`: a refresh token for a new access token, and its successor.

use std::{pin::Pin, time::SystemTime};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, http::header, web};
use anyhow::Context as _;
use serde::Deserialize;
use shared_claims::{claims::LOGIN_CLIENT_ID, ids};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    body::{Body, BodyKind, Parsed},
    claims_webhook::Occasion,
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    cookies,
    error::{ApiError, PROBLEM_TYPE, Problem},
    guard::{counters::Counter, limits::Limit},
    metrics::RefreshOutcome,
    sessions::{self, TokenAnswer},
    state::AppState,
    store::{
        EndReason, Ending, Exchange, Exchanged, Refreshed, Rotation, Session, StoreError,
        TokenState,
    },
    vault::{Hash, Purpose},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshBody {
    /// The refresh token, unless it comes as a cookie.
    #[schema(value_type = String)]
    refresh_token: Zeroizing<String>,
}

impl Body for RefreshBody {
    const KINDS: &[BodyKind] = &[BodyKind::Json, BodyKind::Form];
    const SHAPE: &str = "the body must hold a refresh_token and nothing else";
}

/// A refresh token that came in the body, or in the cookie of a listed page.
pub(crate) struct Presented {
    token: Zeroizing<String>,
    is_cookie: bool,
}

impl FromRequest for Presented {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move {
            let cookie = cookies::refresh_token(request.headers())?;
            let has_body = request.headers().contains_key(header::CONTENT_TYPE);
            match cookie {
                Some(_) if has_body => Err(ApiError::InvalidRequest(
                    "there is more than one refresh token".into(),
                )),
                Some(token) => {
                    let state = request
                        .app_data::<web::Data<AppState>>()
                        .context("the state is missing")?;
                    cookies::require_listed_page(&request, state.origins())?;
                    Ok(Self {
                        token: token.into(),
                        is_cookie: true,
                    })
                }
                None if !has_body => Err(ApiError::InvalidRequest(
                    "there is no refresh token, neither as a cookie nor in the body".into(),
                )),
                None => {
                    let Parsed(body) =
                        Parsed::<RefreshBody>::from_request(&request, &mut payload).await?;
                    Ok(Self {
                        token: body.refresh_token,
                        is_cookie: false,
                    })
                }
            }
        })
    }
}

/// Refreshes a session: a refresh token for the next pair of tokens.
///
/// Answers a new access token and the next refresh token, the latter where this one came from.
#[utoipa::path(
    post,
    path = "/token/refresh",
    tag = "sessions",
    request_body(content((RefreshBody = "application/json"), (RefreshBody = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "the next tokens", body = TokenAnswer),
        (status = 400, description = "no refresh token, or more than one", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "the refresh token is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many tokens of this address were refused; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "a cookie from a page that is not listed, or the claims webhook refuses the refresh", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_refresh(
    state: web::Data<AppState>,
    client_info: ClientInfo,
    presented: Presented,
) -> Result<HttpResponse, ApiError> {
    let now = SystemTime::now();
    let answer = rotate(&state, &client_info, &presented.token, LOGIN_CLIENT_ID, now).await;
    match answer {
        Ok(answer) => Ok(answer.into_response(presented.is_cookie)),
        // A cookie that is worth nothing any more is taken back.
        Err(error @ ApiError::InvalidGrant) if presented.is_cookie => {
            let mut response = actix_web::ResponseError::error_response(&error);
            response
                .add_cookie(&cookies::no_refresh_cookie())
                .context("a cookie")?;
            Ok(response)
        }
        Err(error) => Err(error),
    }
}

/// Maximum number of tries of a rotation, when other requests replace the successor at the same time.
const MAXIMUM_ROUNDS: usize = 3;

/// Exchanges a refresh token that `client_id` presents.
///
/// The successor is derived from the token and a key of ours, so that whoever lost the answer gets
/// the same one by asking again, and no second one ever comes to life.
///
/// # Errors
///
/// [`ApiError::InvalidGrant`] when nobody has the token, or its successor was used: then its session
/// ends, since somebody has a copy. [`ApiError::RateLimited`] in place of it when too many tokens
/// from the address were refused.
pub(crate) async fn rotate(
    state: &AppState,
    client_info: &ClientInfo,
    presented: &str,
    client_id: &str,
    now: SystemTime,
) -> Result<TokenAnswer, ApiError> {
    let successor = successors(state, presented, 0);
    let successor = successor.into_iter().next().context("a key")?;
    let settings = state.settings();
    let now_secs = seconds_since_epoch(now)?;
    let token_secs = i64::try_from(settings.token.lifetime_secs).context("a lifetime")?;
    let exchange = Exchange {
        presented: Hash::of(presented),
        successor: Hash::of(&successor),
        client_id: client_id.to_owned(),
        address: client_info.address.to_string(),
        idle_secs: i64::try_from(settings.session.idle_secs).context("a lifetime")?,
        now: now_secs,
        token_expires_at: now_secs.saturating_add(token_secs),
    };
    match state.store().exchange_refresh_token(exchange).await? {
        Exchanged::Done(mut done) => {
            state.metrics().refresh(RefreshOutcome::Rotated);
            // The exchange is committed: a client whose refresh fails here repeats it.
            count_refresh(state, &done.account.id)?;
            done.account.claims = state.claims_of(&done.account, Occasion::Refresh).await?;
            sessions::answer(
                state,
                &done.account,
                &done.session,
                done.grants,
                successor,
                now,
            )
        }
        Exchanged::Refused => Err(refuse(state, client_info).await),
        Exchanged::Undecided => rotate_alone(state, client_info, presented, client_id, now).await,
    }
}

/// Counts a refresh for the account: each leaves a row, and one account must not fill the disk.
///
/// # Errors
///
/// [`ApiError::RateLimited`] when there were too many. The token that was presented stays good, as if the answer
/// had been lost.
fn count_refresh(state: &AppState, user_id: &str) -> Result<(), ApiError> {
    let counter = Counter::of_text(state.limits(), Limit::RefreshesOfAccount, user_id);
    Ok(counter.take_here(&state.counting())?)
}

/// Exchanges a refresh token in a transaction of its own, whether or not it was spent before.
async fn rotate_alone(
    state: &AppState,
    client_info: &ClientInfo,
    presented: &str,
    client_id: &str,
    now: SystemTime,
) -> Result<TokenAnswer, ApiError> {
    let now_secs = seconds_since_epoch(now)?;
    let settings = state.settings();
    let ending = Ending::new(settings, EndReason::RefreshTokenReused, now_secs)?;
    let (hash, address) = (Hash::of(presented), client_info.address.to_string());
    let store = state.store();
    for _ in 0..MAXIMUM_ROUNDS {
        let generation = store.find_successor_generation(&hash, client_id, now_secs);
        let Some(generation) = generation.await? else {
            return Err(refuse(state, client_info).await);
        };
        let mut successors = successors(state, presented, generation);
        let hashes: Vec<Hash> = successors.iter().map(|token| Hash::of(token)).collect();
        let replacement = self::successors(state, presented, generation.saturating_add(1));
        let replacement = replacement.into_iter().next().context("a key")?;
        let rotation = Rotation {
            presented: &hash,
            client_id,
            generation,
            successors: &hashes,
            replacement: &Hash::of(&replacement),
            idle_secs: i64::try_from(settings.session.idle_secs).context("a lifetime")?,
            retry_secs: i64::try_from(settings.session.retry_secs).context("a time")?,
            address: &address,
        };
        let (session, token) = match store.rotate_refresh_token(rotation, ending).await? {
            Refreshed::Rotated { session, successor } => {
                (session, successors.swap_remove(successor))
            }
            Refreshed::Reissued(session) => (session, replacement),
            Refreshed::Reused(session) => {
                report_reuse(state, &session.user_id, &session.id);
                state.outbox().wake();
                return Err(count_refusal(state, client_info).await);
            }
            Refreshed::Refused => {
                return Err(refuse(state, client_info).await);
            }
            Refreshed::Outdated => continue,
        };
        state.metrics().refresh(RefreshOutcome::Rotated);
        let account = state.users().find_active(&session.user_id).await?;
        let mut account = account.ok_or(ApiError::InvalidGrant)?;
        count_refresh(state, &account.id)?;
        account.claims = state.claims_of(&account, Occasion::Refresh).await?;
        let grants = store.list_grants(&account.id).await?;
        return sessions::answer(state, &account, &session, grants, token, now);
    }
    Err(ApiError::Overloaded)
}

/// Derives the successor of a token, in this generation, from each of our keys, the current key first.
/// Another generation is another token, which no other key and no other token leads to: no presented
/// token that we have issued holds a dot.
fn successors(state: &AppState, presented: &str, generation: i64) -> Vec<Zeroizing<String>> {
    let origin = Zeroizing::new(match generation {
        0 => presented.to_owned(),
        generation => format!("{presented}.{generation}"),
    });
    let macs = state
        .ring()
        .vault
        .macs(Purpose::RefreshToken, origin.as_bytes());
    let token = |mac| Zeroizing::new(ids::token_from(mac));
    macs.iter().map(token).collect()
}

/// Returns whether the successor of a spent token was used or replaced: then there are two who have the
/// token.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn is_successor_spent(
    state: &AppState,
    (session, spent): (&Session, &str),
    generation: i64,
    now: i64,
) -> Result<bool, StoreError> {
    for successor in successors(state, spent, generation) {
        let hash = Hash::of(&successor);
        match state.store().find_session_of_token(&hash, now).await? {
            Some((_, TokenState::Usable | TokenState::Expired)) => return Ok(false),
            Some((_, TokenState::Spent(_))) => return Ok(true),
            None => {}
        }
    }
    let store = state.store();
    Ok(!store
        .has_unused_successor(&Hash::of(spent), &session.id)
        .await?)
}

/// Logs and counts a spent refresh token that came again.
pub(crate) fn report_reuse(state: &AppState, user_id: &str, session_id: &str) {
    state.metrics().refresh(RefreshOutcome::Reused);
    tracing::warn!(
        user = user_id,
        session = session_id,
        "a spent refresh token came again; its session is ended"
    );
}

/// Notes that a token is refused.
async fn refuse(state: &AppState, client_info: &ClientInfo) -> ApiError {
    state.metrics().refresh(RefreshOutcome::Refused);
    count_refusal(state, client_info).await
}

/// Counts a token that is refused, for its address.
async fn count_refusal(state: &AppState, client_info: &ClientInfo) -> ApiError {
    let address = Counter::of_address(state.limits(), Limit::TokensOfAddress, client_info.address);
    let counted = address.take(&state.counting()).await;
    counted.err().map_or(ApiError::InvalidGrant, ApiError::from)
}
