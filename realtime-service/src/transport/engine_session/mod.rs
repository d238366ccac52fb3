//! The gateway's record of an Engine.IO session: who opened it, what waits for its client, and what
//! carries it. How it ends is in `ending`.
//!
//! socketioxide keeps only the request that opened a session, and after an upgrade that is another
//! stream than the one in use. So the gateway keeps a record of its own, outside of it.

mod ending;

use std::{
    sync::{Arc, OnceLock, PoisonError, Weak},
    time::Duration,
};

use socketioxide::socket::Socket;
use tokio::time::Instant;

use self::ending::Life;
use super::{
    PendingAcks, TransportContext,
    credentials::RequestCredentials,
    dialect::{Dialect, ProtocolVersion},
    engine,
    engine_carrier::EngineConnection,
    listener::{Connection, Place},
    request::{Opener, Visitor},
    send_queue::{Queued, SendQueue, Waiting},
    socketioxide_carrier::SocketioxideCarrier,
    turn::{self, Flush},
};
use crate::{
    metrics::Cause,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

/// How long a client that polls has to read an answer and to poll again.
const POLL_GAP: Duration = Duration::from_secs(2);

/// One Engine.IO session, from its first request to its end.
pub struct EngineSession {
    opener: Opener,
    /// The credentials of the request that opened it, until they are of no use.
    credentials: Mutex<Option<Box<RequestCredentials>>>,
    context: Arc<TransportContext>,
    /// Why it ended, once that is counted.
    cause: OnceLock<Cause>,
    dialect: Dialect,
    /// When a request of this session came or was answered last.
    heard_at: Mutex<Instant>,
    /// How many sockets of it are admitted: one for each namespace.
    admitted: AtomicU32,
    refusals: AtomicU32,
    /// Number of CONNECT packets that were answered.
    connects: AtomicUsize,
    life: Mutex<Life>,
    /// What waits to be sent to this client.
    queue: Arc<SendQueue>,
    carried_by: CarriedBy,
    acks: PendingAcks,
    /// This session's place among all of them.
    place: Place,
}

/// The carrier of a session. An idle session of the engine has no memory for the other one.
pub(in crate::transport) enum CarriedBy {
    /// The engine, over this connection once there is one.
    Engine(OnceLock<Weak<dyn EngineConnection>>),
    /// socketioxide.
    Socketioxide(Box<SocketioxideCarrier>),
}

impl EngineSession {
    pub(in crate::transport) fn new(
        visitor: Visitor,
        dialect: Dialect,
        context: Arc<TransportContext>,
        carried_by: CarriedBy,
        place: Place,
    ) -> Arc<Self> {
        context.metrics.session_opened();
        Arc::new(Self {
            opener: visitor.opener,
            credentials: Mutex::new(Some(Box::new(visitor.credentials))),
            context,
            cause: OnceLock::new(),
            dialect,
            heard_at: Mutex::new(Instant::now()),
            admitted: AtomicU32::new(0),
            refusals: AtomicU32::new(0),
            connects: AtomicUsize::new(0),
            life: Mutex::default(),
            queue: Arc::default(),
            carried_by,
            acks: PendingAcks::default(),
            place,
        })
    }

    /// Notes that a CONNECT of this session is about to be answered, and returns how many were.
    #[must_use]
    pub fn count_connect(&self) -> usize {
        self.connects.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the credentials of the request that opened this session; empty once they were
    /// forgotten.
    #[must_use]
    pub fn credentials(&self) -> RequestCredentials {
        let credentials = self.credentials.lock();
        let credentials = credentials.unwrap_or_else(PoisonError::into_inner);
        credentials.as_deref().cloned().unwrap_or_default()
    }

    /// Forgets the credentials of the request that opened this session.
    pub(crate) fn forget_credentials(&self) {
        let mut credentials = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *credentials = None;
    }

    pub(in crate::transport) fn opener(&self) -> &Opener {
        &self.opener
    }

    pub(in crate::transport) fn context(&self) -> &Arc<TransportContext> {
        &self.context
    }

    pub(in crate::transport) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the version of the protocol that the client speaks.
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.dialect.version
    }

    /// The side of socketioxide, if that carries the session.
    pub(crate) fn socketioxide(&self) -> Option<&SocketioxideCarrier> {
        match &self.carried_by {
            CarriedBy::Engine(_) => None,
            CarriedBy::Socketioxide(carrier) => Some(carrier),
        }
    }

    /// What waits to be sent to this client, and was not handed over yet. After a push,
    /// [`Self::flush`] sends it on its way.
    #[must_use]
    pub fn queue(&self) -> &Arc<SendQueue> {
        &self.queue
    }

    /// The acknowledgements that are awaited from this client.
    #[must_use]
    pub fn acks(&self) -> &PendingAcks {
        &self.acks
    }

    /// How much waits for this client.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.with_handed_over(self.queue.waiting())
    }

    /// Queues a packet, and returns how much waits now; `None` after the last packet. A
    /// [flush](Self::flush) sends it on its way.
    #[must_use]
    pub fn push(&self, packet: Queued) -> Option<Waiting> {
        let packet = match &self.carried_by {
            CarriedBy::Engine(_) => packet.for_client(self.dialect, &self.context.outbound),
            CarriedBy::Socketioxide(_) => packet,
        };
        let waiting = self.queue.push(packet)?;
        Some(self.with_handed_over(waiting))
    }

    /// Adds what socketioxide was handed and has not written.
    fn with_handed_over(&self, waiting: Waiting) -> Waiting {
        Waiting {
            bytes: waiting.bytes + self.in_flight_bytes(),
            ..waiting
        }
    }

    /// Returns the number of bytes that socketioxide was handed and has not written.
    pub(in crate::transport) fn in_flight_bytes(&self) -> usize {
        self.socketioxide()
            .map_or(0, SocketioxideCarrier::in_flight_bytes)
    }

    /// Whether the engine's connection took everything at its last write, or a poll waits. The packets that
    /// were queued since then are written when the turn ends, or by a task if the turn has noted a crowd:
    /// until then, any number of them may wait.
    #[must_use]
    pub fn keeps_up(&self) -> bool {
        self.connection().is_some_and(|connection| {
            if connection.is_websocket() {
                !connection.is_blocked()
            } else {
                connection.is_polled()
            }
        })
    }

    /// How long this client has taken nothing, while something waits for it.
    #[must_use]
    pub fn blocked_for(&self, now: Instant) -> Option<Duration> {
        match self.connection() {
            Some(connection) if connection.is_websocket() => return self.queue.blocked_for(now),
            Some(connection) if connection.is_polled() => return None,
            _ => {}
        }
        if let Some(carrier) = self.socketioxide()
            && let Some(stream) = &*carrier.stream()
        {
            return stream.switch.blocked_for(now);
        }
        if self.waiting().bytes == 0 {
            return None;
        }
        let since_answer = now.saturating_duration_since(*self.heard_at());
        since_answer.checked_sub(POLL_GAP)
    }

    /// Sends what waits on its way, as far as there is room for it: at the end of the turn, or at once
    /// outside of one.
    pub fn flush(self: &Arc<Self>) {
        match &self.carried_by {
            // One that has gone takes nothing.
            CarriedBy::Engine(_) => {
                if let Some(connection) = self.connection() {
                    connection.flush();
                }
            }
            CarriedBy::Socketioxide(carrier) => {
                if !carrier.is_noted.swap(true, Ordering::AcqRel) {
                    turn::flush(self.clone());
                }
            }
        }
    }

    /// Notes that the engine carries the session over `connection`.
    pub(crate) fn connect<D: Send + Sync + 'static>(&self, connection: &Arc<engine::Session<D>>) {
        let connection: Arc<dyn EngineConnection> = connection.clone();
        if let CarriedBy::Engine(own) = &self.carried_by {
            // A session is opened once.
            let _ = own.set(Arc::downgrade(&connection));
        }
    }

    /// The connection of a session that the engine carries and that has not ended.
    fn connection(&self) -> Option<Arc<dyn EngineConnection>> {
        match &self.carried_by {
            CarriedBy::Engine(connection) => connection.get()?.upgrade(),
            CarriedBy::Socketioxide(_) => None,
        }
    }

    /// Whether the engine carries the session, and so tells when the client has gone.
    pub(crate) fn is_of_engine(&self) -> bool {
        self.socketioxide().is_none()
    }

    /// Removes the socket of `namespace` inside of socketioxide. A socket that is not removed keeps its
    /// session in memory.
    pub(crate) fn remove_socket(&self, namespace: &str) -> Option<Arc<Socket>> {
        self.socketioxide()?.remove(namespace)
    }

    /// Notes that frames of messages have left, in the order in which they were handed over.
    pub(in crate::transport) fn frames_left(self: &Arc<Self>, frames: usize) {
        if let Some(carrier) = self.socketioxide() {
            carrier.frames_left(frames);
        }
        self.flush();
        self.context.copies.wake_next();
    }

    /// Returns the cause of the end; that of an end by the client as long as it is not known.
    pub(crate) fn cause(&self) -> Cause {
        self.cause.get().copied().unwrap_or(Cause::Client)
    }

    /// Whether the client has gone: its WebSocket is closed, or it polls no more.
    pub(crate) fn is_gone(&self) -> bool {
        let Some(carrier) = self.socketioxide() else {
            return self.connection().is_none_or(|one| !one.is_open());
        };
        match &*carrier.stream() {
            Some(stream) => stream.switch.is_closed(),
            None => self.heard_at().elapsed() > self.context.idle_timeout,
        }
    }

    pub(in crate::transport) fn heard(&self) {
        *self.heard_at() = Instant::now();
    }

    fn heard_at(&self) -> MutexGuard<'_, Instant> {
        self.heard_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the session to the WebSocket of `connection`. There is one at a time: a second one is
    /// turned away while the first lives.
    pub(in crate::transport) fn attach(self: &Arc<Self>, connection: Arc<Connection>) -> bool {
        let Some(carrier) = self.socketioxide() else {
            return false;
        };
        let mut stream = carrier.stream();
        let is_served = stream
            .as_ref()
            .is_some_and(|current| !current.switch.is_closed());
        if is_served || carrier.ended.is_cancelled() {
            return false;
        }
        let connection = stream.insert(connection);
        connection.refusal_data.start(self.dialect.version);
        let session = Arc::downgrade(self);
        connection.observer.set(move |frames| {
            if let Some(session) = session.upgrade() {
                session.frames_left(frames);
            }
        });
        true
    }

    /// Takes the session back from a connection that became no WebSocket.
    pub(in crate::transport) fn detach(&self) {
        let stream = self
            .socketioxide()
            .and_then(|carrier| carrier.stream().take());
        if let Some(connection) = stream {
            connection.refusal_data.stop();
            // It may come to serve another session.
            connection.observer.clear();
        }
    }
}

impl Flush for EngineSession {
    fn flush_now(self: Arc<Self>, _: Instant) {
        if let Some(carrier) = self.socketioxide() {
            // Before the rest: a packet that is queued meanwhile is noted again.
            carrier.is_noted.store(false, Ordering::Release);
            carrier.flush(&self);
        }
        self.end_if_finished();
    }
}

impl Drop for EngineSession {
    fn drop(&mut self) {
        // The connection of a WebSocket that never came to be lives on, and has it too.
        self.place.release();
        self.count_end(Cause::Client);
    }
}

#[cfg(test)]
mod tests;
