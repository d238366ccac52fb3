//! `POST /login/passkey/options` and `POST /login/passkey`: a login with a passkey.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    ceremony,
    enrolment::{Options, no_credential, refuse},
    relying_party,
};
use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    cookies,
    device_proof::known_device,
    error::{ApiError, PROBLEM_TYPE, Problem},
    guard::{address_count::AddressCount, counters::Counter, devices::KnownDevice, limits::Limit},
    metrics::LoginOutcome,
    second_factor::CHALLENGE_ATTEMPTS,
    sessions::{self, TokenAnswer},
    state::AppState,
    store::{LoginProof, Passkey, UsedPasskey},
    users::MAXIMUM_JUDGEMENTS,
    vault::Hash,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeyLoginBody {
    /// The state that came with the options.
    state: String,
    /// The answer of the browser: the `toJSON()` of its credential.
    #[schema(value_type = Object)]
    credential: Value,
    /// The challenge of a `POST /login` whose password was right: the passkey stands for the code.
    #[schema(value_type = Option<String>)]
    challenge: Option<Zeroizing<String>>,
    /// Whether the refresh token is wanted as a cookie.
    #[serde(default)]
    cookie: bool,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for PasskeyLoginBody {
    const SHAPE: &str = "the body must hold a state, a text, and a credential, an object, may hold a \
                         challenge and a device_token, both text, and a cookie, true or false, \
                         and nothing else";
}

/// Starts a login with a passkey.
///
/// Answers the options for `navigator.credentials.get`, the same for everybody. They are good for five
/// minutes.
#[utoipa::path(
    post,
    path = "/login/passkey/options",
    tag = "passkeys",
    responses(
        (status = 200, description = "the options, and the state of the ceremony", body = Options),
        (status = 404, description = "the service takes no passkeys", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_login_options(
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let party = relying_party(&state)?;
    let started = ceremony::start_login(&party, &state.ring().vault)?;
    Ok(HttpResponse::Ok().json(Options::of(started)))
}

/// Signs somebody in with a passkey.
///
/// Answers what a login answers, for a passkey alone, or for a passkey and the challenge of a login.
#[utoipa::path(
    post,
    path = "/login/passkey",
    tag = "passkeys",
    request_body(content = PasskeyLoginBody, content_type = "application/json"),
    responses(
        (status = 200, description = "a session, and its tokens", body = TokenAnswer),
        (status = 400, description = "no state and credential", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "the passkey or the challenge is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "a cookie for a page that is not listed, or the claims webhook refuses the login", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service takes no passkeys", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_login_passkey(
    request: HttpRequest,
    state: web::Data<AppState>,
    client_info: ClientInfo,
    Parsed(body): Parsed<PasskeyLoginBody>,
) -> Result<HttpResponse, ApiError> {
    if body.cookie {
        cookies::require_listed_page(&request, state.origins())?;
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let proof = body.device_token.clone();
    let device = known_device(&state, &request, proof, now);
    let device = device.as_ref();
    let counting = state.counting();
    let mut address = AddressCount::begin(&counting, client_info.address, device.is_some())?;
    let sender = (&client_info, device);
    let outcome = Box::pin(answer(&state, sender, &mut address, &body, now)).await;
    let is_failure = matches!(
        outcome,
        Err(ApiError::PasskeyRefused | ApiError::RateLimited { .. })
    );
    address.settle(&counting, is_failure).await?;
    let (user_id, answer) = outcome?;
    let outcome = LoginOutcome::Success;
    state.metrics().login(outcome);
    tracing::info!(
        outcome = outcome.name(),
        user = user_id,
        "login with a passkey"
    );
    Ok(answer.into_response(body.cookie))
}

/// Starts the session that a passkey stands for. Returns the account's id with it.
async fn answer(
    state: &AppState,
    (client_info, device): (&ClientInfo, Option<&KnownDevice>),
    address: &mut AddressCount,
    body: &PasskeyLoginBody,
    now: i64,
) -> Result<(String, TokenAnswer), ApiError> {
    let party = relying_party(state)?;
    let credential = ceremony::parse_assertion(&body.credential).ok_or_else(no_credential)?;
    let store = state.store();
    let found = store.find_passkey(credential.raw_id().inner()).await?;
    let passkey = found.ok_or(ApiError::PasskeyRefused)?;
    let counting = state.counting();
    let is_own = device.is_some_and(|device| device.user_id == passkey.user_id);
    address.decide(&counting, is_own)?;
    let right_logins = Counter::of_right_logins(state.limits(), &passkey.user_id);
    right_logins.require_room_here(&counting)?;
    // Counted for the passkey and not for its account: whoever knows the identifier of a credential
    // must not shut the account's codes.
    let counter = Counter::of_text(state.limits(), Limit::CodesOfAccount, &passkey.id);
    let taken = counter.take(&counting).await?;
    let ring = state.ring();
    let verified = ceremony::finish_login(&party, &ring.vault, &body.state, &credential, &passkey);
    let verified = verified.map_err(|refusal| refuse(&passkey.user_id, &refusal))?;
    let version = match &body.challenge {
        Some(challenge) => Some(meet(state, challenge, &passkey, now).await?),
        None => None,
    };
    if store.is_challenge_spent(verified.challenge).await? {
        return Err(ApiError::PasskeyRefused);
    }
    // The answer is right, also if its client does not wait for the session.
    counter.give_back(&counting, taken).await;
    right_logins.take_here(&counting)?;
    let challenge = body.challenge.as_ref().map(|text| Hash::of(text));
    let proof = LoginProof::Passkey {
        used: UsedPasskey {
            id: &passkey.id,
            state: &passkey.state,
            next_state: &verified.next_state,
            challenge: verified.challenge,
        },
        challenge: challenge.as_ref(),
    };
    let answer = start(state, client_info, &passkey, (version, proof), device).await?;
    Ok((passkey.user_id.clone(), answer))
}

/// Counts an attempt at the challenge of a login whose password was right, and returns the number of
/// that password.
async fn meet(
    state: &AppState,
    challenge: &str,
    passkey: &Passkey,
    now: i64,
) -> Result<i64, ApiError> {
    let challenge = Hash::of(challenge);
    let store = state.store();
    // Counting an attempt takes the writer, which a challenge that nobody has must not.
    if !store.is_challenge_open(&challenge, now).await? {
        return Err(ApiError::PasskeyRefused);
    }
    let challenged = store.try_challenge(&challenge, CHALLENGE_ATTEMPTS, now);
    let challenged = challenged.await?.ok_or(ApiError::PasskeyRefused)?;
    if challenged.user_id != passkey.user_id {
        return Err(ApiError::PasskeyRefused);
    }
    Ok(challenged.password_version)
}

/// Starts the session of a passkey's owner, who has proved the password of a version too, if there is one.
/// The proof is spent with it: of two answers that are right at once, one starts a session.
async fn start(
    state: &AppState,
    client_info: &ClientInfo,
    passkey: &Passkey,
    (version, proof): (Option<i64>, LoginProof<'_>),
    device: Option<&KnownDevice>,
) -> Result<TokenAnswer, ApiError> {
    for _ in 0..MAXIMUM_JUDGEMENTS {
        let account = state.users().find_active(&passkey.user_id).await?;
        let account = account.ok_or(ApiError::PasskeyRefused)?;
        let current = state.store().find_login_requirements(&account.id).await?;
        let current = current.password_version.ok_or(ApiError::PasskeyRefused)?;
        let is_new = !device.is_some_and(|device| device.is_of(&account));
        let version = version.unwrap_or(current);
        let started = sessions::start(state, &account, version, client_info, is_new, proof);
        if let Some(answer) = started.await? {
            return Ok(answer);
        }
        if version != current {
            // The password has been changed since, so the first half of the login counts for nothing.
            return Err(ApiError::InvalidCredentials);
        }
    }
    Err(ApiError::Overloaded)
}
