//! `GET /docs/`: a page that shows the description of the endpoints, and calls them.
//! The setting `docs` turns it on.
//!
//! The page is Swagger UI out of the binary. It loads nothing from elsewhere, and may not: its
//! policy says so too.

use std::{borrow::Cow, sync::Arc};

use actix_web::{HttpResponse, http::header, web};
use utoipa_swagger_ui::Config;

use crate::{error::ApiError, openapi::KEEP_FOR_MINUTES, state::AppState};

/// The files that the page consists of. There are more, such as one that passes tokens between
/// windows, which nobody here needs.
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

/// Sends a browser that forgot the slash to the page, whose links are relative. So is the redirect:
/// the public URL can have a path.
pub(crate) async fn redirect_to_docs(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    if !state.settings().docs {
        return Err(ApiError::NotFound);
    }
    Ok(HttpResponse::PermanentRedirect()
        .insert_header((header::LOCATION, "docs/"))
        .finish())
}

/// Answers the page.
pub(crate) async fn show_docs(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    answer(&state, "index.html")
}

/// Answers a file of the page.
pub(crate) async fn show_docs_file(
    state: web::Data<AppState>,
    file: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    answer(&state, &file)
}

fn answer(state: &AppState, file: &str) -> Result<HttpResponse, ApiError> {
    if !state.settings().docs || !FILES.contains(&file) {
        return Err(ApiError::NotFound);
    }
    // The address of a validator elsewhere is there by default.
    let config = Config::from("../openapi.json").validator_url("none");
    let found = utoipa_swagger_ui::serve(file, Arc::new(config))
        .map_err(|error| anyhow::anyhow!("the page has no {file}: {error}"))?
        .ok_or(ApiError::NotFound)?;
    // Without a copy for each visitor: there is more than a megabyte of it.
    let body = match found.bytes {
        Cow::Borrowed(bytes) => web::Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, found.content_type))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, KEEP_FOR_MINUTES))
        .body(body))
}
