//! The stock client in JavaScript, at the paths at which Node's Socket.IO server has it.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
};

use super::document::document;

/// The release of socket.io-client that is embedded; `console/package.json` installs the same one.
pub(super) const CLIENT_VERSION: &str = "4.8.3";

/// The bundles and their source maps by name, if `npm ci` had been run in `console/` when the gateway was
/// built, and nothing otherwise.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded_client.rs"));

/// Returns a bundle, or its source map.
pub(super) fn file(name: &str) -> Option<&'static [u8]> {
    let found = FILES.iter().find(|(one, _)| *one == name);
    found.map(|(_, content)| *content)
}

/// Routes of the bundles and their source maps, beside the path of Socket.IO. Their entity tag is the release,
/// and a browser asks about it each time, as with Node's server.
pub fn routes() -> Router {
    let tag = format!("\"{CLIENT_VERSION}\"");
    FILES.iter().fold(Router::new(), |router, (name, content)| {
        let path = format!("/socket.io/{name}");
        let content = Bytes::from_static(content);
        router.merge(document(&path, content, headers(name), &tag))
    })
}

fn headers(name: &str) -> HeaderMap {
    let content_type = match name.ends_with(".map") {
        true => "application/json; charset=utf-8",
        false => "application/javascript; charset=utf-8",
    };
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=0"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ])
}
