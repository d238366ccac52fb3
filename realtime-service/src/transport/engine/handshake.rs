//! The server's side of the WebSocket opening handshake (RFC 6455, section 4.2).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::error::RequestError;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The length of a decoded key, in bytes.
const KEY_BYTES: usize = 16;

/// Checks an opening handshake, and returns the response that accepts it.
///
/// # Errors
///
/// When the request is no valid handshake of WebSocket version 13.
pub(super) fn accept<B>(request: &Request<B>) -> Result<Response<Body>, RequestError> {
    let headers = request.headers();
    let is_upgrade = request.method() == Method::GET
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket");
    if !is_upgrade {
        return Err(RequestError::BadRequest);
    }
    if only(headers, header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(RequestError::UnsupportedWebSocket);
    }
    let key = only(headers, header::SEC_WEBSOCKET_KEY).ok_or(RequestError::BadRequest)?;
    let is_key = STANDARD
        .decode(key)
        .is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    if !is_key {
        return Err(RequestError::BadRequest);
    }
    let accepted = HeaderValue::try_from(accept_key(key)).map_err(|_| RequestError::Internal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    Ok(response)
}

/// Computes the value of `Sec-WebSocket-Accept`.
fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

/// Whether a comma-separated list has this token, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Returns the value of a header that is given once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handshake of RFC 6455, section 1.3, with one header changed.
    fn handshake(changed: Option<(&'static str, &'static str)>) -> Request<()> {
        let headers = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut request = Request::new(());
        for (name, value) in headers.into_iter().chain(changed) {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        request
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let response = accept(&handshake(None)).expect("accepted");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let accepted = &response.headers()["sec-websocket-accept"];
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_handshake_that_lacks_something_is_refused() {
        for (name, value, status) in [
            ("upgrade", "h2c", 400),
            ("connection", "close", 400),
            ("sec-websocket-version", "8", 426),
            ("sec-websocket-key", "c2hvcnQ=", 400),
            ("sec-websocket-key", "not base64", 400),
        ] {
            let error = accept(&handshake(Some((name, value)))).expect_err("refused");
            assert_eq!(error.status(), status, "{name}: {value}");
        }
        let mut post = handshake(None);
        *post.method_mut() = Method::POST;
        assert_eq!(accept(&post).expect_err("refused").status(), 400);
        let mut twice = handshake(None);
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        twice.headers_mut().append("sec-websocket-key", key);
        assert_eq!(accept(&twice).expect_err("refused").status(), 400);
    }
}
