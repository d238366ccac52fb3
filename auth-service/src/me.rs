//! `GET /me`: who the token's owner is, as the database has it now.

use actix_web::HttpResponse;
use serde::Serialize;

use crate::{error::ApiError, signed_in::SignedIn};

#[derive(Serialize)]
struct Me<'a> {
    sub: &'a str,
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<&'a str>,
}

/// Answers the account that the token belongs to, unless it was disabled meanwhile.
pub(crate) async fn show_me(SignedIn { account, .. }: SignedIn) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Me {
        sub: &account.id,
        username: &account.username,
        name: account.name.as_deref(),
        email: account.email.as_deref(),
        given_name: account.given_name.as_deref(),
        family_name: account.family_name.as_deref(),
    }))
}
