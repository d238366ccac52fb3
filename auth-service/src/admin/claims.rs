//! `/v1/users/{id}/claims`: the roles and the custom claims of one account.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared_claims::json;
use utoipa::ToSchema;

use super::{
    caller::{Caller, Read, Write},
    users::refuse,
};
use crate::{
    body::{Body, Parsed},
    error::{ApiError, PROBLEM_TYPE, Problem},
};

/// The roles and the custom claims of an account.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimsBody {
    /// Up to 32 roles, each of 1 to 64 bytes.
    roles: Vec<String>,
    /// Up to 32 claims, whose names are not reserved.
    #[serde(deserialize_with = "json::unambiguous_members")]
    #[schema(value_type = Object)]
    claims: Map<String, Value>,
}

impl Body for ClaimsBody {
    const SHAPE: &str = "the body must hold roles, a list of texts, and claims, an object in which no \
                         member stands twice, and nothing else";
}

/// Shows the roles and the custom claims of an account.
///
/// Answers them as they were given: without the prefix that claims have in a token, and without those of
/// the claims webhook.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/claims",
    tag = "users",
    security(("bearer" = ["users.read"])),
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "the roles and the claims", body = ClaimsBody),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn show_claims(
    caller: Caller<Read>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let found = caller.administration().find(&id).await.map_err(refuse)?;
    let claims = found.account.claims;
    Ok(HttpResponse::Ok().json(ClaimsBody {
        roles: claims.roles,
        claims: claims.custom,
    }))
}

/// Sets the roles and the custom claims of an account.
///
/// Gives it these and no others. The next token says so; the last change wins.
#[utoipa::path(
    put,
    path = "/v1/users/{id}/claims",
    tag = "users",
    security(("bearer" = ["users.write"])),
    params(("id" = String, Path, description = "the account")),
    request_body(content = ClaimsBody, content_type = "application/json"),
    responses(
        (status = 204, description = "the account has these roles and claims"),
        (status = 400, description = "a role or a claim cannot be one, is reserved, or a token has no room for them", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 404, description = "there is no such account", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn put_claims(
    caller: Caller<Write>,
    id: web::Path<String>,
    Parsed(body): Parsed<ClaimsBody>,
) -> Result<HttpResponse, ApiError> {
    let ClaimsBody { roles, claims } = body;
    let administration = caller.administration();
    let set = administration.set_claims(&id, Some(roles), Some(claims));
    set.await.map_err(refuse)?;
    Ok(HttpResponse::NoContent().finish())
}
