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

/// Maximum part of a line that is kept, in bytes: a name and a number fit.
const MAXIMUM_LINE_BYTES: usize = 32;

/// Reason to refuse the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    /// No `Host`, more than one, or one that names no host (RFC 9112, section 3.2).
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

/// Watches the heads of a connection's requests for a `Content-Length` beside a `Transfer-Encoding`:
/// hyper passes over the former and closes the connection after the answer, and no handler knows of it.
#[derive(Default)]
pub(super) struct LengthWatch {
    part: Part,
    /// The beginning of the line that is under way, and how long that line is so far.
    line: [u8; MAXIMUM_LINE_BYTES],
    line_bytes: usize,
    /// The length of the body, once its header was read.
    content_length: Option<u64>,
    has_coding: bool,
}

/// The part of a request that the next byte belongs to.
#[derive(Clone, Copy, Default)]
enum Part {
    /// The request line, or a header.
    #[default]
    Head,
    /// A body, or a chunk with the end of its line, of which so many bytes are missing.
    Bytes { missing: u64, is_chunk: bool },
    /// The line with the length of a chunk.
    ChunkLength,
    /// The lines behind the last chunk.
    Trailers,
    /// A part that is not known: hyper refuses such a request, or ends the connection after it.
    Unknown,
}

impl LengthWatch {
    /// Looks at the next bytes of the connection. Returns whether both headers were found by now in
    /// one head.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_ambiguous = false;
        while !bytes.is_empty() {
            bytes = match self.part {
                Part::Unknown => return is_ambiguous,
                Part::Bytes { missing, is_chunk } => self.skip(missing, is_chunk, bytes),
                Part::Head | Part::ChunkLength | Part::Trailers => match memchr(b'\n', bytes) {
                    None => {
                        self.extend_line(bytes);
                        return is_ambiguous;
                    }
                    Some(end) => {
                        self.extend_line(&bytes[..end]);
                        self.end_line();
                        is_ambiguous |= self.has_coding && self.content_length.is_some();
                        &bytes[end + 1..]
                    }
                },
            };
        }
        is_ambiguous
    }

    /// Passes over what is `missing` of a body or a chunk. Returns the bytes behind it.
    fn skip<'a>(&mut self, missing: u64, is_chunk: bool, bytes: &'a [u8]) -> &'a [u8] {
        let skipped = usize::try_from(missing).map_or(bytes.len(), |all| all.min(bytes.len()));
        let missing = missing - skipped as u64;
        self.part = match (missing, is_chunk) {
            (0, true) => Part::ChunkLength,
            (0, false) => Part::Head,
            _ => Part::Bytes { missing, is_chunk },
        };
        &bytes[skipped..]
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        let free = self.line.get_mut(self.line_bytes..).unwrap_or_default();
        let kept = free.len().min(bytes.len());
        free[..kept].copy_from_slice(&bytes[..kept]);
        self.line_bytes += bytes.len();
    }

    fn end_line(&mut self) {
        let line = &self.line[..self.line_bytes.min(MAXIMUM_LINE_BYTES)];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let value_of = |name: &[u8]| {
            let (start, value) = line.split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name).then_some(value)
        };
        let number = |text: &[u8], radix| {
            let text = str::from_utf8(text).ok()?.trim();
            u64::from_str_radix(text, radix).ok()
        };
        match self.part {
            Part::Head if line.is_empty() => {
                self.part = match (self.has_coding, self.content_length) {
                    (true, _) => Part::ChunkLength,
                    (false, Some(missing @ 1..)) => Part::Bytes {
                        missing,
                        is_chunk: false,
                    },
                    (false, _) => Part::Head,
                };
                self.has_coding = false;
                self.content_length = None;
            }
            Part::Head => {
                self.has_coding |= value_of(TRANSFER_ENCODING).is_some();
                if let Some(value) = value_of(CONTENT_LENGTH) {
                    self.content_length = number(value, 10);
                    if self.content_length.is_none() {
                        self.part = Part::Unknown;
                    }
                }
            }
            Part::ChunkLength => {
                let length = line.split(|byte| *byte == b';').next();
                self.part = match length.and_then(|length| number(length, 16)) {
                    Some(0) => Part::Trailers,
                    // With the end of its line, which hyper wants as two bytes.
                    Some(length) => Part::Bytes {
                        missing: length.saturating_add(2),
                        is_chunk: true,
                    },
                    None => Part::Unknown,
                };
            }
            Part::Trailers if line.is_empty() => self.part = Part::Head,
            Part::Trailers | Part::Bytes { .. } | Part::Unknown => {}
        }
        self.line_bytes = 0;
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
    // Most hosts are plain, and parsing copies the text.
    let mut parts = text.split(|byte| *byte == b':');
    let host = parts.next().unwrap_or_default();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let is_port =
        |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let has_fine_port = parts.next().is_none_or(is_port) && parts.next().is_none();
    if !host.is_empty() && host.iter().all(is_name) && has_fine_port {
        return true;
    }
    Authority::try_from(text).is_ok_and(|host| !host.host().is_empty() && !text.contains(&b'@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head with both headers.
    const BOTH: &str =
        "POST / HTTP/1.1\r\nCONTENT-length: 5\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Requests in which one header begins a line of a body, a chunk or another head.
    const APART: &str = "POST / HTTP/1.1\r\nContent-Length: 26\r\n\r\n\
                         Transfer-Encoding: chunked\
                         POST / HTTP/1.1\r\nX-Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
                         13;x=y\r\n\r\nContent-Length: 1\r\n\
                         0\r\nContent-Length: 7\r\n\r\n\
                         GET / HTTP/1.1\r\nX: y\r\n\r\n";

    /// Number of times that both headers are found in one head, if the text comes in pieces of this size.
    fn found(text: &str, size: usize) -> usize {
        let mut watch = LengthWatch::default();
        let pieces = text.as_bytes().chunks(size);
        pieces.filter(|piece| watch.read(piece)).count()
    }

    #[test]
    fn both_headers_of_one_head_are_found_however_the_bytes_are_cut_and_no_others() {
        for size in 1..=BOTH.len() {
            assert!(found(BOTH, size) > 0, "{size}");
            assert_eq!(found(APART, size), 0, "{size}");
            assert!(found(&format!("{APART}{BOTH}"), size) > 0, "{size}");
        }
    }
}
