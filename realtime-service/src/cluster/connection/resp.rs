//! RESP3, the protocol of Redis: the answers and push messages in the bytes of a connection.

use redis::{ErrorKind, RedisError, RedisResult, Value, parse_redis_value};
use smallvec::SmallVec;

/// Maximum depth of an answer that is decoded here. Answers of scripts are arrays of texts and numbers.
const MAXIMUM_DEPTH: usize = 4;

/// Maximum size of a frame, in bytes: that of a text of Redis (`proto-max-bulk-len`). Answers with the messages of a
/// room are far smaller: `history.bytes` is at most 8 MiB with Redis.
const MAXIMUM_BYTES: usize = 512 << 20;

/// Maximum size of a line, in bytes. Only texts without a length, such as errors, have long lines.
const MAXIMUM_LINE_BYTES: usize = 1 << 20;

/// Minimum size of a value, in bytes: its type and the end of its line.
const MINIMUM_VALUE_BYTES: usize = 3;

/// An answer or a push message.
#[derive(Debug, PartialEq)]
pub(super) enum Frame<'a> {
    /// The answer to a request, which may be an error of the server.
    Answer(Value),
    /// A push message: its kind and its other parts. A number is the text of its digits.
    Push(SmallVec<[&'a [u8]; 4]>),
}

/// Progress of the search for the end of a frame, so that a large frame is not searched anew with each read.
#[derive(Default)]
pub(super) struct Scan {
    /// Number of bytes that were searched, or that the frame has at least.
    at: usize,
    /// Number of values that are missing before the place `at`. The frame itself is the first one.
    missing: Option<usize>,
}

impl Scan {
    /// Returns the length of the first frame of `bytes`; `None` when it is not complete. `bytes` begin with those
    /// of the call before, unless that one returned a length.
    ///
    /// # Errors
    ///
    /// When the bytes are no RESP3, or the frame is larger than [`MAXIMUM_BYTES`].
    pub(super) fn length(&mut self, bytes: &[u8]) -> RedisResult<Option<usize>> {
        let mut missing = self.missing.unwrap_or(1);
        while missing > 0 {
            let Some((kind, line, mut end)) = line_at(bytes, self.at) else {
                if bytes.len().saturating_sub(self.at) > MAXIMUM_LINE_BYTES {
                    return Err(size_error());
                }
                self.missing = Some(missing);
                return Ok(None);
            };
            missing -= 1;
            match kind {
                b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
                b'$' | b'!' | b'=' => {
                    // A negative length stands for no value.
                    if let Ok(length) = usize::try_from(number(line)?) {
                        end = end.saturating_add(length).saturating_add(2);
                    }
                }
                b'*' | b'~' | b'>' => missing = missing.saturating_add(count(line, 1)?),
                b'%' => missing = missing.saturating_add(count(line, 2)?),
                // Attributes precede the value that they describe.
                b'|' => missing = missing.saturating_add(count(line, 2)?).saturating_add(1),
                _ => return Err(protocol_error()),
            }
            self.at = end;
            let least = missing.saturating_mul(MINIMUM_VALUE_BYTES);
            if end.saturating_add(least) > MAXIMUM_BYTES {
                return Err(size_error());
            }
        }
        if self.at > bytes.len() {
            self.missing = Some(0);
            return Ok(None);
        }
        self.missing = None;
        Ok(Some(std::mem::take(&mut self.at)))
    }
}

/// Decodes a whole frame.
///
/// # Errors
///
/// When the bytes are no RESP3.
pub(super) fn decode(frame: &[u8]) -> RedisResult<Frame<'_>> {
    if frame.first() == Some(&b'>') {
        return push(frame).map(Frame::Push);
    }
    let mut at = 0;
    match value(frame, &mut at, MAXIMUM_DEPTH) {
        Some(value) => Ok(Frame::Answer(value)),
        // Errors and the types that scripts do not return.
        None => parse_redis_value(frame).map(Frame::Answer),
    }
}

fn push(frame: &[u8]) -> RedisResult<SmallVec<[&[u8]; 4]>> {
    let (_, _, mut at) = line_at(frame, 0).ok_or_else(protocol_error)?;
    let mut parts = SmallVec::new();
    while at < frame.len() {
        let (kind, line, end) = line_at(frame, at).ok_or_else(protocol_error)?;
        at = end;
        parts.push(match kind {
            b'$' => text(frame, &mut at, line).ok_or_else(protocol_error)?,
            _ => line,
        });
    }
    Ok(parts)
}

/// Decodes the value at `at`; `None` for a type that has no decoder here.
fn value(frame: &[u8], at: &mut usize, depth: usize) -> Option<Value> {
    let (kind, line, end) = line_at(frame, *at)?;
    *at = end;
    Some(match kind {
        b'$' if line.first() == Some(&b'-') => Value::Nil,
        b'$' => Value::BulkString(text(frame, at, line)?.to_vec()),
        b':' => Value::Int(number(line).ok()?),
        b'_' => Value::Nil,
        b'+' if line == b"OK" => Value::Okay,
        b'*' if depth > 0 && line.first() != Some(&b'-') => {
            let values = 0..count(line, 1).ok()?;
            let values = values.map(|_| value(frame, at, depth - 1));
            Value::Array(values.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// Returns the text at `at`, of which `line` is the length, and moves `at` to its end.
fn text<'a>(frame: &'a [u8], at: &mut usize, line: &[u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(line).ok()?).ok()?;
    let text = frame.get(*at..at.checked_add(length)?)?;
    *at += length + 2;
    Some(text)
}

/// Returns the type of the value at `at`, the rest of its line, and the end of that.
fn line_at(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let (kind, rest) = bytes.get(at..)?.split_first()?;
    let length = memchr::memchr(b'\r', rest).filter(|end| end + 1 < rest.len())?;
    Some((*kind, &rest[..length], at + 1 + length + 2))
}

fn number(line: &[u8]) -> RedisResult<i64> {
    let text = str::from_utf8(line).map_err(|_| protocol_error())?;
    text.parse().map_err(|_| protocol_error())
}

/// Returns the number of values of an aggregate with `line` elements of `each` values.
fn count(line: &[u8], each: usize) -> RedisResult<usize> {
    // A negative number stands for no value.
    let elements = usize::try_from(number(line)?).unwrap_or_default();
    Ok(elements.saturating_mul(each))
}

/// Returns the error of a connection whose server sends something else than RESP3.
fn protocol_error() -> RedisError {
    let text = "the server does not speak RESP3; check that cluster.url names a Redis server";
    (ErrorKind::Parse, text).into()
}

/// Returns the error of a connection whose server sends a frame that is too large.
fn size_error() -> RedisError {
    (
        ErrorKind::Parse,
        "the server sent an answer that is too large",
    )
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of all kinds, and whether they are push messages.
    const FRAMES: [&[u8]; 12] = [
        b"*4\r\n$1\r\nx\r\n:12\r\n$-1\r\n*2\r\n_\r\n+OK\r\n",
        b"+PONG\r\n",
        b":-7\r\n",
        b"$6\r\na\r\nb\r\n\r\n",
        b"$0\r\n\r\n",
        b"-NOSCRIPT No matching script\r\n",
        b"*2\r\n-ERR a\r\n:1\r\n",
        b"%1\r\n+server\r\n$5\r\nredis\r\n",
        b"|1\r\n+ttl\r\n:1\r\n$1\r\nv\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"=5\r\ntxt:a\r\n",
    ];

    #[test]
    fn an_answer_is_decoded_as_the_library_does_wherever_its_bytes_are_cut() {
        for bytes in FRAMES {
            let expected = parse_redis_value(bytes).expect("RESP3");
            let mut scan = Scan::default();
            for end in 0..bytes.len() {
                assert_eq!(scan.length(&bytes[..end]).expect("RESP3"), None, "{end}");
            }
            // The next frame says nothing about this one.
            let more = [bytes, b"+"].concat();
            assert_eq!(scan.length(&more).expect("RESP3"), Some(bytes.len()));
            assert_eq!(decode(bytes).expect("RESP3"), Frame::Answer(expected));
            let mut scan = Scan::default();
            assert_eq!(scan.length(&more).expect("RESP3"), Some(bytes.len()));
        }
    }

    #[test]
    fn a_push_message_is_not_copied() {
        let bytes = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n\r\n\r\n>3\r\n";
        let length = Scan::default().length(bytes).expect("RESP3");
        let frame = decode(&bytes[..length.expect("a frame")]).expect("RESP3");
        let parts: [&[u8]; 3] = [b"message", b"c", b"\r\n\r\n"];
        assert_eq!(frame, Frame::Push(SmallVec::from_slice(&parts)));
        let frame = decode(b">3\r\n+subscribe\r\n$-1\r\n:2\r\n");
        assert!(frame.is_err(), "no text where one has to be");
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_length() {
        let long_line = |length| [b"+".to_vec(), vec![b'x'; length]].concat();
        for (is_fine, bytes) in [
            (true, b"$536870000\r\n".to_vec()),
            (false, b"$536870912\r\n".to_vec()),
            (true, b"*178000000\r\n".to_vec()),
            (false, b"*179000000\r\n".to_vec()),
            (false, b"$9223372036854775807\r\n".to_vec()),
            (true, long_line(MAXIMUM_LINE_BYTES - 1)),
            (false, long_line(MAXIMUM_LINE_BYTES)),
        ] {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
            let length = Scan::default().length(&bytes);
            assert_eq!(length.is_ok(), is_fine, "{start}");
        }
    }

    #[test]
    fn other_bytes_are_no_answer() {
        for bytes in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"*1 \r\n"] {
            assert!(Scan::default().length(bytes).is_err(), "{bytes:?}");
        }
    }
}
