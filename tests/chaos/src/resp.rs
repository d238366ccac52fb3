//! Frames of RESP3, the protocol of Redis, in the direction from the server.

/// Returns the length of the first frame in `bytes`; `None` when it is not complete.
pub(crate) fn frame_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")?;
    let mut end = line + 2;
    let count = || -> usize {
        let text = str::from_utf8(&bytes[1..line]).unwrap_or_default();
        // A null of RESP2 has the length -1, and nothing follows.
        text.parse().unwrap_or_default()
    };
    let parts = match bytes[0] {
        b'$' | b'=' | b'!' => {
            let is_null = bytes[1..line].starts_with(b"-");
            end += if is_null { 0 } else { count() + 2 };
            0
        }
        b'*' | b'~' | b'>' => count(),
        b'%' => count() * 2,
        // An attribute precedes the value that it is about.
        b'|' => count() * 2 + 1,
        _ => 0,
    };
    for _ in 0..parts {
        end += frame_length(bytes.get(end..)?)?;
    }
    (end <= bytes.len()).then_some(end)
}

/// Whether a frame is a message of a channel, sharded or not.
pub(crate) fn is_message(frame: &[u8]) -> bool {
    frame.starts_with(b">3\r\n$7\r\nmessage\r\n") || frame.starts_with(b">3\r\n$8\r\nsmessage\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_complete_with_its_last_byte() {
        for frame in [
            "+OK\r\n",
            ":-7\r\n",
            "_\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "$4\r\na\r\nb\r\n",
            "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            "%1\r\n+proto\r\n:3\r\n",
            "|1\r\n+key\r\n+ttl\r\n:1\r\n",
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
        ] {
            let bytes = frame.as_bytes();
            let more = [bytes, b"+next\r\n"].concat();
            assert_eq!(frame_length(&more), Some(bytes.len()), "{frame}");
            for end in 0..bytes.len() {
                assert_eq!(frame_length(&bytes[..end]), None, "{frame} {end}");
            }
        }
    }

    #[test]
    fn a_message_is_told_from_other_pushes() {
        assert!(is_message(
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
        ));
        assert!(is_message(
            b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
        ));
        assert!(!is_message(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"));
        assert!(!is_message(b"$7\r\nmessage\r\n"));
    }
}
