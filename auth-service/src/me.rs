//! `GET /me`: who the token's owner is, as the database has it now.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    current_user::CurrentUser,
    error::{ApiError, PROBLEM_TYPE, Problem},
    second_factor,
    state::AppState,
};

#[derive(Serialize, ToSchema)]
pub(crate) struct Me<'a> {
    /// The account, as the token names it.
    sub: &'a str,
    /// The name to sign in with.
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    /// Whether somebody has proved that the email is theirs; it comes with the email.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<&'a str>,
    /// Whether a login asks for a code.
    second_factor: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    roles: &'a [String],
    /// Custom claims, without the prefix that they have in a token.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    claims: &'a Map<String, Value>,
}

/// Shows who the token's owner is.
///
/// Answers the account that the token belongs to, unless it was disabled meanwhile.
#[utoipa::path(
    get,
    path = "/me",
    tag = "account",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "the account", body = Me),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn show_me(
    state: web::Data<AppState>,
    CurrentUser { account, .. }: CurrentUser,
) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Me {
        sub: &account.id,
        username: &account.username,
        name: account.name.as_deref(),
        email: account.email.as_deref(),
        email_verified: account.profile().email_verified,
        given_name: account.given_name.as_deref(),
        family_name: account.family_name.as_deref(),
        second_factor: second_factor::is_confirmed(&state, &account.id).await?,
        roles: &account.claims.roles,
        claims: &account.claims.custom,
    }))
}
