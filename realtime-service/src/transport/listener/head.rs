//! Request heads that two servers in a row could understand differently. They are refused before
//! anything else sees them, and the connection is closed.

use axum::body::Body;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header, uri::Authority,
};
use memchr::memchr;

/// The beginnings of the two header lines that say how long a body is.
const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

/// Why the head of a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    /// There is no `Host`, more than one, or one that names no host (RFC 9112, section 3.2).
    #[error("a request has one Host header, which names a host")]
    Host,
    /// The end of the body is not certain (RFC 9112, sections 6.1 and 6.3).
    #[error("a request has a Content-Length, or the Transfer-Encoding chunked, or neither")]
    BodyLength,
}

impl HeadError {
    /// Builds the answer, after which the connection is closed.
    pub(super) fn into_response(self) -> Response<Body> {
        last_response(StatusCode::BAD_REQUEST, self.to_string())
    }
}

/// Builds an answer with `text`, after which the connection is closed.
pub(super) fn last_response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    response
}

/// Watches the bytes of a connection for a `Content-Length` beside a `Transfer-Encoding`: hyper passes
/// over the former and closes the connection after the answer, and no handler knows of it.
///
/// The lines of bodies are looked at like those of heads. A body in which both names begin a line of
/// one paragraph is taken for such a head, and the next request of the connection is refused.
#[derive(Default)]
pub(super) struct LengthWatch {
    /// The beginning of the line that is under way, and how long that line is so far.
    line: [u8; TRANSFER_ENCODING.len()],
    length: usize,
    has_length: bool,
    has_coding: bool,
}

impl LengthWatch {
    /// Looks at the next bytes of the connection. Returns whether both headers were found by now in
    /// one head.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_ambiguous = false;
        while let Some(end) = memchr(b'\n', bytes) {
            self.extend_line(&bytes[..end]);
            is_ambiguous |= self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.extend_line(bytes);
        is_ambiguous
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        let free = self.line.get_mut(self.length..).unwrap_or_default();
        let kept = free.len().min(bytes.len());
        free[..kept].copy_from_slice(&bytes[..kept]);
        self.length += bytes.len();
    }

    fn end_line(&mut self) -> bool {
        let line = &self.line[..self.length.min(self.line.len())];
        let begins_with = |name: &[u8]| {
            line.get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        if let [] | [b'\r'] = line {
            self.has_length = false;
            self.has_coding = false;
        }
        self.has_length |= begins_with(CONTENT_LENGTH);
        self.has_coding |= begins_with(TRANSFER_ENCODING);
        self.length = 0;
        self.has_length && self.has_coding
    }
}

/// Checks the head of a request that hyper has taken. hyper itself refuses lengths that differ, and a
/// last coding other than `chunked`. `has_both` says whether a [`LengthWatch`] found both headers.
///
/// # Errors
///
/// See [`HeadError`].
pub(super) fn check(
    version: Version,
    headers: &HeaderMap,
    has_both: bool,
) -> Result<(), HeadError> {
    let is_valid = match values(headers, header::HOST) {
        (Some(host), None) => is_host(host.as_bytes()),
        // HTTP/1.0 has no such header.
        (host, _) => host.is_none() && version < Version::HTTP_11,
    };
    if !is_valid {
        return Err(HeadError::Host);
    }
    let is_known = match values(headers, header::TRANSFER_ENCODING) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    match is_known && !has_both {
        true => Ok(()),
        false => Err(HeadError::BodyLength),
    }
}

/// Returns the first two values of a header.
fn values(headers: &HeaderMap, name: HeaderName) -> (Option<&HeaderValue>, Option<&HeaderValue>) {
    let mut values = headers.get_all(name).into_iter();
    (values.next(), values.next())
}

/// Whether `text` names a host, with or without a port.
fn is_host(text: &[u8]) -> bool {
    Authority::try_from(text).is_ok_and(|host| !host.host().is_empty() && !text.contains(&b'@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_headers_of_one_head_are_found_however_the_bytes_are_cut() {
        let both =
            "POST / HTTP/1.1\r\nCONTENT-length: 5\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n";
        let apart = "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nX-Content-Length: 1\r\n\
                     Transfer-Encoding: chunked\r\n\r\n";
        for size in 1..=both.len() {
            let is_found = |text: &str| {
                let mut watch = LengthWatch::default();
                let mut pieces = text.as_bytes().chunks(size);
                pieces.any(|piece| watch.read(piece))
            };
            assert!(is_found(both), "{size}");
            assert!(!is_found(apart), "{size}");
        }
    }
}
