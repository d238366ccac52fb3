//! Routes that answer with one content, which a browser keeps and asks about (RFC 9110, section 13).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// A route that answers GET and HEAD with one content that never changes while the gateway runs. `tag` is its
/// entity tag, in quotation marks.
pub(super) fn document(path: &str, body: Bytes, mut headers: HeaderMap, tag: &str) -> Router {
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    let shared = Arc::new((body, headers, tag.to_owned()));
    Router::new().route(
        path,
        get(move |request_headers: HeaderMap| async move {
            let (body, headers, tag) = &*shared;
            answer(body, headers, tag, &request_headers)
        }),
    )
}

fn answer(body: &Bytes, headers: &HeaderMap, tag: &str, request_headers: &HeaderMap) -> Response {
    if has_current(request_headers, tag) {
        return (StatusCode::NOT_MODIFIED, headers.clone()).into_response();
    }
    (headers.clone(), body.clone()).into_response()
}

/// A tag for this content. It only has to differ from that of another build, so no cryptographic hash is needed.
pub(super) fn content_tag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether the client says that it already holds the content of this name.
fn has_current(request_headers: &HeaderMap, tag: &str) -> bool {
    let held = request_headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    held.flat_map(|value| value.split(','))
        .any(|name| name.trim().trim_start_matches("W/") == tag)
}
