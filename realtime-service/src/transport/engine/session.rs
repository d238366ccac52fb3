//! One Engine.IO session: its packets, its connection, and its end.

use std::{
    fmt, io,
    sync::{Arc, PoisonError},
    task::Waker,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::{
    core::Core,
    query::{EngineQuery, TransportKind},
    sid::Sid,
    state::{Phase, TransportState},
    stream::Writer,
    violation::{CloseCode, CloseReason},
};
use crate::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use crate::transport::{
    Dialect, Opcode, Packet, ProtocolVersion, Queued, SendQueue, Written,
    turn::{self, Flush},
};

/// One Engine.IO session, with data `D` of the handler.
///
/// Any thread may queue packets, flush and close. Within a [turn](crate::transport::turn) a flush
/// takes effect at the end of the turn.
pub struct Session<D> {
    sid: Sid,
    dialect: Dialect,
    core: Arc<Core<D>>,
    queue: Arc<SendQueue>,
    state: Mutex<TransportState>,
    /// The writing side of the WebSocket that carries the session.
    writer: Mutex<Option<Writer>>,
    /// Wakes the task that reads the WebSocket.
    pub(super) reader: AtomicWaker,
    /// When the session times out unless a pong or a ping comes, in milliseconds of the engine's clock.
    pub(super) expires_ms: AtomicU64,
    /// Whether the client owes a pong, or a ping in Engine.IO 3.
    pub(super) is_pinged: AtomicBool,
    is_admitted: AtomicBool,
    /// Whether the handler was told of the end.
    is_announced: AtomicBool,
    /// Whether a turn will write the session.
    is_noted: AtomicBool,
    /// Whether bytes wait until the connection takes more.
    is_blocked: AtomicBool,
    /// Whether maintenance looks after the write stall of the session.
    is_watched: AtomicBool,
    data: D,
}

impl<D: Send + Sync + 'static> Session<D> {
    pub(super) fn new(
        sid: Sid,
        query: &EngineQuery,
        core: Arc<Core<D>>,
        queue: Arc<SendQueue>,
        data: D,
    ) -> Self {
        let expires_ms = core.now_ms() + core.idle_timeout_ms();
        Self {
            sid,
            dialect: query.dialect,
            core,
            queue,
            state: Mutex::new(TransportState::new(query.transport)),
            writer: Mutex::default(),
            reader: AtomicWaker::new(),
            expires_ms: expires_ms.into(),
            // Clients of Engine.IO 3 send the pings, and owe the next one at any time.
            is_pinged: (query.dialect.version == ProtocolVersion::V3).into(),
            is_admitted: AtomicBool::default(),
            is_announced: AtomicBool::default(),
            is_noted: AtomicBool::default(),
            is_blocked: AtomicBool::default(),
            is_watched: AtomicBool::default(),
            data,
        }
    }

    /// Returns the data that the session was opened with.
    #[must_use]
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Returns the queue of the packets for the client. A caller that queues packets there calls
    /// [`flush`](Self::flush) afterwards.
    #[must_use]
    pub fn queue(&self) -> &SendQueue {
        &self.queue
    }

    /// Queues `packet` and flushes. Returns `false` when the session has ended.
    ///
    /// The packet is charged to no budget, and the length of the queue is not checked.
    pub fn send(self: &Arc<Self>, packet: Packet) -> bool {
        let is_queued = self.queue.push(Queued::new(packet, None)).is_some();
        if is_queued {
            self.flush();
        }
        is_queued
    }

    /// Writes the packets that wait: when the current turn ends, or at once outside of a turn.
    ///
    /// The calling thread writes to the connection itself as long as the connection takes bytes. The
    /// packets of a polling session leave with the response to its next poll.
    pub fn flush(self: &Arc<Self>) {
        if self.note() {
            turn::flush(self.clone());
        }
    }

    /// Notes that the session is to be written. Returns `false` when a turn is about to write it.
    pub(in crate::transport) fn note(&self) -> bool {
        !self.is_noted.swap(true, Ordering::AcqRel)
    }

    /// Raises the limit of messages to that of admitted sessions.
    pub fn set_admitted(&self) {
        self.is_admitted.store(true, Ordering::Release);
    }

    /// Returns the maximum size of a message from the client at this moment, in bytes.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        match self.is_admitted.load(Ordering::Acquire) {
            true => self.core.settings.message_bytes,
            false => self.core.settings.unadmitted_message_bytes,
        }
    }

    /// Returns the transport that carries the session now.
    #[must_use]
    pub fn transport(&self) -> TransportKind {
        self.state().transport()
    }

    /// Whether the end of the session is not decided yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state().phase() == Phase::Open
    }

    /// Returns why the session ended, once its end is decided.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.state().reason()
    }

    /// Whether packets wait because a WebSocket takes no more bytes now.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Acquire)
    }

    /// Whether a poll waits for packets.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.state().is_polling()
    }

    /// Closes the session: the packets that wait still leave, then a close frame with `code`, or an
    /// Engine.IO close packet with the next poll. Nothing more is received. A session that is
    /// blocked is [killed](Self::kill) instead.
    pub fn close(self: &Arc<Self>, code: CloseCode) {
        self.end(CloseReason::Requested(code));
    }

    /// Ends the session at once: drops the packets that wait, and closes the connection, however
    /// backlogged. Later requests are answered as for an unknown session.
    ///
    /// No byte is written once this method has returned, except those that the operating system has
    /// taken already. The reading task closes the connection when it runs next.
    pub fn kill(self: &Arc<Self>) {
        self.abort(CloseReason::Killed);
    }

    /// Closes the session at once: drops the packets that wait, and closes a WebSocket that takes
    /// bytes by a close frame with `code`. Any other session is [killed](Self::kill).
    pub fn disconnect(self: &Arc<Self>, code: CloseCode) {
        let reason = CloseReason::Requested(code);
        if self.is_blocked() {
            return self.abort(reason);
        }
        let mut state = self.state();
        let transport = state.transport();
        if transport == TransportKind::Polling {
            drop(state);
            return self.abort(reason);
        }
        let Some(poll) = state.close(Phase::Closing, reason) else {
            return;
        };
        self.queue
            .finish(Some(Queued::new(close_frame(code), None)));
        drop(state);
        self.flush();
        self.announce_end(transport, poll);
    }

    /// Closes the session for `reason`, with last packets if the connection takes them.
    pub(super) fn end(self: &Arc<Self>, reason: CloseReason) {
        if self.is_blocked() {
            return self.abort(reason);
        }
        let mut state = self.state();
        let Some(poll) = state.close(Phase::Closing, reason) else {
            return;
        };
        let last = match (state.transport(), reason) {
            (TransportKind::WebSocket, _) => close_frame(reason.close_code()),
            // As Node answers a poll when the client closes its session.
            (TransportKind::Polling, CloseReason::ClosedByClient) => Packet::engine("6"),
            (TransportKind::Polling, _) => Packet::engine("1"),
        };
        self.queue.close_with(Queued::new(last, None));
        let transport = state.transport();
        drop(state);
        self.flush();
        self.announce_end(transport, poll);
    }

    /// Ends the session for `reason`, without last packets.
    pub(super) fn abort(self: &Arc<Self>, reason: CloseReason) {
        let mut state = self.state();
        let Some(poll) = state.close(Phase::Ended, reason) else {
            return;
        };
        let transport = state.transport();
        drop(state);
        self.queue.clear();
        // A write that has begun has ended with the lock, and the next one sees the phase.
        drop(self.writer());
        self.announce_end(transport, poll);
    }

    /// Wakes whoever has to act on the end of the session.
    fn announce_end(self: &Arc<Self>, transport: TransportKind, poll: Option<Waker>) {
        if let Some(poll) = poll {
            poll.wake();
        }
        // The task that reads the WebSocket, or waits for a probe on it.
        self.reader.wake();
        if transport == TransportKind::Polling {
            self.core.end(self.clone());
        }
    }

    /// Returns for how long the connection has taken no bytes while bytes wait for it.
    pub(super) fn stalled_for(&self, now: Instant) -> Duration {
        let by_queue = self.queue.blocked_for(now);
        let pending_since = self.writer().as_ref().and_then(Writer::pending_since);
        let by_tls = pending_since.map(|since| now.saturating_duration_since(since));
        by_queue.or(by_tls).unwrap_or_default()
    }

    /// Whether maintenance has to look after the session further, because it is still blocked.
    pub(super) fn keep_watch(&self) -> bool {
        if self.is_blocked() {
            return true;
        }
        self.is_watched.store(false, Ordering::Release);
        // The session may have been blocked again in between, without a new watch.
        self.is_blocked() && !self.is_watched.swap(true, Ordering::AcqRel)
    }

    /// Whether this is the first call: the handler is told of the end once.
    pub(super) fn announce_once(&self) -> bool {
        !self.is_announced.swap(true, Ordering::AcqRel)
    }

    /// Hands the writing side of a WebSocket to the session. The packets that wait are written.
    pub(super) fn attach(self: &Arc<Self>, writer: Writer) {
        *self.writer() = Some(writer);
        self.flush();
    }

    /// Takes the writing side back.
    pub(super) fn detach(&self) -> Option<Writer> {
        self.writer().take()
    }

    /// Writes the packets that wait to the WebSocket, or wakes the poll that fetches them.
    fn write(self: &Arc<Self>, now: Instant) {
        let mut writer = self.writer();
        let Some(open) = writer.as_mut() else {
            drop(writer);
            self.wake_poll();
            return;
        };
        let written = self
            .write_pending(open)
            .and_then(|()| self.queue.write_with(now, |slices| open.try_write(slices)));
        // Under the lock: the flag is that of the write which comes last.
        let is_blocked = match &written {
            Ok(Written::Blocked) => true,
            Ok(Written::All | Written::Last) => open.has_pending(),
            Err(_) => false,
        };
        let was_blocked = self.is_blocked();
        if is_blocked != was_blocked {
            self.is_blocked.store(is_blocked, Ordering::Release);
        }
        drop(writer);
        let finished = match written {
            // What TLS has encrypted has not left while the connection takes nothing.
            Ok(Written::Last) if !is_blocked => self.queue.take_finished(),
            Ok(_) => None,
            Err(error) => return self.on_write_error(&error),
        };
        if let Some(action) = finished {
            action();
        } else if is_blocked && !was_blocked {
            if !self.is_watched.swap(true, Ordering::AcqRel) {
                self.core.watch_stall(self);
            }
            self.reader.wake();
        }
    }

    /// Writes the bytes that TLS has encrypted and the connection has not taken, unless the session has ended.
    pub(super) fn write_pending(&self, writer: &mut Writer) -> io::Result<()> {
        match writer.has_pending() && self.state().phase() != Phase::Ended {
            true => writer.write_pending(),
            false => Ok(()),
        }
    }

    fn on_write_error(self: &Arc<Self>, error: &io::Error) {
        tracing::debug!(%error, "cannot write to a WebSocket");
        self.abort(CloseReason::ConnectionLost);
    }

    fn wake_poll(&self) {
        if self.queue.is_empty() {
            return;
        }
        let poll = self.state().take_poll_waker();
        if let Some(poll) = poll {
            poll.wake();
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn sid(&self) -> Sid {
        self.sid
    }

    pub(super) fn core(&self) -> &Arc<Core<D>> {
        &self.core
    }

    pub(super) fn state(&self) -> MutexGuard<'_, TransportState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Send + Sync + 'static> Flush for Session<D> {
    fn flush_now(self: Arc<Self>, now: Instant) {
        // Before the write: a packet that is queued during the write is noted again.
        self.is_noted.store(false, Ordering::Release);
        self.write(now);
    }
}

impl<D> fmt::Debug for Session<D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Encodes a close frame with `code`.
pub(super) fn close_frame(code: CloseCode) -> Packet {
    Packet::control(Opcode::Close, &(code as u16).to_be_bytes())
}
