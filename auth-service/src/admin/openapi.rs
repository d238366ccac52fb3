//! `GET /openapi.json` of the operator's listener: the description of the API for accounts.

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::header::ContentType};
use anyhow::Context as _;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::error::ApiError;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Latchkey auth-service, accounts",
        description = "The operator's API for accounts. It takes the token of a client with the \
                       audience `latchkey-admin`. Errors are problem documents (RFC 9457) whose \
                       `code` is stable.",
    ),
    paths(
        super::users::list_accounts,
        super::users::post_account,
        super::import::post_import,
        super::account::show_account,
        super::account::edit_account,
        super::account::delete_account,
        super::account::show_grants,
        super::account::put_grants,
        super::claims::show_claims,
        super::claims::put_claims,
        super::account::post_disable,
        super::account::post_enable,
        super::account::delete_sessions,
        super::account::delete_second_factor,
    ),
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
            .description(Some(
                "The `access_token` that `/oauth/token` answers a client with the scopes \
                 `users.read` or `users.write`, which includes reading",
            ))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Answers the description.
pub(super) async fn show_openapi() -> Result<HttpResponse, ApiError> {
    static TEXT: LazyLock<Option<String>> = LazyLock::new(|| Description::openapi().to_json().ok());
    let text = TEXT.as_deref().context("the description is no JSON")?;
    Ok(HttpResponse::Ok()
        .insert_header(ContentType::json())
        .body(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns path and method of each route below `/v1/` in `routes.rs`, where a resource is followed by
    /// its routes: `.route(web::get()…`.
    fn routes() -> BTreeSet<(String, String)> {
        let mut routes = BTreeSet::new();
        for resource in include_str!("routes.rs").split("web::resource(\"").skip(1) {
            let (path, rest) = resource.split_once('"').expect("a path");
            for call in rest.split(".route(web::").skip(1) {
                let (method, _) = call.split_once('(').expect("a method");
                routes.insert((path.to_owned(), method.to_owned()));
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
                let scopes = &operation["security"][0]["bearer"];
                let expected = if method == "get" {
                    "users.read"
                } else {
                    "users.write"
                };
                assert_eq!(scopes[0], expected, "{method} {path}");
                let answers = operation["responses"].as_object().expect("answers");
                for status in ["401", "403"] {
                    assert!(answers.contains_key(status), "{method} {path} {status}");
                }
            }
        }
        assert_eq!(described, routes());
        assert!(described.len() > 10);
    }
}
