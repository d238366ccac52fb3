//! The state of one client, and its reaction to each packet of the server.

use std::time::Instant;

use anyhow::{Context, bail};

use crate::sockets::{Sockets, Workload};
use crate::target::Transport;
use crate::wire::{frame, http, packet};

/// Separator of packets in a polling payload.
const SEPARATOR: u8 = 0x1e;

/// Phase of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    /// No connection.
    Closed,
    /// Waits for its turn.
    Queued,
    /// The TCP connection is being established.
    Tcp,
    /// Polling: waits for the open packet, or for the acknowledgement of CONNECT.
    Polling,
    /// WebSocket: waits for the response to the upgrade request.
    Upgrade,
    /// WebSocket: waits for the answer to the probe of an upgraded session.
    Probe,
    /// WebSocket: waits for the open packet.
    Open,
    /// WebSocket: waits for the acknowledgement of CONNECT.
    Connect,
    /// CONNECT is acknowledged.
    Admitted,
    /// A close frame was sent.
    Closing,
}

impl Phase {
    /// Returns whether a handshake is in progress.
    pub(crate) fn is_opening(self) -> bool {
        use Phase::{Connect, Open, Polling, Probe, Tcp, Upgrade};
        matches!(self, Tcp | Polling | Upgrade | Probe | Open | Connect)
    }
}

/// One client.
pub(crate) struct Session {
    pub(crate) phase: Phase,
    pub(crate) transport: Transport,
    /// Start of the handshake, or of the orderly close.
    pub(crate) since: Instant,
    /// Id of an Engine.IO session that began with polling.
    sid: Option<Box<str>>,
    /// Packets for the next POST of a polling client.
    unposted: Vec<u8>,
}

impl Session {
    /// Creates a client without a connection.
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            phase: Phase::Closed,
            transport,
            since: Instant::now(),
            sid: None,
            unposted: Vec::new(),
        }
    }

    /// Prepares a new handshake.
    pub(crate) fn begin(&mut self) {
        self.since = Instant::now();
        self.sid = None;
        self.unposted.clear();
    }

    /// Changes the phase; an orderly close restarts the clock.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        if phase == Phase::Closing {
            self.since = Instant::now();
        }
    }

    /// Queues a packet for the next POST.
    pub(crate) fn queue_post(&mut self, packet: &[u8]) {
        if !self.unposted.is_empty() {
            self.unposted.push(SEPARATOR);
        }
        self.unposted.extend_from_slice(packet);
    }
}

impl Sockets {
    /// Sends the first request of an established TCP connection.
    pub(crate) fn send_request(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        let sid = session.sid.as_deref().unwrap_or_default();
        if session.transport == Transport::Websocket || !sid.is_empty() {
            let request = self.target.request(slot, "GET", "websocket", sid);
            session.enter(Phase::Upgrade);
            self.links.send(slot, request.as_bytes());
        } else {
            session.enter(Phase::Polling);
            self.poll(slot);
        }
    }

    /// Handles the bytes at the start of `input` and returns how many were used.
    pub(crate) fn consume<W: Workload>(
        &mut self,
        workload: &mut W,
        slot: usize,
        input: &[u8],
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            let session = &self.sessions[slot];
            let size = match session.phase {
                Phase::Closed | Phase::Queued | Phase::Tcp => return Ok(input.len()),
                Phase::Upgrade => self.handle_upgrade(slot, rest)?,
                _ if session.transport == Transport::Polling || session.phase == Phase::Polling => {
                    self.handle_poll(workload, slot, rest)?
                }
                _ => self.handle_frame(workload, slot, rest)?,
            };
            match size {
                Some(size) => used += size,
                None => break,
            }
        }
        Ok(used)
    }

    fn handle_upgrade(&mut self, slot: usize, input: &[u8]) -> anyhow::Result<Option<usize>> {
        let Some(response) = http::decode_response(input)? else {
            return Ok(None);
        };
        if response.status != 101 {
            bail!("the server answered the upgrade with {}", response.status);
        }
        if self.sessions[slot].sid.is_some() {
            self.send_frame(slot, frame::TEXT, b"2probe");
            self.sessions[slot].enter(Phase::Probe);
        } else {
            self.sessions[slot].enter(Phase::Open);
        }
        Ok(Some(response.body.end))
    }

    fn handle_frame<W: Workload>(
        &mut self,
        workload: &mut W,
        slot: usize,
        input: &[u8],
    ) -> anyhow::Result<Option<usize>> {
        let Some(found) = frame::decode(input)? else {
            return Ok(None);
        };
        let payload = &input[found.payload.clone()];
        match found.opcode {
            frame::TEXT => self.handle_packet(workload, slot, payload)?,
            frame::PING => self.send_frame(slot, frame::PONG, payload),
            frame::CLOSE => self.lose(workload, slot, "the server sent a close frame"),
            _ => {}
        }
        Ok(Some(found.payload.end))
    }

    fn handle_packet<W: Workload>(
        &mut self,
        workload: &mut W,
        slot: usize,
        payload: &[u8],
    ) -> anyhow::Result<()> {
        if payload == packet::PING {
            self.send(slot, packet::PONG);
            return Ok(());
        }
        match self.sessions[slot].phase {
            Phase::Admitted if payload.starts_with(b"41") => {
                self.cut(slot);
                workload.on_disconnected(self, slot);
            }
            Phase::Admitted if payload == b"1" => {
                self.lose(workload, slot, "the server closed the session");
            }
            Phase::Admitted => workload.on_packet(self, slot, payload),
            Phase::Open if payload.starts_with(b"0") => self.send_connect(slot, Phase::Connect),
            Phase::Probe if payload == b"3probe" => {
                self.send_frame(slot, frame::TEXT, b"5");
                self.send_connect(slot, Phase::Connect);
            }
            Phase::Connect | Phase::Polling => self.handle_answer(workload, slot, payload)?,
            Phase::Closing => {}
            phase => bail!(
                "unexpected packet in phase {phase:?}: {}",
                String::from_utf8_lossy(&payload[..payload.len().min(100)])
            ),
        }
        Ok(())
    }

    fn send_connect(&mut self, slot: usize, next: Phase) {
        let connect = self.target.connect_packet(slot);
        self.send(slot, connect.as_bytes());
        self.sessions[slot].enter(next);
    }

    /// Handles the answer to CONNECT, and the open packet of a polling session.
    fn handle_answer<W: Workload>(
        &mut self,
        workload: &mut W,
        slot: usize,
        payload: &[u8],
    ) -> anyhow::Result<()> {
        if payload.starts_with(&self.connected_prefix) {
            self.leave_opening(slot);
            self.sessions[slot].enter(Phase::Admitted);
            workload.on_admitted(self, slot);
        } else if payload.starts_with(b"44") {
            let reason = String::from_utf8_lossy(payload).into_owned();
            self.cut(slot);
            workload.on_refused(self, slot, &reason);
        } else if self.sessions[slot].phase == Phase::Polling && payload.starts_with(b"0") {
            self.handle_polling_open(slot, &payload[1..])?;
        }
        Ok(())
    }

    fn handle_polling_open(&mut self, slot: usize, json: &[u8]) -> anyhow::Result<()> {
        let open: serde_json::Value =
            serde_json::from_slice(json).context("the open packet is not JSON")?;
        let sid = open["sid"].as_str().context("the open packet has no sid")?;
        self.sessions[slot].sid = Some(sid.into());
        if self.sessions[slot].transport == Transport::Upgrade {
            // The poll has ended: its connection is closed, and the session goes on by WebSocket.
            self.links.reset(slot);
            return self.connect(slot);
        }
        self.send_connect(slot, Phase::Polling);
        Ok(())
    }

    fn handle_poll<W: Workload>(
        &mut self,
        workload: &mut W,
        slot: usize,
        input: &[u8],
    ) -> anyhow::Result<Option<usize>> {
        let Some(response) = http::decode_response(input)? else {
            return Ok(None);
        };
        let body = &input[response.body.clone()];
        if response.status != 200 {
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            bail!(
                "the server answered a poll with {}: {text}",
                response.status
            );
        }
        if body != b"ok" {
            for payload in body.split(|byte| *byte == SEPARATOR) {
                self.handle_packet(workload, slot, payload)?;
            }
        }
        if matches!(self.sessions[slot].phase, Phase::Polling | Phase::Admitted) {
            self.poll(slot);
        }
        Ok(Some(response.body.end))
    }

    /// Sends the next request of a polling client: a POST if packets wait, else a GET.
    fn poll(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        let sid = session.sid.as_deref().unwrap_or_default();
        if session.unposted.is_empty() {
            let request = self.target.request(slot, "GET", "polling", sid);
            self.links.send(slot, request.as_bytes());
            return;
        }
        let head = self.target.request(slot, "POST", "polling", sid);
        let length = session.unposted.len();
        let head = head.trim_end();
        let mut request = format!(
            "{head}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.append(&mut session.unposted);
        self.links.send(slot, &request);
    }
}
