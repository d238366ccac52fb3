//! The limit: one thread that writes one ready frame to every member of a room, and nothing else.
//!
//! It checks no token and keeps no state but the members. All messages of one turn of the loop share
//! one write for each member. The remaining cost is the kernel's.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use anyhow::Context;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::links::{Change, Input, Links, Ready, event_source};
use crate::wire::{frame, http};

/// Slot number of the listener's events.
const LISTENER: u32 = u32::MAX;
const OPEN: &[u8] =
    br#"0{"sid":"AAAAAAAAAAAAAAAA","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
const CONNECTED: &[u8] = br#"40{"sid":"BBBBBBBBBBBBBBBB"}"#;
/// As many bytes as the gateway adds to a message.
const META: &[u8] = br#",{"room":"lobby","epoch":"jY37Iensx0wqKyxQqVjlxA","offset":123456,"id":"jY37Iensx0wqKyxQqVjlxA","ts":1795799857000,"from":{"sub":"mdS77OIr5BpkNzwfSthdYg","name":"alice","connection":"jY37Iensx0wqKyxQqVjlxA"}}]"#;

/// Serves until the process ends.
///
/// # Errors
///
/// Returns an error if epoll fails.
pub fn serve(listener: &TcpListener) -> anyhow::Result<()> {
    listener
        .set_nonblocking(true)
        .context("the listener cannot be used")?;
    let mut server = Server {
        links: Links::new(0, 0)?,
        clients: Vec::new(),
        free: Vec::new(),
        members: Vec::new(),
        pending: Vec::new(),
        output: Vec::new(),
    };
    server.links.watch_listener(listener, LISTENER)?;
    let (mut ready, mut input) = (Vec::new(), Vec::new());
    loop {
        server.links.wait(&mut ready, None)?;
        for event in &ready {
            if event_source(event).0 == LISTENER as usize {
                server.accept(listener);
            } else {
                server.handle(event, &mut input);
            }
        }
        server.flush();
    }
}

#[derive(Clone, Copy, Default)]
struct Client {
    is_upgraded: bool,
    is_member: bool,
}

struct Server {
    links: Links,
    clients: Vec<Client>,
    free: Vec<usize>,
    members: Vec<usize>,
    /// Frames for all members that this turn of the loop has collected.
    pending: Vec<u8>,
    output: Vec<u8>,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let slot = self.free.pop().unwrap_or(self.clients.len());
            if slot == self.clients.len() {
                self.clients.push(Client::default());
            }
            self.clients[slot] = Client::default();
            let is_set = stream.set_nonblocking(true).is_ok();
            if !is_set || self.links.adopt(slot, OwnedFd::from(stream)).is_err() {
                self.free.push(slot);
            }
        }
    }

    fn handle(&mut self, event: &Ready, input: &mut Vec<u8>) {
        let (slot, _) = event_source(event);
        let Some(Change::Readable) = self.links.apply(event) else {
            return;
        };
        match self.links.read(slot, input) {
            Input::Nothing => {}
            Input::Closed(_) => self.close(slot),
            Input::Bytes => match self.consume(slot, input) {
                Ok(used) => self.links.keep(slot, input, used),
                Err(_) => self.close(slot),
            },
        }
    }

    fn close(&mut self, slot: usize) {
        if self.clients[slot].is_member {
            self.members.retain(|member| *member != slot);
        }
        self.clients[slot] = Client::default();
        self.links.close(slot);
        self.free.push(slot);
    }

    fn consume(&mut self, slot: usize, input: &mut [u8]) -> anyhow::Result<usize> {
        let mut used = 0;
        self.output.clear();
        if !self.clients[slot].is_upgraded {
            let Some(end) = http::head_end(input)? else {
                return Ok(0);
            };
            let head = std::str::from_utf8(&input[..end])?;
            let key = http::header(head, "sec-websocket-key").context("no WebSocket request")?;
            let accept = derive_accept_key(key.as_bytes());
            self.output.extend_from_slice(
                format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes(),
            );
            frame::encode_server(&mut self.output, frame::TEXT, OPEN);
            self.clients[slot].is_upgraded = true;
            used = end;
        }
        while let Some(found) = frame::decode(&input[used..])? {
            let payload = used + found.payload.start..used + found.payload.end;
            if found.opcode == frame::CLOSE {
                frame::encode_server(&mut self.output, frame::CLOSE, &[]);
                self.links.send(slot, &self.output);
                self.close(slot);
                return Ok(input.len());
            }
            unmask(&mut input[payload.clone()], found.mask);
            self.answer(slot, &input[payload.clone()]);
            used = payload.end;
        }
        if !self.output.is_empty() {
            self.links.send(slot, &self.output);
        }
        Ok(used)
    }

    /// Answers one packet, and collects the frames for all members.
    fn answer(&mut self, slot: usize, packet: &[u8]) {
        if packet.starts_with(b"40") {
            frame::encode_server(&mut self.output, frame::TEXT, CONNECTED);
        }
        let Some((id, body)) = split_event(packet) else {
            return;
        };
        if body.starts_with(b"[\"rt:subscribe\"") {
            self.clients[slot].is_member = true;
            self.members.push(slot);
        } else if let (Some(data), false) = (data_of(body), self.members.is_empty()) {
            let message = [b"42[\"m\",", data, META].concat();
            frame::encode_server(&mut self.pending, frame::TEXT, &message);
        }
        if !id.is_empty() {
            let ack = [b"43", id, b"[{\"ok\":true}]"].concat();
            frame::encode_server(&mut self.output, frame::TEXT, &ack);
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        for member in &self.members {
            self.links.send(*member, &self.pending);
        }
        self.pending.clear();
    }
}

fn unmask(payload: &mut [u8], mask: Option<[u8; 4]>) {
    if let Some(mask) = mask {
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
    }
}

/// Splits an event packet into its acknowledgement id and its JSON.
fn split_event(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = packet.strip_prefix(b"42")?;
    let start = rest.iter().position(|byte| *byte == b'[')?;
    Some(rest.split_at(start))
}

/// Returns the member `data`, which is the last one of the last argument.
fn data_of(body: &[u8]) -> Option<&[u8]> {
    let key = b"\"data\":";
    let start = body.windows(key.len()).position(|window| window == key)? + key.len();
    body.get(start..body.len().checked_sub(2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_a_message_is_found() {
        let (id, body) =
            split_event(br#"4217["rt:publish",{"event":"m","data":"x"}]"#).expect("an event");
        assert_eq!(id, b"17");
        assert_eq!(data_of(body), Some(&b"\"x\""[..]));
        assert!(split_event(b"2").is_none());
    }

    #[test]
    fn a_masked_payload_is_unmasked() {
        let mut payload = *b"abcde";
        unmask(&mut payload, Some([1, 2, 3, 4]));
        unmask(&mut payload, Some([1, 2, 3, 4]));
        assert_eq!(&payload, b"abcde");
    }
}
