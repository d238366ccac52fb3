//! Adds `data` to refusals on their way out.
//!
//! Clients of Socket.IO 3 and 4 read `err.data` in `connect_error`, but socketioxide sends the
//! message alone. The message identifies its refusal, so the rest can be added where the bytes
//! leave the gateway: in the frames of a WebSocket, and in the bodies of polls. Once the session is
//! admitted its bytes pass untouched. On the day that socketioxide sends `data`, this file goes.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use serde::Deserialize;
use serde_json::json;
use shared_claims::Rejection;

/// Separates the packets in the body of a poll (Engine.IO protocol 4).
const RECORD_SEPARATOR: u8 = 0x1E;

/// The longest frame that is looked into, in bytes. What goes out before admission is far shorter.
const MAXIMUM_FRAME_BYTES: usize = 4096;

/// Which clients a refusal is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Socket.IO 3 and 4, whose error is an object with `message` and `data`.
    WithData = 1,
    /// Socket.IO 2, whose error is the data itself.
    DataAlone = 2,
}

/// Whether refusals are rewritten on a stream; shared by the stream and whoever knows its session.
#[derive(Clone, Default)]
pub struct RefusalData(Arc<AtomicU8>);

impl RefusalData {
    /// Starts to rewrite. The next thing on the stream must be the answer to an upgrade.
    pub fn start(&self, dialect: Dialect) {
        self.0.store(dialect as u8, Ordering::Release);
    }

    /// Stops: from the next write on, all bytes pass untouched.
    pub fn stop(&self) {
        self.0.store(0, Ordering::Release);
    }

    pub(super) fn dialect(&self) -> Option<Dialect> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(Dialect::WithData),
            2 => Some(Dialect::DataAlone),
            _ => None,
        }
    }
}

/// The packet with its data, when it is a refusal: `44{"message":"…"}`.
fn with_data(packet: &[u8], dialect: Dialect) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Refused {
        message: String,
    }

    let json = packet.strip_prefix(b"44")?;
    let Refused { message } = serde_json::from_slice(json).ok()?;
    let rejection = Rejection::ALL
        .into_iter()
        .find(|one| one.message() == message)?;
    let data = json!({
        "message": message,
        "code": rejection.code(),
        "type": "UnauthorizedError",
        "reason": rejection.reason(),
    });
    let error = match dialect {
        Dialect::WithData => json!({ "message": message, "data": data }),
        Dialect::DataAlone => data,
    };
    Some(format!("44{error}").into_bytes())
}

/// The body of a poll with the data of the refusals in it; `None` when there are none.
#[must_use]
pub fn in_body(body: &[u8], dialect: Dialect) -> Option<Vec<u8>> {
    match dialect {
        Dialect::WithData => {
            let packets = body.split(|byte| *byte == RECORD_SEPARATOR);
            let mut is_changed = false;
            let packets: Vec<Vec<u8>> = packets
                .map(|packet| match with_data(packet, dialect) {
                    Some(changed) => {
                        is_changed = true;
                        changed
                    }
                    None => packet.to_vec(),
                })
                .collect();
            is_changed.then(|| packets.join(&RECORD_SEPARATOR))
        }
        Dialect::DataAlone => in_body_of_protocol_3(body),
    }
}

/// The same for Engine.IO protocol 3, which writes `LENGTH:PACKET`, the length in characters.
fn in_body_of_protocol_3(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = std::str::from_utf8(body).ok()?;
    let (mut rewritten, mut is_changed) = (Vec::new(), false);
    while !rest.is_empty() {
        let (length, packets) = rest.split_once(':')?;
        let length: usize = length.parse().ok()?;
        let end = packets
            .char_indices()
            .nth(length)
            .map_or(packets.len(), |(end, _)| end);
        let (packet, after) = packets.split_at(end);
        let changed = with_data(packet.as_bytes(), Dialect::DataAlone);
        is_changed |= changed.is_some();
        let packet = changed.unwrap_or_else(|| packet.as_bytes().to_vec());
        // What was rewritten is ASCII, so its bytes are its characters.
        let length = std::str::from_utf8(&packet).ok()?.chars().count();
        rewritten.extend_from_slice(format!("{length}:").as_bytes());
        rewritten.extend_from_slice(&packet);
        rest = after;
    }
    is_changed.then_some(rewritten)
}

/// Rewrites what one stream writes, from the answer to the upgrade on.
#[derive(Default)]
pub(super) struct Rewriter {
    /// What came in and is not yet a whole head or frame.
    partial: Vec<u8>,
    /// Set once the head of the answer has passed.
    is_websocket: bool,
    /// Set when the stream is none that can be rewritten.
    has_given_up: bool,
}

impl Rewriter {
    /// Takes `bytes` in, and appends to `out` what can go out by now.
    pub(super) fn push(&mut self, bytes: &[u8], dialect: Option<Dialect>, out: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        if let Some(dialect) = dialect {
            while !self.has_given_up && self.take_one(dialect, out) {}
        }
        if dialect.is_none() || self.has_given_up {
            out.append(&mut self.partial);
        }
    }

    /// Whether something came in that is not out yet.
    pub(super) fn holds_back(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Moves one head or frame out; `false` when there is no whole one.
    fn take_one(&mut self, dialect: Dialect, out: &mut Vec<u8>) -> bool {
        if !self.is_websocket {
            let Some(end) = self.partial.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.has_given_up = self.partial.len() > MAXIMUM_FRAME_BYTES;
                return false;
            };
            self.is_websocket = true;
            self.has_given_up = !self.partial.starts_with(b"HTTP/1.1 101 ");
            out.extend(self.partial.drain(..end + 4));
            return true;
        }
        let Some((head, length)) = frame_length(&self.partial) else {
            return false;
        };
        if length > MAXIMUM_FRAME_BYTES {
            self.has_given_up = true;
            return false;
        }
        if self.partial.len() < head + length {
            return false;
        }
        let frame: Vec<u8> = self.partial.drain(..head + length).collect();
        match (frame[0] == FINAL_TEXT)
            .then(|| with_data(&frame[head..], dialect))
            .flatten()
        {
            Some(packet) => append_text_frame(&packet, out),
            None => out.extend_from_slice(&frame),
        }
        true
    }
}

/// The first byte of a text frame that is not continued (RFC 6455, section 5.2).
const FINAL_TEXT: u8 = 0x81;

/// How long a frame's head and its payload are; `None` when not even the head is whole. A server's
/// frames have no mask.
fn frame_length(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => {
            let length: [u8; 2] = bytes.get(2..4)?.try_into().ok()?;
            Some((4, usize::from(u16::from_be_bytes(length))))
        }
        127 => {
            let length: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            Some((
                10,
                usize::try_from(u64::from_be_bytes(length)).unwrap_or(usize::MAX),
            ))
        }
        length => Some((2, usize::from(length))),
    }
}

fn append_text_frame(payload: &[u8], out: &mut Vec<u8>) {
    out.push(FINAL_TEXT);
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(length),
        _ => {
            // A refusal is a few hundred bytes long.
            let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
    const REFUSAL: &[u8] = br#"44{"message":"jwt expired"}"#;
    const DATA: &str = r#"{"code":"invalid_token","message":"jwt expired","reason":"token_expired","type":"UnauthorizedError"}"#;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        append_text_frame(payload, &mut frame);
        frame
    }

    fn expected() -> Vec<u8> {
        format!(r#"44{{"data":{DATA},"message":"jwt expired"}}"#).into_bytes()
    }

    #[test]
    fn a_refusal_among_other_frames_gets_its_data_however_the_writes_are_split() {
        let before = [
            HEAD,
            &frame(b"0{\"sid\":\"x\"}"),
            &frame(REFUSAL),
            &frame(b"2"),
        ]
        .concat();
        let after = [
            HEAD,
            &frame(b"0{\"sid\":\"x\"}"),
            &frame(&expected()),
            &frame(b"2"),
        ]
        .concat();
        for size in 1..before.len() {
            let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
            for chunk in before.chunks(size) {
                rewriter.push(chunk, Some(Dialect::WithData), &mut out);
            }
            assert_eq!(out, after, "in chunks of {size}");
        }
    }

    #[test]
    fn bytes_pass_untouched_once_it_is_stopped() {
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        let half = frame(REFUSAL);
        rewriter.push(HEAD, Some(Dialect::WithData), &mut out);
        rewriter.push(&half[..5], Some(Dialect::WithData), &mut out);
        rewriter.push(&half[5..], None, &mut out);
        rewriter.push(&frame(REFUSAL), None, &mut out);
        assert_eq!(out, [HEAD, &half, &half].concat());
    }

    #[test]
    fn an_answer_that_is_no_upgrade_and_frames_that_are_long_pass_untouched() {
        for bytes in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n{\"code\":3}".to_vec(),
            [
                HEAD,
                &frame(&vec![b'x'; MAXIMUM_FRAME_BYTES + 1]),
                &frame(REFUSAL),
            ]
            .concat(),
            [HEAD, &frame(br#"44{"message":"Invalid namespace"}"#)].concat(),
            [HEAD, &frame(br#"42["x",{"message":"jwt expired"}]"#)].concat(),
        ] {
            let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
            rewriter.push(&bytes, Some(Dialect::WithData), &mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn a_poll_gets_the_data_too() {
        let body = [b"2\x1e", REFUSAL].concat();
        let rewritten = [b"2\x1e".to_vec(), expected()].concat();
        assert_eq!(in_body(&body, Dialect::WithData), Some(rewritten));
        assert_eq!(in_body(b"2\x1e40{}", Dialect::WithData), None);
    }

    #[test]
    fn version_2_gets_the_data_alone() {
        let packet = format!("44{DATA}");
        let rewritten = format!("1:2{}:{packet}", packet.len());
        let body = format!("1:2{}:{}", REFUSAL.len(), String::from_utf8_lossy(REFUSAL));
        assert_eq!(
            in_body(body.as_bytes(), Dialect::DataAlone),
            Some(rewritten.into_bytes())
        );
        assert_eq!(in_body("3:4é2".as_bytes(), Dialect::DataAlone), None);
    }
}
