//! Engine.IO sessions as the gateway sees them: who opened each, which stream serves it now, and
//! the switch that ends it.
//!
//! socketioxide keeps only the request that opened a session, and after an upgrade that is another
//! stream than the one in use. So the gateway keeps a record of its own, outside of it.

mod gate;
mod request;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use shared_claims::Rejection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::gate::{Engine, Gate};
use self::request::Opener;
use crate::{
    gateway::Gateway,
    handshake::RequestCredentials,
    listener::{Backlog, Connection, Place, refusal_data::Dialect},
    metrics::Cause,
    timers::Timer,
};

/// How long a packet that was just queued has to leave before its stream is closed.
const FLUSH_GRACE: Duration = Duration::from_millis(50);

/// How often that is granted again while the stream takes what it is given: then it is this machine
/// that is slow, and not the client.
const FLUSH_RENEWALS: u32 = 5;

/// One Engine.IO session, from its first request to its end.
pub struct EngineSession {
    opener: Opener,
    gateway: Arc<Gateway>,
    ended: CancellationToken,
    /// Why it ended, once that is counted.
    cause: OnceLock<Cause>,
    /// The connection of the WebSocket that serves the session; `None` while it polls.
    stream: Mutex<Option<Connection>>,
    dialect: Dialect,
    /// Set for a session that began by polling.
    polling: OnceLock<Polling>,
    /// When a request of this session came or was answered last.
    heard_at: Mutex<Instant>,
    /// How many sockets of it are admitted: one for each namespace.
    admitted: AtomicU32,
    refusals: AtomicU32,
    life: Mutex<Life>,
    /// What waits to be sent to this client.
    backlog: Backlog,
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
}

/// What a session needs that has no stream of its own.
struct Polling {
    sid: String,
    registry: Arc<Registry>,
    /// Ends the session inside of socketioxide, where no stream's end would do it.
    close: Box<dyn Fn() + Send + Sync>,
}

impl EngineSession {
    fn new(opener: Opener, dialect: Dialect, gateway: Arc<Gateway>, place: Place) -> Arc<Self> {
        gateway.metrics.session_opened();
        Arc::new(Self {
            opener,
            gateway,
            ended: CancellationToken::new(),
            cause: OnceLock::new(),
            stream: Mutex::default(),
            dialect,
            polling: OnceLock::new(),
            heard_at: Mutex::new(Instant::now()),
            admitted: AtomicU32::new(0),
            refusals: AtomicU32::new(0),
            life: Mutex::default(),
            backlog: Backlog::default(),
            place,
        })
    }

    /// What the requests of this session carry as credentials.
    #[must_use]
    pub fn credentials(&self) -> &RequestCredentials {
        self.opener.credentials()
    }

    /// Whether the client has gone: its WebSocket is closed, or it polls no more.
    pub(crate) fn is_gone(&self) -> bool {
        match &*self.stream() {
            Some(stream) => stream.switch.is_closed(),
            None => self.heard_at().elapsed() > self.gateway.silence,
        }
    }

    /// Whether it began by polling; it may have come to a WebSocket since.
    pub(crate) fn began_by_polling(&self) -> bool {
        self.polling.get().is_some()
    }

    fn heard(&self) {
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

    /// What waits to be sent to this client.
    #[must_use]
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The gateway that it belongs to.
    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Waits for the end of a session whose end is decided; returns at once from any other.
    pub async fn wait_if_ending(&self) {
        let is_ending = self.life().is_ending;
        if is_ending {
            self.ended.cancelled().await;
        }
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
        self.gateway.metrics.socket_admitted();
        true
    }

    /// Notes that an admitted socket left while the transport stays.
    pub fn leave(self: &Arc<Self>) {
        if self.admitted.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end_unless_admitted(self.gateway.limits.unauthenticated());
        }
    }

    /// Notes a refusal. The client has a moment to read it or to present another token; with the
    /// last refusal that it may have, the session ends.
    pub fn refuse(self: &Arc<Self>, rejection: Rejection) {
        self.gateway.metrics.refusal(rejection);
        // Who has too many sockets has a good token, and floods nobody.
        if rejection != Rejection::TooManySockets {
            self.gateway.flood.count(self.opener.address());
        }
        self.count_refusal();
    }

    /// Notes a refusal by the application of somebody whose token was accepted: to the transport it
    /// is one like any other, but it shows no flood of guesses.
    pub(crate) fn turn_away(self: &Arc<Self>) {
        self.gateway.metrics.refused_by_application();
        self.count_refusal();
    }

    fn count_refusal(self: &Arc<Self>) {
        let limits = &self.gateway.limits;
        let refusals = self.refusals.fetch_add(1, Ordering::AcqRel) + 1;
        if refusals >= limits.refusals {
            self.end_soon(Cause::Refused);
        } else {
            self.end_unless_admitted(limits.refusal_linger());
        }
    }

    /// Ends the session once a last packet of about so many `bytes`, which `tell` queues, has left;
    /// or after the moment that it needs for that.
    ///
    /// A client that does not take what waits for it is told nothing, and neither is one whom `tell`
    /// does not reach: then the session ends at once. Where its end is decided already, it follows in
    /// its time: each namespace has a last packet of its own.
    pub fn end_with(self: &Arc<Self>, bytes: usize, cause: Cause, tell: impl FnOnce() -> bool) {
        let is_empty = self.backlog.is_empty();
        let is_backlogged = !is_empty && !self.is_flushing();
        let mut life = self.life();
        let was_ending = life.is_ending;
        if !was_ending && !is_backlogged {
            life.is_ending = true;
            life.deadline = Some(self.end_after_grace(cause, FLUSH_RENEWALS));
            // Only a single packet can be seen to leave: not those of several namespaces, nor one
            // behind others, of which less is counted than is written.
            if is_empty && self.admitted.load(Ordering::Acquire) <= 1 {
                let session = Arc::downgrade(self);
                self.backlog.add_last(bytes, move || {
                    if let Some(session) = session.upgrade() {
                        session.end(cause);
                    }
                });
            }
        }
        drop(life);
        let is_told = !is_backlogged && tell();
        if !is_told && !was_ending {
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
                session.life().deadline = Some(session.end_after_grace(cause, renewals - 1));
            } else {
                session.end(cause);
            }
        };
        self.gateway
            .timers
            .schedule(Instant::now() + FLUSH_GRACE, end)
    }

    /// Whether something waits to leave by a WebSocket that takes it.
    fn is_flushing(&self) -> bool {
        let stream = self.stream();
        let takes = |one: &Connection| !one.switch.is_blocked() && !one.switch.is_closed();
        !self.backlog.is_empty() && stream.as_ref().is_some_and(takes)
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
        drop(life);
        self.count_end(cause);
        self.place.give_back();
        // Both, for a session in the middle of an upgrade is served by both.
        if let Some(stream) = &*self.stream() {
            stream.switch.close();
        }
        if let Some(polling) = self.polling.get() {
            (polling.close)();
        }
    }

    fn end_unless_admitted(self: &Arc<Self>, after: Duration) {
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
            life.deadline = Some(self.gateway.timers.schedule(Instant::now() + after, end));
        }
    }

    /// Counts the end of this session, once: by the cause that ended its stream, if it had one and
    /// that ended by itself, for then `cause` came second.
    fn count_end(&self, cause: Cause) {
        let stream = self.stream().as_ref().and_then(|one| one.switch.cause());
        let cause = stream.unwrap_or(cause);
        if self.cause.set(cause).is_ok() {
            self.gateway.metrics.session_closed(cause);
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
    fn attach(&self, connection: Connection) -> bool {
        let mut stream = self.stream();
        let is_served = stream
            .as_ref()
            .is_some_and(|current| !current.switch.is_closed());
        if is_served || self.ended.is_cancelled() {
            return false;
        }
        let connection = stream.insert(connection);
        connection.refusal_data.start(self.dialect);
        connection
            .backlog
            .store(Some(Arc::new(self.backlog.clone())));
        true
    }

    /// Takes the session back from a connection that became no WebSocket.
    fn detach(&self) {
        if let Some(connection) = self.stream().take() {
            connection.refusal_data.stop();
            // It may come to serve another session.
            connection.backlog.store(None);
        }
    }
}

impl Drop for EngineSession {
    fn drop(&mut self) {
        // The connection of a WebSocket that never came to be lives on, and has it too.
        self.place.give_back();
        self.count_end(Cause::Client);
    }
}

/// The polling sessions by their `sid`, for the requests that name one.
#[derive(Default)]
struct Registry(Mutex<HashMap<String, Weak<EngineSession>>>);

impl Registry {
    fn insert(&self, session: &Arc<EngineSession>, polling: Polling) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(polling.sid.clone(), Arc::downgrade(session));
        drop(sessions);
        // A session is opened, and so inserted, once.
        let _ = session.polling.set(polling);
    }

    fn get(&self, sid: &str) -> Option<Arc<EngineSession>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(sid)?
            .upgrade()
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.registry
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.sid);
    }
}
