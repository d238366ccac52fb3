//! Socket.IO clients on one thread: connects them, answers heartbeats, and passes packets to a
//! workload.
//!
//! A client keeps its slot for its whole life, also when it reconnects.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::links::{Change, Input, Links, Ready, event_source};
use crate::session::{Phase, Session};
use crate::target::{Target, Transport};
use crate::wire::frame;

/// Maximum time of a handshake, as in socket.io-client, and of an orderly close.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum time between the close frame and the end of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of the search for clients that exceed these times.
const TIMEOUT_CHECK: Duration = Duration::from_millis(500);
/// Longest wait for events, so that progress is shown.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// Decision of a workload after each turn of the loop.
pub(crate) enum Step {
    /// Continues, and calls the workload again after this time at the latest.
    Wait(Duration),
    /// Ends the loop.
    Done,
}

/// Reacts to the clients' events.
pub(crate) trait Workload {
    /// Runs once a turn of the loop, before it waits for events.
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step>;
    /// Handles the acknowledgement of CONNECT.
    fn on_admitted(&mut self, sockets: &mut Sockets, slot: usize);
    /// Handles a Socket.IO packet of an admitted client.
    fn on_packet(&mut self, _sockets: &mut Sockets, _slot: usize, _packet: &[u8]) {}
    /// Handles CONNECT_ERROR. The connection is closed afterwards.
    fn on_refused(&mut self, sockets: &mut Sockets, slot: usize, reason: &str);
    /// Handles the end of a connection, whether its client was admitted or not.
    fn on_lost(&mut self, sockets: &mut Sockets, slot: usize, cause: &str);
    /// Handles DISCONNECT, after which socket.io-client does not reconnect by itself.
    fn on_disconnected(&mut self, sockets: &mut Sockets, slot: usize) {
        self.on_lost(sockets, slot, "the server sent DISCONNECT");
    }
    /// Handles the end of a connection that [`Sockets::close`] closed.
    fn on_left(&mut self, _sockets: &mut Sockets, _slot: usize) {}
}

/// All clients.
pub(crate) struct Sockets {
    pub(crate) links: Links,
    pub(crate) target: Target,
    pub(crate) sessions: Vec<Session>,
    pub(crate) connected_prefix: Vec<u8>,
    pub(crate) scratch: Vec<u8>,
    /// Servers of single clients, where that is not the target's.
    places: HashMap<usize, SocketAddr>,
    queue: VecDeque<usize>,
    opening: usize,
    start: Instant,
    last_timeout_check: Instant,
}

impl Sockets {
    /// Creates `count` clients, none of which is connected.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel provides no epoll instance.
    pub(crate) fn new(target: Target, count: usize) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        sessions.resize_with(count, || Session::new(target.transport));
        Ok(Self {
            links: Links::new(count, target.sources)?,
            connected_prefix: format!("40{}", target.packet_namespace()).into_bytes(),
            sessions,
            target,
            scratch: Vec::new(),
            places: HashMap::new(),
            queue: VecDeque::new(),
            opening: 0,
            start: Instant::now(),
            last_timeout_check: Instant::now(),
        })
    }

    /// Returns the microseconds since these clients were created.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns how many clients exist, connected or not.
    pub(crate) fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Queues a client for its handshake.
    pub(crate) fn open(&mut self, slot: usize) {
        self.sessions[slot].phase = Phase::Queued;
        self.queue.push_back(slot);
    }

    /// Queues every client for its handshake.
    pub(crate) fn open_all(&mut self) {
        (0..self.count()).for_each(|slot| self.open(slot));
    }

    /// Makes one client use WebSocket, whatever the transport of the others is.
    pub(crate) fn use_websocket(&mut self, slot: usize) {
        self.sessions[slot].transport = Transport::Websocket;
    }

    /// Makes one client connect to another server than the target's.
    pub(crate) fn place(&mut self, slot: usize, server: SocketAddr) {
        self.places.insert(slot, server);
    }

    /// Sends a Socket.IO packet.
    pub(crate) fn send(&mut self, slot: usize, packet: &[u8]) {
        if self.sessions[slot].transport == Transport::Polling {
            self.sessions[slot].queue_post(packet);
            return;
        }
        self.send_frame(slot, frame::TEXT, packet);
    }

    pub(crate) fn send_frame(&mut self, slot: usize, opcode: u8, payload: &[u8]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        frame::encode_client(&mut scratch, opcode, payload);
        self.links.send(slot, &scratch);
        self.scratch = scratch;
    }

    /// Sends a close frame; [`Workload::on_left`] follows when the server ends the connection.
    ///
    /// A polling client has no close frame. Its connection ends at once, and the result is false.
    pub(crate) fn close(&mut self, slot: usize) -> bool {
        if self.sessions[slot].transport == Transport::Polling {
            self.cut(slot);
            return false;
        }
        self.send_frame(slot, frame::CLOSE, &1000_u16.to_be_bytes());
        self.sessions[slot].enter(Phase::Closing);
        true
    }

    /// Ends a connection without a close frame and without a call of the workload.
    pub(crate) fn cut(&mut self, slot: usize) {
        self.leave_opening(slot);
        self.sessions[slot].enter(Phase::Closed);
        self.links.reset(slot);
    }

    /// Runs the workload until it is done.
    ///
    /// # Errors
    ///
    /// Returns an error if the workload fails, a connection cannot be started, or `limit` passes.
    pub(crate) fn run<W: Workload>(
        &mut self,
        workload: &mut W,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut ready = Vec::new();
        let mut input = Vec::new();
        loop {
            ensure!(
                begin.elapsed() < limit,
                "the measurement did not end within {} s; use fewer connections or messages",
                limit.as_secs()
            );
            let wait = match workload.step(self)? {
                Step::Done => return Ok(()),
                Step::Wait(limit) => limit.min(LONGEST_WAIT),
            };
            self.start_queued()?;
            self.links
                .wait(&mut ready, Some(wait))
                .context("epoll failed")?;
            for event in &ready {
                self.handle(workload, event, &mut input);
            }
            if self.last_timeout_check.elapsed() > TIMEOUT_CHECK {
                self.check_timeouts(workload);
            }
        }
    }

    fn start_queued(&mut self) -> anyhow::Result<()> {
        while self.opening < self.target.concurrency as usize {
            let Some(slot) = self.queue.pop_front() else {
                break;
            };
            if self.sessions[slot].phase == Phase::Queued {
                self.opening += 1;
                self.sessions[slot].begin();
                self.connect(slot)?;
            }
        }
        Ok(())
    }

    pub(crate) fn connect(&mut self, slot: usize) -> anyhow::Result<()> {
        self.sessions[slot].enter(Phase::Tcp);
        let server = self.places.get(&slot).unwrap_or(&self.target.address);
        self.links.open(slot, *server).context(
            "a connection cannot be started; raise the limit of open files (ulimit -n), or use more --sources",
        )
    }

    fn handle<W: Workload>(&mut self, workload: &mut W, event: &Ready, input: &mut Vec<u8>) {
        let (slot, _) = event_source(event);
        match self.links.apply(event) {
            None => {}
            Some(Change::Opened) => self.send_request(slot),
            Some(Change::Failed(error)) => self.lose(workload, slot, &format!("connect: {error}")),
            Some(Change::Readable) => match self.links.read(slot, input) {
                Input::Nothing => {}
                Input::Closed(cause) => self.lose(workload, slot, &cause),
                Input::Bytes => match self.consume(workload, slot, input) {
                    Ok(consumed) => self.links.keep(slot, input, consumed),
                    Err(error) => self.lose(workload, slot, &format!("{error:#}")),
                },
            },
        }
    }

    /// Ends a connection from the server's side, and reports it once.
    pub(crate) fn lose<W: Workload>(&mut self, workload: &mut W, slot: usize, cause: &str) {
        let phase = self.sessions[slot].phase;
        self.cut(slot);
        match phase {
            Phase::Closed => {}
            Phase::Closing => workload.on_left(self, slot),
            _ => workload.on_lost(self, slot, cause),
        }
    }

    /// Removes a client from the count of handshakes in progress.
    pub(crate) fn leave_opening(&mut self, slot: usize) {
        if self.sessions[slot].phase.is_opening() {
            self.opening -= 1;
        }
    }

    fn check_timeouts<W: Workload>(&mut self, workload: &mut W) {
        self.last_timeout_check = Instant::now();
        for slot in 0..self.count() {
            let session = &self.sessions[slot];
            let limit = match session.phase {
                Phase::Closing => CLOSE_TIMEOUT,
                phase if phase.is_opening() => HANDSHAKE_TIMEOUT,
                _ => continue,
            };
            if session.since.elapsed() > limit {
                self.lose(workload, slot, "the handshake timed out");
            }
        }
    }
}
