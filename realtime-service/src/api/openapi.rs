//! `GET /openapi.json` and `GET /docs/`: the description of every endpoint, made from the code beside
//! it, and a page that shows it. The page is Swagger UI out of the binary; it loads nothing from
//! elsewhere, and may not: its policy says so too.

use std::sync::Arc;

use axum::{
    Json, Router,
    http::header,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::Config;

use super::{body::Segment, problem::ApiError};
use crate::backends::describe_webhooks;

/// How long they may be kept: they change with a release.
const KEEP_FOR_MINUTES: &str = "public, max-age=300";

/// The name under which endpoints ask for a bearer token.
const BEARER: &str = "bearer";

/// The files that the page consists of.
const FILES: [&str; 8] = [
    "index.html",
    "index.css",
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-initializer.js",
    "favicon-16x16.png",
    "favicon-32x32.png",
];

/// The icons of its buttons are written into its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Latchkey realtime-service",
        description = "What back ends can do in rooms and with users, and, as webhooks, what the \
                       gateway asks and tells them. The token comes from the auth-service's \
                       `POST /oauth/token` with `client_credentials`. Errors are problem documents \
                       (RFC 9457) whose `code` is stable. Webhooks are signed after Standard Webhooks.",
    ),
    paths(
        super::messages::post_publish,
        super::messages::post_broadcast,
        super::users::post_emit,
        super::users::post_disconnect,
        super::drain::post_drain,
        super::authorization::post_explain,
        super::rooms::list_rooms,
        super::rooms::show_presence,
        super::rooms::show_history,
        super::connections::list_connections,
        super::webhooks::list_webhooks,
        super::webhooks::show_webhook,
        super::webhooks::post_replay,
        super::webhooks::post_drop,
    ),
    modifiers(&BearerScheme, &Webhooks)
)]
struct Description;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("The `access_token` of a client"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    }
}

struct Webhooks;

impl Modify for Webhooks {
    fn modify(&self, document: &mut Document) {
        describe_webhooks(document);
    }
}

/// The paths of the description and, if `docs` says so, of the page.
pub(super) fn routes(docs: bool) -> Router {
    let description = Router::new().route("/openapi.json", get(show_openapi));
    if !docs {
        return description;
    }
    description
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async || show_file("index.html")))
        .route(
            "/docs/{file}",
            get(async |Segment(file): Segment| show_file(&file)),
        )
}

async fn show_openapi() -> Response {
    let kept = [(header::CACHE_CONTROL, KEEP_FOR_MINUTES)];
    (kept, Json(Description::openapi())).into_response()
}

fn show_file(file: &str) -> Result<Response, ApiError> {
    if !FILES.contains(&file) {
        return Err(ApiError::NotFound);
    }
    // The address of a validator elsewhere is there by default.
    let config = Config::from("/openapi.json").validator_url("none");
    let found = utoipa_swagger_ui::serve(file, Arc::new(config))
        .ok()
        .flatten()
        .ok_or(ApiError::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, found.content_type.as_str()),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, KEEP_FOR_MINUTES),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, found.bytes.into_owned()).into_response())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_has_a_route() {
        let document = serde_json::to_value(Description::openapi()).expect("JSON");
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, operations)| {
                let operations = operations.as_object().expect("operations");
                let methods = operations.keys().cloned();
                methods.map(move |method| (path.clone(), method))
            })
            .collect();
        let routes: BTreeSet<(String, String)> = include_str!("mod.rs")
            .split(".route(\"")
            .skip(1)
            .map(|route| {
                let (path, rest) = route.split_once("\", ").expect("a path");
                let (method, _) = rest.split_once('(').expect("a method");
                (path.to_owned(), method.to_owned())
            })
            .collect();
        assert_eq!(described, routes);
    }

    /// Returns all references to schemas in `value`.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                let reference = members.get("$ref").and_then(Value::as_str);
                found.extend(reference.map(str::to_owned));
                members.values().for_each(|one| references(one, found));
            }
            Value::Array(entries) => entries.iter().for_each(|one| references(one, found)),
            _ => {}
        }
    }

    #[test]
    fn what_back_ends_are_asked_and_answer_is_described_with_all_its_schemas() {
        let document = serde_json::to_value(Description::openapi()).expect("JSON");
        let webhooks = document["webhooks"].as_object().expect("webhooks");
        let names: Vec<_> = webhooks.keys().map(String::as_str).collect();
        let all = ["authorize", "call", "connect", "lifecycle", "notify"];
        assert_eq!(names, all);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("in the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let schemas = &document["components"]["schemas"];
        for (schema, member) in [
            ("CallAnswer", "actions"),
            ("DecisionAnswer", "cache_secs"),
            ("AdmissionAnswer", "grants"),
            ("CallData", "args"),
            ("AdmissionQuestion", "stage"),
        ] {
            let property = &schemas[schema]["properties"][member];
            assert!(property.is_object(), "{schema} has {member}");
        }
        let content = &webhooks["call"]["post"]["requestBody"]["content"];
        let (_, content) = content
            .as_object()
            .expect("content")
            .iter()
            .next()
            .expect("a type");
        let event = &content["schema"]["properties"];
        assert!(event["subject"].is_object(), "{event}");
        assert_eq!(event["data"]["$ref"], "#/components/schemas/CallData");
    }
}
