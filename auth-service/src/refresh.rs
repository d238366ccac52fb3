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
    cookies,
    error::{ApiError, PROBLEM_TYPE, Problem},
    metrics::RefreshOutcome,
    sessions::{self, TokenAnswer},
    state::AppState,
    store::{EndReason, Refreshed},
    users::seconds_since_epoch,
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
                    cookies::require_listed_page(&request, state.settings())?;
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
        (status = 403, description = "a cookie from a page that is not listed", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_refresh(
    state: web::Data<AppState>,
    presented: Presented,
) -> Result<HttpResponse, ApiError> {
    let now = SystemTime::now();
    let answer = rotate(&state, &presented.token, LOGIN_CLIENT_ID, now).await;
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

/// Exchanges a refresh token that `client_id` presents.
///
/// The successor is derived from the token and a key of ours, so that whoever lost the answer gets
/// the same one by asking again, and no second one ever comes to life.
///
/// # Errors
///
/// [`ApiError::InvalidGrant`] when nobody has the token, or it was used before: then its session
/// ends, since somebody has a copy.
pub(crate) async fn rotate(
    state: &AppState,
    presented: &str,
    client_id: &str,
    now: SystemTime,
) -> Result<TokenAnswer, ApiError> {
    let mut successors: Vec<Zeroizing<String>> = state
        .ring()
        .vault
        .macs(Purpose::RefreshToken, presented.as_bytes())
        .iter()
        .map(|mac| Zeroizing::new(ids::token_from(mac)))
        .collect();
    let hashes: Vec<Hash> = successors.iter().map(|token| Hash::of(token)).collect();
    let settings = state.settings();
    let ending = sessions::ending(
        settings,
        EndReason::RefreshTokenReused,
        seconds_since_epoch(now)?,
    )?;
    let idle_secs = i64::try_from(settings.session.idle_secs).context("a lifetime")?;
    let refreshed = state
        .store()
        .rotate_refresh_token(&Hash::of(presented), client_id, &hashes, idle_secs, ending)
        .await?;
    match refreshed {
        Refreshed::Rotated { session, successor } => {
            state.metrics().refresh(RefreshOutcome::Rotated);
            let account = state
                .users()
                .find_active(&session.user_id)
                .await?
                .ok_or(ApiError::InvalidGrant)?;
            let token = successors.swap_remove(successor);
            sessions::answer(state, &account, &session, token, now).await
        }
        Refreshed::Reused(session) => {
            state.metrics().refresh(RefreshOutcome::Reused);
            tracing::warn!(
                user = session.user_id,
                session = session.id,
                "a spent refresh token came again; its session has been ended"
            );
            state.outbox().wake();
            Err(ApiError::InvalidGrant)
        }
        Refreshed::Refused => {
            state.metrics().refresh(RefreshOutcome::Refused);
            Err(ApiError::InvalidGrant)
        }
    }
}
