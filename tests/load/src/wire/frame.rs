//! WebSocket frames (RFC 6455, section 5) of one fragment, in both directions.

use std::ops::Range;

use anyhow::bail;

/// The opcode of a text message.
pub(crate) const TEXT: u8 = 1;
/// The opcode of a close frame.
pub(crate) const CLOSE: u8 = 8;
/// The opcode of a WebSocket ping.
pub(crate) const PING: u8 = 9;
/// The opcode of a WebSocket pong.
pub(crate) const PONG: u8 = 10;

/// Largest payload that the decoder accepts, in bytes.
const MAXIMUM_PAYLOAD_BYTES: u64 = 16 * 1024 * 1024;

/// Location of one complete frame at the start of a buffer.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    /// Opcode of the frame.
    pub(crate) opcode: u8,
    /// Masking key, if the frame comes from a client.
    pub(crate) mask: Option<[u8; 4]>,
    /// Position of the payload in the buffer.
    pub(crate) payload: Range<usize>,
}

/// Appends a client's frame to `out`.
///
/// The masking key is zero: the frame is valid, the receiver does its usual work, and the generator
/// copies the payload unchanged.
pub(crate) fn encode_client(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    header(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends a server's frame to `out`.
pub(crate) fn encode_server(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    header(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn header(out: &mut Vec<u8>, opcode: u8, length: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.push(mask_bit | short),
        (_, Ok(medium)) => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Finds the first complete frame in `bytes`, or returns `None` if more bytes are needed.
///
/// # Errors
///
/// Returns an error for a fragmented or compressed message and for a payload of more than 16 MiB.
pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<Option<Frame>> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    let opcode = first & 0x0f;
    if first & 0xf0 != 0x80 || opcode == 0 {
        bail!("the peer sent a fragmented or compressed message; turn compression off there");
    }
    let (length, mut start) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(field) => (
                field
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
                4,
            ),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(field) => (
                field
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
                10,
            ),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if length > MAXIMUM_PAYLOAD_BYTES {
        bail!(
            "the peer sent a frame of {length} bytes; at most {MAXIMUM_PAYLOAD_BYTES} are accepted"
        );
    }
    let mut mask = None;
    if second & 0x80 != 0 {
        let Some(key) = bytes.get(start..start + 4) else {
            return Ok(None);
        };
        mask = key.try_into().ok();
        start += 4;
    }
    let end = start + usize::try_from(length)?;
    if bytes.len() < end {
        return Ok(None);
    }
    Ok(Some(Frame {
        opcode,
        mask,
        payload: start..end,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_a_frame_is_decoded() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let payload = vec![b'x'; length];
            for encode in [encode_client, encode_server] {
                let mut bytes = Vec::new();
                encode(&mut bytes, TEXT, &payload);
                let frame = decode(&bytes)
                    .expect("a valid frame")
                    .expect("a complete frame");
                assert_eq!(frame.opcode, TEXT);
                assert_eq!(bytes[frame.payload.clone()], payload);
                assert_eq!(frame.payload.end, bytes.len());
            }
        }
    }

    #[test]
    fn an_incomplete_frame_needs_more_bytes() {
        let mut bytes = Vec::new();
        encode_client(&mut bytes, TEXT, &[b'x'; 300]);
        for end in 0..bytes.len() {
            assert_eq!(
                decode(&bytes[..end]).expect("no error"),
                None,
                "{end} bytes"
            );
        }
    }

    #[test]
    fn only_the_first_of_two_frames_is_taken() {
        let mut bytes = Vec::new();
        encode_server(&mut bytes, PING, b"a");
        encode_server(&mut bytes, TEXT, b"bc");
        let frame = decode(&bytes)
            .expect("a valid frame")
            .expect("a complete frame");
        assert_eq!(
            (frame.opcode, frame.mask, frame.payload),
            (PING, None, 2..3)
        );
    }

    #[test]
    fn a_fragmented_message_and_a_huge_one_are_errors() {
        assert!(decode(&[0x01, 1, b'a']).is_err());
        assert!(decode(&[0xc1, 1, b'a']).is_err());
        assert!(decode(&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
