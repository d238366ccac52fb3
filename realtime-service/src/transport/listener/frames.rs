//! Counts the messages that leave by a WebSocket.

use arc_swap::ArcSwapOption;

/// The longest header of an unmasked frame, in bytes (RFC 6455, section 5.2).
const MAXIMUM_HEADER_BYTES: usize = 10;

/// The end of the answer to an upgrade.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Who is told how many frames of messages have left by a connection.
#[derive(Default)]
pub struct Observer(ArcSwapOption<Observe>);

type Observe = Box<dyn Fn(usize) + Send + Sync>;

impl Observer {
    /// Calls `observe` from now on.
    pub fn set(&self, observe: impl Fn(usize) + Send + Sync + 'static) {
        let observe: Observe = Box::new(observe);
        self.0.store(Some(observe.into()));
    }

    /// Calls nobody any more.
    pub fn clear(&self) {
        self.0.store(None);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load().is_some()
    }

    pub(super) fn observe(&self, frames: usize) {
        if let Some(observe) = &*self.0.load() {
            observe(frames);
        }
    }
}

/// Follows the frames in what a server writes, from the head of its answer to the upgrade on.
///
/// Only the frames of messages count: binary data, and texts that begin with the Engine.IO type of a
/// message. Of those, CONNECT and CONNECT_ERROR do not count: socketioxide writes them by itself.
#[derive(Default)]
pub(super) struct FrameCounter {
    /// How much of [`END_OF_HEAD`] was seen, until all of it was.
    head: usize,
    header: [u8; MAXIMUM_HEADER_BYTES],
    header_bytes: usize,
    /// How much of the payload is to come, once the header is whole.
    rest: Option<usize>,
    /// The first bytes of the payload.
    start: [u8; 2],
    start_bytes: usize,
}

impl FrameCounter {
    /// Takes what was written, and returns how many frames of messages it completes.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut count = 0;
        while !bytes.is_empty() {
            if self.head < END_OF_HEAD.len() {
                self.head = match bytes[0] == END_OF_HEAD[self.head] {
                    true => self.head + 1,
                    false => usize::from(bytes[0] == END_OF_HEAD[0]),
                };
                bytes = &bytes[1..];
                continue;
            }
            match self.rest {
                None => {
                    self.header[self.header_bytes] = bytes[0];
                    self.header_bytes += 1;
                    bytes = &bytes[1..];
                    self.rest = payload_length(&self.header[..self.header_bytes]);
                }
                Some(rest) => {
                    let there = rest.min(bytes.len());
                    self.remember_start(&bytes[..there]);
                    self.rest = Some(rest - there);
                    bytes = &bytes[there..];
                }
            }
            if self.rest == Some(0) {
                count += usize::from(self.is_message());
                self.begin_frame();
            }
        }
        count
    }

    fn remember_start(&mut self, payload: &[u8]) {
        for byte in payload.iter().take(self.start.len() - self.start_bytes) {
            self.start[self.start_bytes] = *byte;
            self.start_bytes += 1;
        }
    }

    fn is_message(&self) -> bool {
        match self.header[0] & 0x0F {
            2 => true,
            1 => is_message(&self.start[..self.start_bytes]),
            _ => false,
        }
    }

    fn begin_frame(&mut self) {
        (self.header_bytes, self.start_bytes, self.rest) = (0, 0, None);
    }
}

/// Whether an Engine.IO packet is a message that socketioxide was given: of those that it writes by
/// itself, CONNECT and CONNECT_ERROR are messages too.
pub(in crate::transport) fn is_message(packet: &[u8]) -> bool {
    packet.first() == Some(&b'4') && !matches!(packet.get(1), Some(b'0' | b'4'))
}

/// The length of a frame's payload; `None` while its header is incomplete.
fn payload_length(header: &[u8]) -> Option<usize> {
    match *header.get(1)? {
        126 => {
            let length = header.get(2..4)?.try_into().ok()?;
            Some(usize::from(u16::from_be_bytes(length)))
        }
        127 => {
            let length = header.get(2..10)?.try_into().ok()?;
            Some(usize::try_from(u64::from_be_bytes(length)).unwrap_or(usize::MAX))
        }
        length => Some(usize::from(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn messages_count_however_they_are_cut_and_nothing_else_does() {
        let long = [b"42[".as_slice(), &[b'x'; 300]].concat();
        let bytes = [
            b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec(),
            frame(1, b"0{}"),
            frame(1, b"40{\"sid\":\"x\"}"),
            frame(1, b"42[\"a\"]"),
            frame(1, b"2"),
            frame(2, b""),
            frame(1, &long),
            frame(1, b"44{}"),
            frame(1, b"41"),
            frame(8, b""),
        ]
        .concat();
        for size in [1, 2, 7, bytes.len()] {
            let mut counter = FrameCounter::default();
            let counts = bytes.chunks(size).map(|part| counter.count(part));
            assert_eq!(counts.sum::<usize>(), 4, "{size}");
        }
    }
}
