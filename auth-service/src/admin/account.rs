//! `/v1/users/{id}`: one account, and what an operator does with it.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::{Deserialize, Deserializer, Serialize};
use shared_claims::authorization::Action;
use utoipa::ToSchema;

use super::{
    caller::{Caller, Read, Write},
    users::{AccountBody, refuse},
};
use crate::{
    body::{Body, Parsed},
    error::{ApiError, PROBLEM_TYPE, Problem},
    state::AppState,
    store::{ManagedAccount, NewGrant},
    users::ProfileEdit,
};

/// Shows an account.
///
/// Answers the account with an `ETag` for a later change.
#[utoipa::path(
    get,
    path = "/v1/users/{id}",
    tag = "users",
    security(("bearer" = ["users.read"])),
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "the account", body = AccountBody),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn show_account(
    caller: Caller<Read>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let account = caller.administration().find(&id).await.map_err(refuse)?;
    AccountBody::of(&account).answer(HttpResponse::Ok().finish())
}

/// A change of a profile: a member that is left out stays, and one that is null is removed (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditBody {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    given_name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    family_name: Option<Option<String>>,
    /// Another email counts as not verified, unless `email_verified` is true.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    /// Whether the caller vouches for the email.
    email_verified: Option<bool>,
}

impl Body for EditBody {
    const SHAPE: &str = "the body may hold name, given_name, family_name and email, each a text or \
                         null, and email_verified, true or false, and nothing else";
}

/// Reads a member that is there, so that null differs from a member that is not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Edits a profile.
///
/// Changes the members that the body has. With `If-Match`, only if the account is still the one with
/// this tag; without, the last change wins.
#[utoipa::path(
    patch,
    path = "/v1/users/{id}",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(
        ("id" = String, Path, description = "the account"),
        ("If-Match" = Option<String>, Header, description = "the `ETag` of the account that was read"),
    ),
    request_body(content = EditBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the account as it is now", body = AccountBody),
        (status = 400, description = "a member cannot be what it is", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "the email is taken", body = Problem, content_type = PROBLEM_TYPE),
        (status = 412, description = "the account was changed since", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn edit_account(
    request: HttpRequest,
    caller: Caller<Write>,
    id: web::Path<String>,
    Parsed(body): Parsed<EditBody>,
) -> Result<HttpResponse, ApiError> {
    let edit = ProfileEdit {
        name: body.name,
        given_name: body.given_name,
        family_name: body.family_name,
        email: body.email,
        email_verified: body.email_verified,
    };
    let is_expected = precondition(&request);
    let edited = caller.administration().edit(&id, edit, is_expected).await;
    AccountBody::of(&edited.map_err(refuse)?).answer(HttpResponse::Ok().finish())
}

/// Returns whether an account is the one that the `If-Match` of a request names (RFC 9110, section 13.1.1);
/// without the header, any account is.
fn precondition(request: &HttpRequest) -> impl FnOnce(&ManagedAccount) -> bool + use<> {
    let expected: Vec<_> = request
        .headers()
        .get_all(header::IF_MATCH)
        .cloned()
        .collect();
    move |account| {
        let tag = AccountBody::of(account).tag().unwrap_or_default();
        let is_same = |text: &str| text == "*" || text.split(',').any(|one| one.trim() == tag);
        let mut lines = expected.iter().map(|line| line.to_str().is_ok_and(is_same));
        expected.is_empty() || lines.any(|is_same| is_same)
    }
}

/// Deletes an account.
///
/// Ends its sessions and erases what names the person from every table. The id is not given again.
/// With `If-Match`, only if the account is still the one with this tag. A repetition answers the same.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(
        ("id" = String, Path, description = "the account"),
        ("If-Match" = Option<String>, Header, description = "the `ETag` of the account that was read"),
    ),
    responses(
        (status = 204, description = "the account is deleted"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there was never such an account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 412, description = "the account was changed since", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn delete_account(
    request: HttpRequest,
    state: web::Data<AppState>,
    caller: Caller<Write>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let is_expected = precondition(&request);
    let deleted = caller.administration().delete(&id, is_expected).await;
    deleted.map_err(refuse)?;
    state.outbox().wake();
    Ok(HttpResponse::NoContent().finish())
}

/// Shuts an account.
///
/// No one signs in with it any more, and its sessions end. A repetition answers the same.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/disable",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 204, description = "the account is shut"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_disable(
    state: web::Data<AppState>,
    caller: Caller<Write>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    caller.administration().disable(&id).await.map_err(refuse)?;
    state.outbox().wake();
    Ok(HttpResponse::NoContent().finish())
}

/// Opens an account that was shut.
///
/// The owner can sign in again; the sessions that had ended stay so. A repetition answers the same.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/enable",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 204, description = "the account is open"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_enable(
    caller: Caller<Write>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    caller.administration().enable(&id).await.map_err(refuse)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends all sessions of an account.
///
/// The gateways are told. A repetition answers the same.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/sessions",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 204, description = "the sessions have ended"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn delete_sessions(
    state: web::Data<AppState>,
    caller: Caller<Write>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let ended = caller.administration().end_sessions(&id).await;
    ended.map_err(refuse)?;
    state.outbox().wake();
    Ok(HttpResponse::NoContent().finish())
}

/// Takes the second factor of an account away.
///
/// For somebody who has lost both the authenticator and the recovery codes. A repetition answers the
/// same.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/second-factor",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 204, description = "a login asks for no code, and no passkey signs in"),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn delete_second_factor(
    caller: Caller<Write>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let reset = caller.administration().reset_second_factor(&id).await;
    reset.map_err(refuse)?;
    Ok(HttpResponse::NoContent().finish())
}

/// The rights of an account to rooms.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantList {
    grants: Vec<Grant>,
}

/// A right to the rooms of a pattern.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    /// The pattern, such as `chat:**`.
    room: String,
    /// Some of `sub`, `pub`, `hst` and `prs`.
    #[schema(value_type = Vec<String>)]
    actions: Vec<Action>,
}

impl Body for GrantList {
    const SHAPE: &str = "the body must hold grants, a list of objects with a room, a text, and \
                         actions, a list of some of sub, pub, hst and prs, and nothing else";
}

/// Lists the rights of an account.
///
/// Answers its own rights to rooms, without those of everybody.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/grants",
    tag = "users",
    security(("bearer" = ["users.read"])),
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "the rights", body = GrantList),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn show_grants(
    caller: Caller<Read>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let details = caller.administration().grants(&id).await.map_err(refuse)?;
    let grants = details.into_iter().flat_map(|detail| {
        let actions = detail.actions;
        let grant = move |room| Grant {
            room,
            actions: actions.clone(),
        };
        detail.rooms.into_iter().map(grant)
    });
    Ok(HttpResponse::Ok().json(GrantList {
        grants: grants.collect(),
    }))
}

/// Sets the rights of an account.
///
/// Gives it these rights to rooms, and no others. The next token says so; the last change wins.
#[utoipa::path(
    put,
    path = "/v1/users/{id}/grants",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(("id" = String, Path, description = "the account")),
    request_body(content = GrantList, content_type = "application/json"),
    responses(
        (status = 204, description = "the account has these rights"),
        (status = 400, description = "a right cannot be one, or a token has no room for them", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn put_grants(
    caller: Caller<Write>,
    id: web::Path<String>,
    Parsed(body): Parsed<GrantList>,
) -> Result<HttpResponse, ApiError> {
    let new = |mut grant: Grant| {
        grant.actions.sort();
        grant.actions.dedup();
        NewGrant {
            room: grant.room,
            actions: grant.actions,
        }
    };
    let grants: Vec<NewGrant> = body.grants.into_iter().map(new).collect();
    let set = caller.administration().set_grants(&id, &grants).await;
    set.map_err(refuse)?;
    Ok(HttpResponse::NoContent().finish())
}
