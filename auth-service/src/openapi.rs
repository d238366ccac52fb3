//! `GET /openapi.json`: the description of every endpoint, made from the code beside it.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    http::header::{self, ContentType},
};
use anyhow::Context as _;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::error::ApiError;

/// Time for which the description may be kept: it changes with a release.
pub(crate) const KEEP_FOR_MINUTES: &str = "public, max-age=300";

/// The name under which endpoints ask for a bearer token.
const BEARER: &str = "bearer";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Latchkey auth-service",
        description = "Sign in over HTTP, get a JSON Web Token. Errors are problem documents \
                       (RFC 9457) whose `code` is stable; the endpoints below `/oauth/` answer \
                       as RFC 6749 says.",
    ),
    paths(
        crate::login::post_login,
        crate::second_factor::login::post_code,
        crate::refresh::post_refresh,
        crate::sessions::post_logout,
        crate::sessions::post_logout_all,
        crate::sessions::list_sessions,
        crate::sessions::delete_session,
        crate::me::show_me,
        crate::register::post_register,
        crate::change_password::post_password,
        crate::reset_password::post_forgot,
        crate::reset_password::post_reset,
        crate::change_email::post_email,
        crate::change_email::post_verify,
        crate::second_factor::enrolment::post_start,
        crate::second_factor::enrolment::post_confirm,
        crate::second_factor::enrolment::post_disable,
        crate::passkeys::login::post_login_options,
        crate::passkeys::login::post_login_passkey,
        crate::passkeys::enrolment::post_enrolment_options,
        crate::passkeys::enrolment::post_passkey,
        crate::passkeys::manage::list_passkeys,
        crate::passkeys::manage::rename_passkey,
        crate::passkeys::manage::remove_passkey,
        crate::oauth::token::post_token,
        crate::oauth::introspect::post_introspect,
        crate::oauth::revoke::post_revoke,
        crate::discovery::show_jwks,
        crate::discovery::show_metadata,
        crate::discovery::show_openid_configuration,
        crate::health::show_live,
        crate::health::show_ready,
    ),
    // Beside this document: the public URL can have a path.
    servers((url = ".")),
    modifiers(&BearerScheme)
)]
struct Description;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("The `token` that a login answers"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    }
}

/// Answers the description.
pub(crate) async fn show_openapi() -> Result<HttpResponse, ApiError> {
    static TEXT: LazyLock<Option<String>> = LazyLock::new(|| Description::openapi().to_json().ok());
    let text = TEXT.as_deref().context("the description is no JSON")?;
    Ok(HttpResponse::Ok()
        .insert_header(ContentType::json())
        .insert_header((header::CACHE_CONTROL, KEEP_FOR_MINUTES))
        .body(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Paths that the description leaves out: those of the description itself.
    const NOT_DESCRIBED: [&str; 4] = ["/openapi.json", "/docs", "/docs/", "/docs/{file}"];

    /// Returns path and method of each route in `routes.rs`, where a route is a line such as
    /// `.service(post("/login", post_login))`.
    fn routes() -> BTreeSet<(String, String)> {
        let mut routes = BTreeSet::new();
        for call in include_str!("routes.rs").split(".service(").skip(1) {
            let (function, arguments) = call.split_once('(').expect("a call");
            let path = arguments.split('"').nth(1).expect("a path");
            // HEAD is described by GET.
            let methods = function.trim_end_matches("_or_head").split("_and_");
            if !NOT_DESCRIBED.contains(&path) {
                routes.extend(methods.map(|method| (path.to_owned(), method.to_owned())));
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_every_description_has_a_route() {
        let document = serde_json::to_value(Description::openapi()).expect("JSON");
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                described.insert((path.clone(), method.clone()));
                let says = |name: &str| operation[name].as_str().is_some_and(|text| text.len() > 9);
                assert!(says("summary"), "{method} {path} is not summarized");
                let answers = operation["responses"].as_object().expect("answers");
                assert!(answers.len() > 1 || path == "/health/live", "{path}");
            }
        }
        assert_eq!(described, routes());
    }
}
