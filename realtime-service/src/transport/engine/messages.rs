//! The messages of a WebSocket, assembled from frames and fragments (RFC 6455, sections 5 and 6).
//!
//! Frames that arrive whole are handled in the buffer in which they were read. A reader has memory
//! of its own only while a frame or a message is incomplete: then the bytes that have arrived, which
//! are bounded by the limit of the session, in buffers of at most twice that size.

use std::ops::ControlFlow;

use super::{
    frame::{FrameType, Header, Parsed},
    violation::Violation,
};

/// A message of a client, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
}

/// Receives messages.
pub(super) trait MessageSink {
    /// Returns the maximum size of a message at this moment, in bytes.
    fn limit(&self) -> usize;

    /// Handles a message. `Break` ends the reading: no later byte is looked at, and the reader is not used again.
    fn message(&mut self, message: Message<'_>) -> Result<ControlFlow<()>, Violation>;
}

/// Reads messages from bytes that arrive in pieces.
#[derive(Default)]
pub(super) struct MessageReader {
    /// The start of a frame whose end has not arrived.
    incomplete: Vec<u8>,
    /// The fragments of a message whose last fragment has not arrived.
    fragments: Option<Box<Fragments>>,
}

struct Fragments {
    is_text: bool,
    data: Vec<u8>,
}

impl MessageReader {
    /// Handles the next bytes of the client. The mask of payloads is removed in place.
    ///
    /// # Errors
    ///
    /// When the client breaks a rule; the connection must be closed then.
    pub(super) fn read(
        &mut self,
        mut input: &mut [u8],
        sink: &mut impl MessageSink,
    ) -> Result<ControlFlow<()>, Violation> {
        while !self.incomplete.is_empty() {
            let (taken, is_complete) = self.complete(input, self.frame_limit(sink))?;
            input = &mut input[taken..];
            if !is_complete {
                return Ok(ControlFlow::Continue(()));
            }
            let mut frame = std::mem::take(&mut self.incomplete);
            if self.read_frames(&mut frame, sink)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.read_frames(input, sink)
    }

    /// Moves bytes from `input` to the incomplete frame, never more than that frame has. Returns how
    /// many bytes it took, and whether the frame is complete.
    fn complete(&mut self, input: &[u8], limit: usize) -> Result<(usize, bool), Violation> {
        let mut taken = 0;
        loop {
            let needed_bytes = match Header::parse(&self.incomplete, limit)? {
                Parsed::Complete(header) => header.frame_bytes(),
                Parsed::Incomplete { needed_bytes } => needed_bytes,
            };
            if self.incomplete.len() == needed_bytes {
                return Ok((taken, true));
            }
            let missing = needed_bytes - self.incomplete.len();
            let added = missing.min(input.len() - taken);
            if added == 0 {
                return Ok((taken, false));
            }
            append(
                &mut self.incomplete,
                &input[taken..taken + added],
                needed_bytes,
            );
            taken += added;
        }
    }

    /// Handles the frames in `bytes`, and keeps the start of an incomplete one.
    fn read_frames(
        &mut self,
        mut bytes: &mut [u8],
        sink: &mut impl MessageSink,
    ) -> Result<ControlFlow<()>, Violation> {
        while !bytes.is_empty() {
            match Header::parse(bytes, self.frame_limit(sink))? {
                Parsed::Complete(header) if bytes.len() >= header.frame_bytes() => {
                    let (frame, rest) = bytes.split_at_mut(header.frame_bytes());
                    bytes = rest;
                    let payload = &mut frame[header.header_bytes..];
                    header.unmask(payload);
                    if self.read_frame(&header, payload, sink)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                _ => {
                    self.incomplete = bytes.to_vec();
                    break;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl MessageSink,
    ) -> Result<ControlFlow<()>, Violation> {
        match header.frame_type {
            FrameType::Ping => sink.message(Message::Ping(payload)),
            FrameType::Pong => sink.message(Message::Pong),
            FrameType::Close => sink.message(Message::Close(parse_close(payload)?)),
            FrameType::Text | FrameType::Binary => {
                if self.fragments.is_some() {
                    return Err(Violation::Protocol);
                }
                let is_text = header.frame_type == FrameType::Text;
                if header.is_final {
                    return sink.message(decode(is_text, payload)?);
                }
                let data = payload.to_vec();
                self.fragments = Some(Box::new(Fragments { is_text, data }));
                Ok(ControlFlow::Continue(()))
            }
            FrameType::Continuation => {
                let fragments = self.fragments.as_mut().ok_or(Violation::Protocol)?;
                append(&mut fragments.data, payload, sink.limit());
                if !header.is_final {
                    return Ok(ControlFlow::Continue(()));
                }
                match self.fragments.take() {
                    Some(whole) => sink.message(decode(whole.is_text, &whole.data)?),
                    None => Err(Violation::Protocol),
                }
            }
        }
    }

    /// Returns the maximum payload of the next frame: the fragments of a message share its limit.
    fn frame_limit(&self, sink: &impl MessageSink) -> usize {
        let collected = self.fragments.as_ref().map_or(0, |all| all.data.len());
        sink.limit().saturating_sub(collected)
    }

    /// Returns the size of the buffers of the reader, in bytes.
    #[cfg(test)]
    fn memory(&self) -> usize {
        let fragments = self.fragments.as_ref();
        self.incomplete.capacity() + fragments.map_or(0, |all| all.data.capacity())
    }
}

/// Appends `bytes` to a buffer that ends with `expected` bytes. The buffer grows with the bytes that
/// arrive, not with the length that the client announces, and not beyond that length.
fn append(buffer: &mut Vec<u8>, bytes: &[u8], expected: usize) {
    let length = buffer.len() + bytes.len();
    if buffer.capacity() < length {
        let capacity = length.max(expected.min(2 * length));
        buffer.reserve_exact(capacity - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

fn decode(is_text: bool, payload: &[u8]) -> Result<Message<'_>, Violation> {
    match is_text {
        false => Ok(Message::Binary(payload)),
        true => simdutf8::basic::from_utf8(payload)
            .map(Message::Text)
            .map_err(|_| Violation::InvalidText),
    }
}

/// Returns the code of a close frame (RFC 6455, sections 5.5.1 and 7.4).
fn parse_close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [first, second, reason @ ..] => {
            let code = u16::from_be_bytes([*first, *second]);
            // 1004, 1005, 1006 and 1015 are not sent; the rest below 3000 is unassigned.
            let is_valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            if !is_valid {
                return Err(Violation::Protocol);
            }
            simdutf8::basic::from_utf8(reason).map_err(|_| Violation::InvalidText)?;
            Ok(Some(code))
        }
        [_] => Err(Violation::Protocol),
    }
}

// The fuzz targets compile this file too, under another module.
#[cfg(test)]
#[path = "messages/tests.rs"]
mod tests;
