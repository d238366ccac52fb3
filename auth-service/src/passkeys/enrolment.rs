//! `POST /passkeys/options` and `POST /passkeys`: a passkey for somebody who is signed in.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use webauthn_rp::response::register::Registration;
use zeroize::Zeroizing;

use super::{MAXIMUM_PASSKEYS, ceremony, manage::Listed, parse_name, relying_party};
use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    current_user::CurrentUser,
    device_proof::attempt_again,
    error::{ApiError, PROBLEM_TYPE, Problem},
    guard::{counters::Counter, limits::Limit},
    ids::random_id,
    second_factor,
    state::AppState,
    store::{LoginRequirements, NewPasskey, PasskeyAdded},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrolmentBody {
    /// The password, as proof that it is not a stolen token that asks.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
    /// A code of the second factor, or a recovery code; needed if the account has a second factor.
    #[schema(value_type = Option<String>)]
    code: Option<Zeroizing<String>>,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for EnrolmentBody {
    const SHAPE: &str = "the body must hold the password, may hold a code and a device_token, \
                         all text, and nothing else";
}

/// The call that a page makes for a ceremony.
#[derive(Serialize, ToSchema)]
pub(crate) struct Options {
    /// The argument of the browser's call, as `PublicKeyCredential.parseCreationOptionsFromJSON` or
    /// `parseRequestOptionsFromJSON` takes it.
    #[schema(value_type = Object)]
    options: Value,
    /// The state of the ceremony, which is returned with the answer.
    state: String,
}

impl Options {
    pub(super) fn of(started: ceremony::Started) -> Self {
        Self {
            options: started.options,
            state: started.state,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeyBody {
    /// The state that came with the options.
    state: String,
    /// The name of the passkey in the owner's list, 1 to 64 characters.
    name: String,
    /// The answer of the browser: the `toJSON()` of its credential.
    #[schema(value_type = Object)]
    credential: Value,
}

impl Body for PasskeyBody {
    const SHAPE: &str = "the body must hold a state and a name, both text, and a credential, \
                         an object, and nothing else";
}

/// Starts to enrol a passkey.
///
/// Answers the options for `navigator.credentials.create`. They are good for five minutes.
#[utoipa::path(
    post,
    path = "/passkeys/options",
    tag = "passkeys",
    security(("bearer" = [])),
    request_body(content = EnrolmentBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the options, and the state of the ceremony", body = Options),
        (status = 401, description = "no token, the wrong password, or a wrong or missing code", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service takes no passkeys", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_enrolment_options(
    request: HttpRequest,
    state: web::Data<AppState>,
    current_user: CurrentUser,
    client_info: ClientInfo,
    Parsed(body): Parsed<EnrolmentBody>,
) -> Result<HttpResponse, ApiError> {
    let party = relying_party(&state)?;
    let now = seconds_since_epoch(SystemTime::now())?;
    let attempt = attempt_again(
        &state,
        &request,
        &client_info,
        &current_user,
        body.password,
        body.device_token,
    )
    .await?;
    let judged = attempt.judge(&state.judge()).await?;
    let account = &current_user.account;
    // A passkey signs in without a code, so whoever adds one needs a code.
    if judged.has_second_factor {
        let code = body.code.ok_or(ApiError::CodeRefused)?;
        second_factor::use_code(&state, &account.id, &code, now).await?;
    }
    let present = state.store().list_passkeys(&account.id).await?;
    let ring = state.ring();
    let shown = LoginRequirements {
        password_version: Some(judged.password_version),
        has_second_factor: judged.has_second_factor,
    };
    let started = ceremony::start_enrolment(&party, &ring.vault, account, shown, &present)?;
    Ok(HttpResponse::Ok().json(Options::of(started)))
}

/// Enrols a passkey.
///
/// Verifies the answer of `navigator.credentials.create`, and keeps the public key.
#[utoipa::path(
    post,
    path = "/passkeys",
    tag = "passkeys",
    security(("bearer" = [])),
    request_body(content = PasskeyBody, content_type = "application/json"),
    responses(
        (status = 201, description = "the passkey", body = Listed),
        (status = 400, description = "no state, name and credential", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or the answer is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service takes no passkeys", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "an account has this credential, or the own account has 20", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many answers of the account were not accepted; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn post_passkey(
    state: web::Data<AppState>,
    current_user: CurrentUser,
    Parsed(body): Parsed<PasskeyBody>,
) -> Result<HttpResponse, ApiError> {
    let party = relying_party(&state)?;
    let name = parse_name(&body.name)?;
    let answer = Registration::from_json_relaxed(body.credential.to_string().as_bytes());
    let answer = answer.map_err(|_| no_credential())?;
    let user_id = &current_user.account.id;
    // Counted apart from the codes of a login, which nobody shuts by enrolments.
    let name_of_counter = format!("enrolments\0{user_id}");
    let counter = Counter::of_text(state.limits(), Limit::CodesOfAccount, &name_of_counter);
    let counting = state.counting();
    let taken = counter.take(&counting).await?;
    let ring = state.ring();
    let needed = state.store().find_login_requirements(user_id).await?;
    let sealed = &body.state;
    let enrolled =
        ceremony::finish_enrolment(&party, &ring.vault, user_id, needed, sealed, &answer);
    let enrolled = enrolled.map_err(|refusal| refuse(user_id, &refusal))?;
    counter.give_back(&counting, taken).await;
    let id = random_id()?;
    let new = NewPasskey {
        id: &id,
        credential_id: &enrolled.credential_id,
        user_id,
        requirements: needed,
        name,
        transports: enrolled.transports,
        public_key: &enrolled.public_key,
        state: &enrolled.state,
    };
    let now = seconds_since_epoch(SystemTime::now())?;
    let store = state.store();
    let added = store.insert_passkey(&new, enrolled.challenge, MAXIMUM_PASSKEYS, now);
    match added.await? {
        PasskeyAdded::Fine => Ok(HttpResponse::Created().json(Listed::new(&id, name, now))),
        PasskeyAdded::Refused => Err(ApiError::PasskeyRefused),
        PasskeyAdded::Taken => Err(ApiError::PasskeyConflict(
            "an account has this passkey already",
        )),
        PasskeyAdded::TooMany => Err(ApiError::PasskeyConflict(
            "the account has 20 passkeys; remove one first",
        )),
    }
}

/// Returns the error for a credential that has not the shape of one. The library's words may repeat what
/// was sent.
pub(super) fn no_credential() -> ApiError {
    ApiError::InvalidRequest("the credential is not the JSON of a browser's credential".into())
}

/// Logs the reason of a refusal, and returns the error that does not tell it.
pub(super) fn refuse(user_id: &str, refusal: &ceremony::Refusal) -> ApiError {
    tracing::info!(user = user_id, reason = %refusal, "passkey refused");
    ApiError::PasskeyRefused
}
