//! The part of HTTP/1.1 that the generator needs: responses with a declared length.

use std::ops::Range;

use anyhow::{Context, bail};

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// Largest response head that is accepted, in bytes.
const MAXIMUM_HEAD_BYTES: usize = 32 * 1024;

/// Location of one complete response at the start of a buffer.
#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    /// Status code.
    pub(crate) status: u16,
    /// Position of the body in the buffer; the response ends with it.
    pub(crate) body: Range<usize>,
}

/// Finds the first complete response in `bytes`, or returns `None` if more bytes are needed.
///
/// # Errors
///
/// Returns an error if the head is not HTTP/1.1 or is too long, or if the body has no declared length.
pub(crate) fn decode_response(bytes: &[u8]) -> anyhow::Result<Option<Response>> {
    let Some(end) = head_end(bytes)? else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).context("the response's head is not UTF-8")?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .context("the server's answer is not an HTTP/1.1 response")?;
    let length = match header(head, "content-length") {
        Some(length) => length
            .parse()
            .context("the content-length is not a number")?,
        None if status < 200 || status == 204 => 0,
        None => bail!("the response {status} has no content-length, which the generator needs"),
    };
    let body = end..end + length;
    Ok((bytes.len() >= body.end).then_some(Response { status, body }))
}

/// Returns the length of the head, including its empty line, once all of it is in `bytes`.
///
/// # Errors
///
/// Returns an error if the head exceeds 32 KiB.
pub(crate) fn head_end(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let found = bytes
        .windows(END_OF_HEAD.len())
        .position(|window| window == END_OF_HEAD);
    if found.is_none() && bytes.len() > MAXIMUM_HEAD_BYTES {
        bail!("the HTTP head is longer than {MAXIMUM_HEAD_BYTES} bytes");
    }
    Ok(found.map(|start| start + END_OF_HEAD.len()))
}

/// Returns the value of the first header with this name, in any case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_with_its_declared_length() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-LENGTH: 3\r\n\r\nabcHTTP/1.1 204";
        let response = decode_response(bytes)
            .expect("a valid response")
            .expect("a complete one");
        assert_eq!(response.status, 200);
        assert_eq!(&bytes[response.body], b"abc");
        assert_eq!(decode_response(&bytes[..40]).expect("no error"), None);
        assert_eq!(decode_response(&bytes[..20]).expect("no error"), None);
    }

    #[test]
    fn a_response_without_a_body_needs_no_length() {
        let upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00";
        let response = decode_response(upgrade)
            .expect("a valid response")
            .expect("a complete one");
        assert_eq!((response.status, response.body.len()), (101, 0));
        assert!(decode_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(decode_response(b"SSH-2.0\r\n\r\n").is_err());
    }
}
