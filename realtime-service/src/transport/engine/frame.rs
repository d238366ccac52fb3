//! WebSocket frames as clients send them (RFC 6455, section 5).
//!
//! A header is checked as soon as its bytes are there: no memory is taken for a frame that breaks
//! the rules or is too large.

use super::violation::Violation;

/// The longest payload of a control frame, in bytes (RFC 6455, section 5.5).
pub(super) const MAXIMUM_CONTROL_BYTES: usize = 125;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameType {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl FrameType {
    fn parse(opcode: u8) -> Result<Self, Violation> {
        match opcode {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            _ => Err(Violation::Protocol),
        }
    }

    /// Whether a frame of this type may come between the fragments of a message.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_final: bool,
    pub(super) frame_type: FrameType,
    /// The length of the header itself, in bytes.
    pub(super) header_bytes: usize,
    /// The length of the payload, in bytes.
    pub(super) payload_bytes: usize,
    mask: [u8; 4],
}

/// A header that is complete, or the number of bytes that the parser needs to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Complete(Header),
    Incomplete { needed_bytes: usize },
}

impl Header {
    /// Parses the header at the start of `bytes`. A payload of more than `limit` bytes is refused.
    ///
    /// A length that is not in its shortest form is accepted.
    ///
    /// # Errors
    ///
    /// When the header breaks the protocol, or the payload is too large.
    pub(super) fn parse(bytes: &[u8], limit: usize) -> Result<Parsed, Violation> {
        let &[first, second, ..] = bytes else {
            return Ok(Parsed::Incomplete { needed_bytes: 2 });
        };
        const FINAL: u8 = 0x80;
        const RESERVED: u8 = 0x70;
        const MASKED: u8 = 0x80;
        let is_final = first & FINAL != 0;
        let frame_type = FrameType::parse(first & 0x0F)?;
        // No extension is negotiated, and a client masks every frame.
        if first & RESERVED != 0 || second & MASKED == 0 {
            return Err(Violation::Protocol);
        }
        let short_length = usize::from(second & !MASKED);
        let is_fragment_or_long = !is_final || short_length > MAXIMUM_CONTROL_BYTES;
        if frame_type.is_control() && is_fragment_or_long {
            return Err(Violation::Protocol);
        }
        let length_bytes = match short_length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let header_bytes = 2 + length_bytes + 4;
        let Some(length) = bytes.get(2..2 + length_bytes) else {
            return Ok(Parsed::Incomplete {
                needed_bytes: header_bytes,
            });
        };
        let payload_bytes = match length_bytes {
            0 => short_length as u64,
            _ => length
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if payload_bytes >> 63 != 0 {
            return Err(Violation::Protocol);
        }
        let payload_bytes = usize::try_from(payload_bytes)
            .ok()
            .filter(|bytes| frame_type.is_control() || *bytes <= limit)
            .ok_or(Violation::TooLarge)?;
        let Some(&[a, b, c, d]) = bytes.get(2 + length_bytes..header_bytes) else {
            return Ok(Parsed::Incomplete {
                needed_bytes: header_bytes,
            });
        };
        Ok(Parsed::Complete(Self {
            is_final,
            frame_type,
            header_bytes,
            payload_bytes,
            mask: [a, b, c, d],
        }))
    }

    /// The length of the whole frame, in bytes.
    pub(super) fn frame_bytes(&self) -> usize {
        self.header_bytes + self.payload_bytes
    }

    /// Removes the mask from the payload of this frame.
    pub(super) fn unmask(&self, payload: &mut [u8]) {
        let [a, b, c, d] = self.mask;
        let wide_mask = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (chunks, rest) = payload.as_chunks_mut::<8>();
        for chunk in chunks {
            *chunk = (u64::from_ne_bytes(*chunk) ^ wide_mask).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(self.mask.iter().cycle()) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100_000;

    fn parse(bytes: &[u8]) -> Result<Parsed, Violation> {
        Header::parse(bytes, LIMIT)
    }

    #[test]
    fn lengths_are_read_in_each_form_and_the_shortest_is_not_demanded() {
        for (bytes, header_bytes, payload_bytes) in [
            (vec![0x81, 0x80, 1, 2, 3, 4], 6, 0),
            (vec![0x81, 0x80 | 125, 1, 2, 3, 4], 6, 125),
            (vec![0x81, 0xFE, 0, 126, 1, 2, 3, 4], 8, 126),
            (vec![0x81, 0xFE, 0, 5, 1, 2, 3, 4], 8, 5),
            (
                vec![0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
                14,
                65536,
            ),
        ] {
            let Ok(Parsed::Complete(header)) = parse(&bytes) else {
                panic!("not complete: {bytes:?}");
            };
            assert_eq!(header.header_bytes, header_bytes);
            assert_eq!(header.payload_bytes, payload_bytes);
            for end in 0..bytes.len() {
                let Ok(Parsed::Incomplete { needed_bytes }) = parse(&bytes[..end]) else {
                    panic!("complete too early: {bytes:?} up to {end}");
                };
                assert!(needed_bytes > end && needed_bytes <= header_bytes);
            }
        }
    }

    #[test]
    fn a_frame_that_breaks_the_protocol_is_refused_at_its_second_byte() {
        for bytes in [
            [0x81, 0x00],
            [0xC1, 0x80],
            [0xA1, 0x80],
            [0x91, 0x80],
            [0x83, 0x80],
            [0x87, 0x80],
            [0x8B, 0x80],
            [0x8F, 0x80],
            [0x09, 0x80],
            [0x08, 0x80],
            [0x89, 0xFE],
            [0x88, 0xFF],
        ] {
            assert_eq!(parse(&bytes), Err(Violation::Protocol), "{bytes:X?}");
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_before_its_payload() {
        let too_large = [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0x86, 0xA1];
        assert_eq!(parse(&too_large), Err(Violation::TooLarge));
        let absurd = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(parse(&absurd), Err(Violation::TooLarge));
        let negative = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse(&negative), Err(Violation::Protocol));
    }

    #[test]
    fn a_mask_applies_to_every_byte() {
        let Ok(Parsed::Complete(header)) = parse(&[0x82, 0x80 | 21, 1, 2, 3, 4]) else {
            panic!("not complete");
        };
        let mut payload = [0_u8; 21];
        header.unmask(&mut payload);
        let expected: Vec<u8> = [1, 2, 3, 4].into_iter().cycle().take(21).collect();
        assert_eq!(payload.as_slice(), expected);
    }
}
