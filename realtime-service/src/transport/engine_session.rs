//! An Engine.IO session: who opened it, what waits for its client, and how it ends.
//!
//! socketioxide keeps only the request that opened a session, and after an upgrade that is another
//! stream than the one in use. So the gateway keeps a record of its own, outside of it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use shared_claims::Rejection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    PendingAcks, TransportContext,
    credentials::RequestCredentials,
    engine::{self, CloseCode, CloseReason, Violation},
    engine_carrier::EngineConnection,
    listener::{Connection, Place, refusal_data::Dialect},
    registry::Polling,
    request::Opener,
    send_queue::{Queued, SendQueue, Waiting},
    socketioxide_carrier::Carrier,
    turn::{self, Flush},
};
use crate::{metrics::Cause, timers::Timer};

/// How long a last packet may take to leave before its stream is closed.
const FLUSH_GRACE: Duration = Duration::from_millis(50);

/// How often that is granted again while the stream takes what it is given: then this machine is
/// slow, and not the client.
const FLUSH_RENEWALS: u32 = 5;

/// One Engine.IO session, from its first request to its end.
pub struct EngineSession {
    opener: Opener,
    context: Arc<TransportContext>,
    ended: CancellationToken,
    /// Why it ended, once that is counted.
    cause: OnceLock<Cause>,
    /// The connection of the WebSocket that serves the session; `None` while it polls.
    stream: Mutex<Option<Connection>>,
    dialect: Dialect,
    /// Set for a session that began by polling.
    pub(super) polling: OnceLock<Polling>,
    /// When a request of this session came or was answered last.
    heard_at: Mutex<Instant>,
    /// How many sockets of it are admitted: one for each namespace.
    admitted: AtomicU32,
    refusals: AtomicU32,
    life: Mutex<Life>,
    /// What waits to be sent to this client.
    queue: Arc<SendQueue>,
    carrier: Carrier,
    /// The connection, when the engine carries the session.
    connection: OnceLock<Weak<dyn EngineConnection>>,
    acks: PendingAcks,
    /// Whether a turn will hand over what waits.
    is_noted: AtomicBool,
    /// This session's place among all of them.
    place: Place,
}

/// How long a session has left.
#[derive(Default)]
struct Life {
    /// The deadline that is running; a new one takes the place of the old.
    deadline: Option<Timer>,
    /// Set when the end is decided; from then on no deadline is moved and nobody is admitted.
    is_ending: bool,
    /// Why it ends once its last packets have left.
    finishing: Option<Cause>,
    /// How many sockets were admitted when the first last packet was queued: each of them may have
    /// one.
    expected: usize,
    /// What is done when it ends before its last packets have left.
    undelivered: Vec<Box<dyn FnOnce() + Send>>,
}

impl EngineSession {
    pub(super) fn new(
        opener: Opener,
        dialect: Dialect,
        context: Arc<TransportContext>,
        place: Place,
    ) -> Arc<Self> {
        context.metrics.session_opened();
        Arc::new(Self {
            opener,
            context,
            ended: CancellationToken::new(),
            cause: OnceLock::new(),
            stream: Mutex::default(),
            dialect,
            polling: OnceLock::new(),
            heard_at: Mutex::new(Instant::now()),
            admitted: AtomicU32::new(0),
            refusals: AtomicU32::new(0),
            life: Mutex::default(),
            queue: Arc::default(),
            carrier: Carrier::default(),
            connection: OnceLock::new(),
            acks: PendingAcks::default(),
            is_noted: AtomicBool::new(false),
            place,
        })
    }

    /// What the requests of this session carry as credentials.
    #[must_use]
    pub fn credentials(&self) -> &RequestCredentials {
        self.opener.credentials()
    }

    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    pub(super) fn context(&self) -> &Arc<TransportContext> {
        &self.context
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What connects this session with socketioxide.
    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
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
        let waiting = self.queue.push(packet)?;
        Some(self.with_handed_over(waiting))
    }

    /// Adds what socketioxide was handed and has not written.
    fn with_handed_over(&self, waiting: Waiting) -> Waiting {
        match self.is_of_engine() {
            true => waiting,
            false => Waiting {
                bytes: waiting.bytes + self.carrier.in_flight_bytes(),
                ..waiting
            },
        }
    }

    /// How long this client has taken nothing, while something waits for it.
    #[must_use]
    pub fn blocked_for(&self, now: Instant) -> Option<Duration> {
        if let Some(connection) = self.connection()
            && connection.is_websocket()
        {
            return self.queue.blocked_for(now);
        }
        match &*self.stream() {
            Some(stream) => stream.switch.blocked_for(now),
            None if self.waiting().bytes == 0 => None,
            None => Some(now.saturating_duration_since(*self.heard_at())),
        }
    }

    /// Sends what waits on its way, as far as there is room for it: at the end of the turn, or at once
    /// outside of one.
    pub fn flush(self: &Arc<Self>) {
        match self.connection.get() {
            // One that has gone takes nothing.
            Some(connection) => {
                if let Some(connection) = connection.upgrade() {
                    connection.flush();
                }
            }
            None if self.is_noted.swap(true, Ordering::AcqRel) => {}
            None => turn::flush(self.clone()),
        }
    }

    /// Notes that the engine carries the session over `connection`.
    pub(crate) fn connect<D: Send + Sync + 'static>(&self, connection: &Arc<engine::Session<D>>) {
        let connection: Arc<dyn EngineConnection> = connection.clone();
        // A session is opened once.
        let _ = self.connection.set(Arc::downgrade(&connection));
    }

    /// The connection of a session that the engine carries and that has not ended.
    fn connection(&self) -> Option<Arc<dyn EngineConnection>> {
        self.connection.get()?.upgrade()
    }

    /// Whether the engine carries the session, and so tells when the client has gone.
    pub(crate) fn is_of_engine(&self) -> bool {
        self.connection.get().is_some()
    }

    /// Notes that the connection has ended by itself or by [`Self::end`], for `reason`.
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.end(cause_of(reason));
    }

    /// Notes that frames of messages have left, in the order in which they were handed over.
    pub(super) fn frames_left(self: &Arc<Self>, frames: usize) {
        self.carrier.frames_left(frames);
        self.flush();
        self.context.copies.wake_next();
    }

    /// Whether the client has gone: its WebSocket is closed, or it polls no more.
    pub(crate) fn is_gone(&self) -> bool {
        if self.is_of_engine() {
            return self.connection().is_none_or(|one| !one.is_open());
        }
        match &*self.stream() {
            Some(stream) => stream.switch.is_closed(),
            None => self.heard_at().elapsed() > self.context.idle_timeout,
        }
    }

    /// Whether it began by polling; it may have come to a WebSocket since.
    pub(crate) fn began_by_polling(&self) -> bool {
        self.polling.get().is_some()
    }

    pub(super) fn heard(&self) {
        *self.heard_at() = Instant::now();
    }

    fn heard_at(&self) -> MutexGuard<'_, Instant> {
        self.heard_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a socket of this session was admitted and is still there.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire) > 0
    }

    /// Waits for the end of a session whose end is decided; returns at once from any other.
    pub async fn wait_if_ending(&self) {
        let is_ending = self.life().is_ending;
        if is_ending {
            self.ended.cancelled().await;
        }
    }

    /// Resolves when the session has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Notes that a socket is admitted: from now on its token decides how long it stays. `false`
    /// when the end of the session was decided meanwhile.
    #[must_use]
    pub fn admit(&self) -> bool {
        let mut life = self.life();
        if life.is_ending {
            return false;
        }
        self.admitted.fetch_add(1, Ordering::AcqRel);
        life.deadline = None;
        if let Some(connection) = self.connection() {
            connection.set_admitted();
        }
        self.context.metrics.socket_admitted();
        true
    }

    /// Notes that an admitted socket left while the transport stays.
    pub fn leave(self: &Arc<Self>) {
        if self.admitted.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end_unless_admitted(self.context.limits.unauthenticated());
        }
    }

    /// Notes a rejected credential. The client has a moment to read it or to present another token;
    /// with the last refusal that it may have, the session ends.
    pub fn reject(self: &Arc<Self>, rejection: Rejection) {
        self.context.metrics.refusal(rejection);
        // Who has too many sockets has a good token, and floods nobody.
        if rejection != Rejection::TooManySockets {
            self.context.refusal_limiter.count(self.opener.address());
        }
        self.count_refusal();
    }

    /// Notes a refusal by the application of somebody whose token was accepted: to the transport it
    /// is one like any other, but it shows no flood of guesses.
    pub(crate) fn reject_by_application(self: &Arc<Self>) {
        self.context.metrics.refused_by_application();
        self.count_refusal();
    }

    fn count_refusal(self: &Arc<Self>) {
        let limits = &self.context.limits;
        let refusals = self.refusals.fetch_add(1, Ordering::AcqRel) + 1;
        if refusals >= limits.refusals {
            self.end_soon(Cause::Refused);
        } else {
            self.end_unless_admitted(limits.refusal_linger());
        }
    }

    /// Ends the session once `last` has left, which goes before everything that waits; or after the
    /// moment that it may take for that. Where that is too short, `undelivered` is called.
    ///
    /// Each namespace of a session may have a last packet.
    pub fn finish(
        self: &Arc<Self>,
        last: Queued,
        cause: Cause,
        undelivered: impl FnOnce() + Send + 'static,
    ) {
        let mut life = self.life();
        if self.ended.is_cancelled() {
            drop(life);
            return undelivered();
        }
        if !life.is_ending {
            life.is_ending = true;
            life.deadline = Some(self.end_after_grace(cause, FLUSH_RENEWALS));
        }
        if life.finishing.is_none() {
            life.finishing = Some(cause);
            let admitted = self.admitted.load(Ordering::Acquire);
            life.expected = usize::try_from(admitted).unwrap_or_default();
        }
        life.undelivered.push(Box::new(undelivered));
        self.queue.finish(Some(last));
        if self.is_of_engine() {
            let session = Arc::downgrade(self);
            self.queue.on_finished(move || {
                if let Some(session) = session.upgrade() {
                    session.end_if_finished();
                }
            });
        }
        drop(life);
        if self.is_blocked() {
            // The client takes nothing, so it takes no last packet either.
            self.end(cause);
        } else {
            self.flush();
        }
    }

    /// Ends a session whose last packets have left.
    fn end_if_finished(self: &Arc<Self>) {
        let mut life = self.life();
        if let Some(cause) = life.finishing
            && life.undelivered.len() >= life.expected
            && self.waiting() == Waiting::default()
        {
            let delivered = std::mem::take(&mut life.undelivered);
            drop(life);
            drop(delivered);
            self.end(cause);
        }
    }

    /// Ends the session after the moment that packets queued just now need to leave.
    pub fn end_soon(self: &Arc<Self>, cause: Cause) {
        let mut life = self.life();
        if !life.is_ending {
            life.is_ending = true;
            life.deadline = Some(self.end_after_grace(cause, FLUSH_RENEWALS));
        }
    }

    fn end_after_grace(self: &Arc<Self>, cause: Cause, renewals: u32) -> Timer {
        let session = Arc::downgrade(self);
        let end = move || {
            let Some(session) = session.upgrade() else {
                return;
            };
            if renewals > 0 && session.is_flushing() {
                let timer = session.end_after_grace(cause, renewals - 1);
                session.life().deadline = Some(timer);
            } else {
                session.end(cause);
            }
        };
        self.context
            .timers
            .schedule(Instant::now() + FLUSH_GRACE, end)
    }

    /// Whether something waits to leave by a WebSocket that takes it.
    fn is_flushing(&self) -> bool {
        if self.waiting().bytes == 0 {
            return false;
        }
        if let Some(connection) = self.connection() {
            return connection.is_websocket() && !connection.is_blocked();
        }
        let takes = |one: &Connection| !one.switch.is_blocked() && !one.switch.is_closed();
        self.stream().as_ref().is_some_and(takes)
    }

    /// Whether a WebSocket takes nothing now.
    fn is_blocked(&self) -> bool {
        match self.connection() {
            Some(connection) => connection.is_blocked(),
            None => self
                .stream()
                .as_ref()
                .is_some_and(|one| one.switch.is_blocked()),
        }
    }

    /// Ends the session at once: closes the WebSocket that serves it, however backlogged, or
    /// answers its polls, now and later, with 400.
    pub fn end(&self, cause: Cause) {
        let mut life = self.life();
        life.is_ending = true;
        if self.ended.is_cancelled() {
            return;
        }
        self.ended.cancel();
        let undelivered = std::mem::take(&mut life.undelivered);
        drop(life);
        match self.connection() {
            Some(connection) => connection.disconnect(close_code(cause)),
            None => self.queue.clear(),
        }
        self.carrier.clear();
        self.acks.clear();
        self.count_end(cause);
        self.place.release();
        for action in undelivered {
            action();
        }
        // Both, for a session in the middle of an upgrade is served by both.
        if let Some(stream) = &*self.stream() {
            stream.switch.close();
        }
        if let Some(polling) = self.polling.get() {
            polling.close();
        }
    }

    pub(super) fn end_unless_admitted(self: &Arc<Self>, after: Duration) {
        let session = Arc::downgrade(self);
        let end = move || {
            if let Some(session) = session.upgrade()
                && !session.is_admitted()
            {
                session.end(Cause::Unauthenticated);
            }
        };
        let mut life = self.life();
        if !life.is_ending {
            life.deadline = Some(self.context.timers.schedule(Instant::now() + after, end));
        }
    }

    /// Counts the end of this session, once: by the cause that ended its stream, if it had one and
    /// that ended by itself, for then `cause` came second.
    fn count_end(&self, cause: Cause) {
        let stream = self.stream().as_ref().and_then(|one| one.switch.cause());
        let cause = stream.unwrap_or(cause);
        if self.cause.set(cause).is_ok() {
            self.context.metrics.session_closed(cause);
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self) -> MutexGuard<'_, Option<Connection>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the session to the WebSocket of `connection`. There is one at a time: a second one is
    /// turned away while the first lives.
    pub(super) fn attach(self: &Arc<Self>, connection: Connection) -> bool {
        let mut stream = self.stream();
        let is_served = stream
            .as_ref()
            .is_some_and(|current| !current.switch.is_closed());
        if is_served || self.ended.is_cancelled() {
            return false;
        }
        let connection = stream.insert(connection);
        connection.refusal_data.start(self.dialect);
        let session = Arc::downgrade(self);
        connection.observer.set(move |frames| {
            if let Some(session) = session.upgrade() {
                session.frames_left(frames);
            }
        });
        true
    }

    /// Takes the session back from a connection that became no WebSocket.
    pub(super) fn detach(&self) {
        if let Some(connection) = self.stream().take() {
            connection.refusal_data.stop();
            // It may come to serve another session.
            connection.observer.clear();
        }
    }
}

/// The cause of an end that the connection came to.
fn cause_of(reason: CloseReason) -> Cause {
    match reason {
        CloseReason::WriteStalled => Cause::Stalled,
        CloseReason::Violated(Violation::TooLarge) => Cause::TooLarge,
        CloseReason::Violated(_) | CloseReason::OverlappingRequests => Cause::Violated,
        CloseReason::Requested(CloseCode::GoingAway) => Cause::Drained,
        CloseReason::ClosedByClient
        | CloseReason::ConnectionLost
        | CloseReason::PingTimeout
        | CloseReason::Requested(_)
        | CloseReason::Killed => Cause::Client,
    }
}

/// The WebSocket close code for the end of a session (RFC 6455, section 7.4.1).
fn close_code(cause: Cause) -> CloseCode {
    match cause {
        Cause::Drained => CloseCode::GoingAway,
        Cause::Flooded | Cause::Overflowed | Cause::Refused | Cause::Unauthenticated => {
            CloseCode::PolicyViolation
        }
        Cause::NoKeys => CloseCode::InternalError,
        Cause::TooLarge => CloseCode::TooLarge,
        Cause::Violated => CloseCode::ProtocolError,
        Cause::Client
        | Cause::Expired
        | Cause::Revoked
        | Cause::Disconnected
        | Cause::Stalled => CloseCode::Normal,
    }
}

impl Flush for EngineSession {
    fn flush_now(self: Arc<Self>, _: Instant) {
        // Before the rest: a packet that is queued meanwhile is noted again.
        self.is_noted.store(false, Ordering::Release);
        self.carrier.flush(&self);
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
