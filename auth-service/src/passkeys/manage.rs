//! `GET /passkeys`, `POST /passkeys/{id}` and `POST /passkeys/{id}/remove`: one's own passkeys.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use shared_claims::ids::is_identifier;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{parse_name, relying_party};
use crate::{
    body::{Body, Parsed},
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    current_user::CurrentUser,
    device_proof::attempt_again,
    error::{ApiError, PROBLEM_TYPE, Problem},
    state::AppState,
};

/// The passkeys of an account.
#[derive(Serialize, ToSchema)]
pub(crate) struct PasskeyList<'a> {
    passkeys: Vec<Listed<'a>>,
}

/// A passkey; its times are in seconds since the epoch.
#[derive(Serialize, ToSchema)]
pub(crate) struct Listed<'a> {
    /// The identifier in the paths of the passkey.
    id: &'a str,
    /// The name that its owner gave it.
    name: &'a str,
    /// The time of the enrolment.
    created_at: i64,
    /// The time of the last login with it; null before the first one.
    used_at: Option<i64>,
}

impl<'a> Listed<'a> {
    /// A passkey that nobody has signed in with.
    pub(super) fn new(id: &'a str, name: &'a str, created_at: i64) -> Self {
        Self {
            id,
            name,
            created_at,
            used_at: None,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameBody {
    /// The name of the passkey from now on, 1 to 64 characters.
    name: String,
}

impl Body for NameBody {
    const SHAPE: &str = "the body must hold a name, a text, and nothing else";
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemovalBody {
    /// The password, as proof that it is not a stolen token that asks.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
    /// The `device_token` of an earlier login, unless it comes as a cookie.
    device_token: Option<String>,
}

impl Body for RemovalBody {
    const SHAPE: &str = "the body must hold the password, may hold a device_token, both text, \
                         and nothing else";
}

/// Lists one's own passkeys.
///
/// Answers the passkeys of the token's owner, the oldest first.
#[utoipa::path(
    get,
    path = "/passkeys",
    tag = "passkeys",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "the passkeys", body = PasskeyList),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "the service takes no passkeys", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn list_passkeys(
    state: web::Data<AppState>,
    current_user: CurrentUser,
) -> Result<HttpResponse, ApiError> {
    relying_party(&state)?;
    let found = state
        .store()
        .list_passkeys(&current_user.account.id)
        .await?;
    let passkeys = found.iter().map(|passkey| Listed {
        id: &passkey.id,
        name: &passkey.name,
        created_at: passkey.created_at,
        used_at: passkey.used_at,
    });
    Ok(HttpResponse::Ok().json(PasskeyList {
        passkeys: passkeys.collect(),
    }))
}

/// Renames a passkey.
///
/// Gives one of one's own passkeys another name.
#[utoipa::path(
    post,
    path = "/passkeys/{id}",
    tag = "passkeys",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "the passkey")),
    request_body(content = NameBody, content_type = "application/json"),
    responses(
        (status = 204, description = "the passkey has the name"),
        (status = 400, description = "no name", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "none of the own passkeys", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn rename_passkey(
    state: web::Data<AppState>,
    current_user: CurrentUser,
    id: web::Path<String>,
    Parsed(body): Parsed<NameBody>,
) -> Result<HttpResponse, ApiError> {
    let name = parse_name(&body.name)?;
    let owner = &current_user.account.id;
    // PostgreSQL takes no NUL in a text, and no passkey has such an id.
    let renamed = is_identifier(&id) && state.store().rename_passkey(owner, &id, name).await?;
    done(renamed)
}

/// Removes a passkey.
///
/// Removes one of one's own passkeys. It signs nobody in any more; its sessions go on.
#[utoipa::path(
    post,
    path = "/passkeys/{id}/remove",
    tag = "passkeys",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "the passkey")),
    request_body(content = RemovalBody, content_type = "application/json"),
    responses(
        (status = 204, description = "the passkey is removed"),
        (status = 401, description = "no token, or the wrong password", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "none of the own passkeys", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many attempts; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "too many passwords at once, or no database; `Retry-After` says when to come back", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn remove_passkey(
    request: HttpRequest,
    state: web::Data<AppState>,
    current_user: CurrentUser,
    client_info: ClientInfo,
    id: web::Path<String>,
    Parsed(body): Parsed<RemovalBody>,
) -> Result<HttpResponse, ApiError> {
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
    attempt.judge(&state.judge()).await?;
    let owner = &current_user.account.id;
    done(is_identifier(&id) && state.store().delete_passkey(owner, &id, now).await?)
}

fn done(found: bool) -> Result<HttpResponse, ApiError> {
    if found {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::PasskeyNotFound)
    }
}
