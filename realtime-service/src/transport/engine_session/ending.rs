//! How an Engine.IO session ends: after a refusal, at a deadline, behind its last packets, or at once.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use shared_claims::Rejection;
use tokio::time::Instant;

use super::EngineSession;
use crate::{
    clock,
    metrics::Cause,
    sync::{MutexGuard, atomic::Ordering},
    timers::Timer,
    transport::{
        engine::{CloseCode, CloseReason, Violation},
        send_queue::{Queued, Waiting},
    },
};

/// How long a last packet may take to leave before its stream is closed.
const FLUSH_GRACE: Duration = Duration::from_millis(50);

/// How often that is granted again while the stream takes what it is given: then this machine is
/// slow, and not the client.
const FLUSH_RENEWALS: u32 = 5;

/// How long a session has left.
#[derive(Default)]
pub(super) struct Life {
    /// The deadline that is running; a new one takes the place of the old.
    deadline: Option<Timer>,
    /// Forgets the credentials, once every namespace has had the time to be joined with them.
    forgetting: Option<Timer>,
    /// Set when the end is decided; from then on no deadline is moved and nobody is admitted.
    is_ending: bool,
    /// Set when the session has ended.
    is_ended: bool,
    /// Why it ends once its last packets have left.
    finishing: Option<Cause>,
    /// How many sockets were admitted when the first last packet was queued: each of them may have
    /// one.
    expected: usize,
    /// What is done when it ends before its last packets have left.
    undelivered: Vec<Box<dyn FnOnce() + Send>>,
}

impl EngineSession {
    /// Whether a socket of this session was admitted and is still there.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire) > 0
    }

    /// Waits for the end of a session whose end is decided; returns at once from any other.
    pub async fn wait_if_ending(&self) {
        let is_ending = self.life().is_ending;
        if is_ending {
            self.ended().await;
        }
    }

    /// Resolves when the session has ended that socketioxide carries; at once for any other.
    pub(in crate::transport) async fn ended(&self) {
        if let Some(carrier) = self.socketioxide() {
            carrier.ended.cancelled().await;
        }
    }

    /// Notes that a socket is admitted: from now on its token decides how long it stays. `false`
    /// when the end of the session was decided meanwhile.
    #[must_use]
    pub fn admit(self: &Arc<Self>) -> bool {
        let mut life = self.life();
        if life.is_ending {
            return false;
        }
        self.admitted.fetch_add(1, Ordering::AcqRel);
        life.deadline = None;
        match self.socketioxide() {
            Some(carrier) => carrier.forget_later(self.forget_credentials_later()),
            None if self.context.has_namespaces => {
                (life.forgetting).get_or_insert_with(|| self.forget_credentials_later());
            }
            // There is no other namespace, so the credentials are of no more use.
            None => self.forget_credentials(),
        }
        if let Some(connection) = self.connection() {
            connection.set_admitted();
        }
        self.context.metrics.socket_admitted();
        true
    }

    fn forget_credentials_later(self: &Arc<Self>) -> Timer {
        let session = Arc::downgrade(self);
        let at = Instant::now() + self.context.limits.unauthenticated();
        self.context.timers.schedule(at, move || {
            if let Some(session) = session.upgrade() {
                session.forget_credentials();
            }
        })
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
        use Rejection::{NamespaceForbidden, TooManyNamespaces};

        self.note_rejection(rejection);
        let is_of_namespace = matches!(rejection, NamespaceForbidden | TooManyNamespaces);
        // The other namespaces of an admitted client stay.
        if !(is_of_namespace && self.is_admitted()) {
            self.count_refusal();
        }
    }

    /// Counts a rejected credential for its address, at CONNECT or later.
    pub fn note_rejection(&self, rejection: Rejection) {
        use Rejection::{NamespaceForbidden, RefusedByBackEnd, TooManyNamespaces, TooManySockets};

        self.context.metrics.refusal(rejection);
        match rejection {
            // A client with a good token floods nobody.
            TooManySockets | RefusedByBackEnd | NamespaceForbidden | TooManyNamespaces => {}
            _ => self.context.refusal_limiter.count(self.opener.address()),
        }
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
        if life.is_ended {
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
        if self.is_of_engine() {
            let session = Arc::downgrade(self);
            // Before the packet, which may leave at once.
            self.queue.on_finished(move || {
                if let Some(session) = session.upgrade() {
                    session.end_if_finished();
                }
            });
        }
        self.queue.finish(Some(last));
        drop(life);
        if self.is_blocked() {
            // The client takes nothing, so it takes no last packet either.
            self.end(cause);
        } else {
            self.flush();
        }
    }

    /// Ends a session whose last packets have left.
    pub(super) fn end_if_finished(self: &Arc<Self>) {
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

    /// Notes that all last packets have left, if nothing waits, in TLS either; some namespaces have none.
    fn forget_undelivered(&self) {
        if self.waiting() == Waiting::default() && !self.is_blocked() {
            drop(std::mem::take(&mut self.life().undelivered));
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
                session.forget_undelivered();
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
        match self.socketioxide() {
            Some(carrier) => carrier.is_taking(),
            None => self
                .connection()
                .is_some_and(|connection| connection.is_websocket() && !connection.is_blocked()),
        }
    }

    /// Whether a WebSocket takes nothing now.
    fn is_blocked(&self) -> bool {
        match self.socketioxide() {
            Some(carrier) => carrier.is_blocked(),
            None => self
                .connection()
                .is_some_and(|connection| connection.is_blocked()),
        }
    }

    /// Ends the session at once: closes the WebSocket that serves it, however backlogged, or
    /// answers its polls, now and later, with 400.
    pub fn end(&self, cause: Cause) {
        self.conclude(cause, || match self.connection() {
            Some(connection) => connection.disconnect(close_code(cause)),
            None => self.queue.clear(),
        });
    }

    /// Notes that the engine has closed the connection. The engine sends the last packets.
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.conclude(cause_of(reason), || ());
    }

    /// Ends the session, once. `disconnect` closes the connection.
    fn conclude(&self, cause: Cause, disconnect: impl FnOnce()) {
        let mut life = self.life();
        life.is_ending = true;
        if std::mem::replace(&mut life.is_ended, true) {
            return;
        }
        if let Some(carrier) = self.socketioxide() {
            carrier.ended.cancel();
        }
        let undelivered = std::mem::take(&mut life.undelivered);
        drop(life);
        disconnect();
        if let Some(carrier) = self.socketioxide() {
            carrier.clear();
        }
        self.acks.clear();
        self.count_end(cause);
        self.place.release();
        for action in undelivered {
            action();
        }
        if let Some(carrier) = self.socketioxide() {
            carrier.close();
        }
    }

    pub(in crate::transport) fn end_unless_admitted(self: &Arc<Self>, after: Duration) {
        let session = Arc::downgrade(self);
        let end = move || {
            if let Some(session) = session.upgrade()
                && !session.is_admitted()
            {
                let is_refused = session.refusals.load(Ordering::Acquire) > 0;
                session.end(match is_refused {
                    true => Cause::Refused,
                    false => Cause::Unauthenticated,
                });
            }
        };
        let mut life = self.life();
        if !life.is_ending {
            life.deadline = Some(self.context.timers.schedule(Instant::now() + after, end));
        }
    }

    /// Counts the end of this session, once: by the cause that ended its stream, if it had one and
    /// that ended by itself, for then `cause` came second.
    pub(super) fn count_end(&self, cause: Cause) {
        let stream = self.socketioxide().and_then(|carrier| {
            let stream = carrier.stream();
            stream.as_ref().and_then(|one| one.switch.cause())
        });
        let cause = stream.unwrap_or(cause);
        if self.cause.set(cause).is_ok() {
            self.context.metrics.session_closed(cause);
            // The other ends are logged where they are decided.
            if let Cause::TooLarge | Cause::InvalidText | Cause::Violated | Cause::Stalled = cause {
                self.report(cause);
            }
        }
    }

    /// Logs a client that broke a rule, one a minute at most: strangers can be such clients.
    fn report(&self, cause: Cause) {
        let now = clock::unix_secs(clock::wall_now());
        if self.context.violation_reports.is_due(now) {
            let address = self.opener.address();
            tracing::info!(
                cause = cause.name(),
                ?address,
                "closed a connection that broke a rule"
            );
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cause of an end that the connection came to.
fn cause_of(reason: CloseReason) -> Cause {
    match reason {
        CloseReason::WriteStalled => Cause::Stalled,
        CloseReason::Violated(Violation::TooLarge) => Cause::TooLarge,
        CloseReason::Violated(Violation::InvalidText) => Cause::InvalidText,
        CloseReason::Violated(Violation::Protocol) | CloseReason::OverlappingRequests => {
            Cause::Violated
        }
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
        Cause::NoKeys | Cause::BackEndFailed => CloseCode::InternalError,
        Cause::TooLarge => CloseCode::TooLarge,
        Cause::InvalidText => CloseCode::InvalidText,
        Cause::Violated => CloseCode::ProtocolError,
        Cause::Client | Cause::Expired | Cause::Revoked | Cause::Disconnected | Cause::Stalled => {
            CloseCode::Normal
        }
    }
}
