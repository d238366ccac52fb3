//! A socket that was admitted: who it is, what it may do, and until when.

mod deadlines;
mod departure;
mod identity;
mod index;
mod queue;
mod received;
mod renewal;
mod sending;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::HashSet,
    future::ready,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json};
use shared_claims::{Rejection, ids};
use socketioxide::extract::SocketRef;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::received::{QueueFull, wait_for_room};
use self::{
    deadlines::Deadlines,
    queue::{Full, Queue, is_connected},
};
pub use self::{
    identity::{Identity, Principal, Sender},
    index::Index,
    received::{Arguments, InvalidArguments, Received},
    renewal::Renewed,
    sending::{ACKNOWLEDGEMENT_DEADLINE, NotAcknowledged},
};
use crate::{
    engine::EngineSession,
    gateway::Gateway,
    limits::{Pace, Permit, Subject, Verdict},
    listener::Backlog,
    metrics::{Cause, Limit},
    rooms::RoomName,
};

/// A socket that was admitted. It exists from the verification of its token to the end of its
/// connection, and belongs to the same principal all the time.
pub struct Session {
    /// A random id of this connection, which others may know.
    pub connection: String,
    /// When it was admitted.
    pub admitted_at: SystemTime,
    gateway: Arc<Gateway>,
    engine: Arc<EngineSession>,
    identity: ArcSwap<Identity>,
    /// Held while the identity is replaced, so that two tokens are not taken at once.
    renewing: Mutex<()>,
    /// What is still to be sent goes by it; `None` once the session has ended.
    socket: Mutex<Option<SocketRef>>,
    deadlines: Mutex<Deadlines>,
    is_closed: AtomicBool,
    /// For whoever waits for something from this client.
    ended: CancellationToken,
    /// Whether it counts among the admitted sockets of its transport.
    is_admitted: AtomicBool,
    /// Whether the application's disconnect handler has taken the place of ours.
    is_unheard: AtomicBool,
    refusals: AtomicU32,
    /// Its place among the sockets of its subject; a guest has none.
    seat: Mutex<Option<Permit<Subject>>>,
    pace: Mutex<Pace>,
    rooms: Mutex<HashSet<RoomName>>,
    queue: Queue,
}

/// Who may send an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// Whoever was admitted as somebody, or as a guest where guests are let in for good.
    Members,
    /// Also those who have yet to say who they are.
    Everybody,
}

impl Session {
    /// Opens the session of a socket whose CONNECT is about to be acknowledged.
    ///
    /// # Errors
    ///
    /// When its subject has as many sockets as it may.
    pub(crate) fn open(
        gateway: &Arc<Gateway>,
        engine: Arc<EngineSession>,
        socket: &SocketRef,
        identity: Identity,
    ) -> Result<Arc<Self>, Rejection> {
        let seat = identity.principal.as_ref();
        let seat = seat.map(|principal| take_seat(gateway, principal));
        let session = Arc::new(Self {
            connection: identity.sender.connection.clone(),
            admitted_at: SystemTime::now(),
            gateway: gateway.clone(),
            engine,
            identity: ArcSwap::from_pointee(identity),
            renewing: Mutex::default(),
            socket: Mutex::new(Some(socket.clone())),
            deadlines: Mutex::default(),
            is_closed: AtomicBool::new(false),
            ended: CancellationToken::new(),
            is_admitted: AtomicBool::new(false),
            is_unheard: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            seat: Mutex::new(seat.transpose()?),
            pace: Mutex::new(Pace::new(&gateway.limits, Instant::now())),
            rooms: Mutex::default(),
            queue: Queue::start(&gateway.limits),
        });
        gateway.sessions.insert(&session);
        if let Some(principal) = &session.identity().principal {
            gateway.sessions.insert_as(principal, &session);
        }
        session.arm();
        Ok(session)
    }

    /// Who it is at this moment, and what they may do.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Whether the session may still send and receive. It is asked before every event in either
    /// direction, so that not a byte passes after the end, however late the timer.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire) && !self.identity.load().has_expired()
    }

    /// The rooms that it is in.
    pub fn rooms(&self) -> MutexGuard<'_, HashSet<RoomName>> {
        lock(&self.rooms)
    }

    /// What waits to be sent to this client.
    #[must_use]
    pub fn backlog(&self) -> &Backlog {
        self.engine.backlog()
    }

    /// Whether as much waits for this client as may.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.backlog().waiting() > self.gateway.limits.outbound_bytes
    }

    /// Handles the event `name` of this socket. Call it in a connect middleware, or what the client
    /// sends right after CONNECT is lost.
    ///
    /// Events of one socket are handled one after the other in the order in which they were sent,
    /// whatever their names; each only while the session lives, and none of a guest who has yet to
    /// authenticate. A client that sends faster than its events are handled is closed.
    pub fn on<F, Done>(
        self: &Arc<Self>,
        socket: &SocketRef,
        name: impl Into<Cow<'static, str>>,
        handler: F,
    ) where
        F: Fn(Arc<Self>, Received) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        self.register(socket, name.into(), Audience::Members, handler);
    }

    /// Handles the events of this socket that nothing else handles, as [`Self::on`] does.
    pub fn on_any_other<F, Done>(self: &Arc<Self>, socket: &SocketRef, handler: F)
    where
        F: Fn(Arc<Self>, Received) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let (session, handler) = (self.clone(), Arc::new(handler));
        socket.on_fallback(move |received: Received| {
            session.push(received, Audience::Members, handler.clone());
            ready(())
        });
    }

    fn register<F, Done>(
        self: &Arc<Self>,
        socket: &SocketRef,
        name: Cow<'static, str>,
        audience: Audience,
        handler: F,
    ) where
        F: Fn(Arc<Self>, Received) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let (session, handler) = (self.clone(), Arc::new(handler));
        socket.on(name, move |received: Received| {
            session.push(received, audience, handler.clone());
            ready(())
        });
    }

    /// Takes an event in, or closes the socket when its queue is full.
    fn push<F, Done>(self: &Arc<Self>, received: Received, audience: Audience, handler: Arc<F>)
    where
        F: Fn(Arc<Self>, Received) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        if !self.is_live() {
            return;
        }
        let verdict = lock(&self.pace).count(Instant::now());
        if verdict != Verdict::Pass {
            self.gateway.metrics.limited(Limit::EventsPerSec);
        }
        if verdict == Verdict::Close {
            return self.end(Cause::Flooded);
        }
        let session = self.clone();
        let size = received.bytes();
        let job = Box::pin(async move {
            if !is_connected(&received.socket, &session).await {
                session.end(Cause::Overflowed);
            }
            if !session.is_live() {
                return;
            }
            if let Verdict::Wait(wait) = verdict {
                let answer = too_fast(wait);
                return received.acknowledge(&session, &answer).await;
            }
            if audience == Audience::Members && !session.is_member() {
                let error = json!({ "code": "unauthenticated", "retryable": false,
                    "message": "this socket has yet to authenticate" });
                let answer = json!({ "ok": false, "error": error });
                return received.acknowledge(&session, &answer).await;
            }
            handler(session, received).await;
        });
        if let Err(Full) = self.queue.push(size, job) {
            tracing::warn!(connection = %self.connection, "closed: it sends events too fast");
            self.end(Cause::Flooded);
        }
    }

    /// Whether the socket may do more than authenticate.
    fn is_member(&self) -> bool {
        self.gateway.auth.anonymous || self.identity.load().principal.is_some()
    }

    /// Sends an event with its arguments: a tuple is as many as it has members, [`Arguments`] are as
    /// many as they are, and `Bytes` are binary data. `false` when it cannot be queued, before CONNECT is acknowledged and after the end.
    pub fn emit(&self, event: &str, data: &impl Serialize) -> bool {
        let socket = lock(&self.socket);
        self.is_live()
            && socket
                .as_ref()
                .is_some_and(|socket| socket.emit(event, data).is_ok())
    }

    /// Ends the session and its transport at once, whatever waits to be sent.
    pub fn end(&self, cause: Cause) {
        self.close();
        self.engine.end(cause);
    }

    /// Ends the session for good: the client is told by a DISCONNECT packet, after which stock
    /// clients do not come back by themselves, and then its transport is closed.
    pub fn dismiss(&self, cause: Cause) {
        let socket = lock(&self.socket).clone();
        let Some(socket) = socket.filter(|_| self.close()) else {
            return;
        };
        let tell = || socket.disconnect().is_ok();
        if self.identity().principal.is_none() {
            // What waits for a guest is mostly why this end comes.
            tell();
            self.engine.end_soon(cause);
        } else {
            // The packet is `41`, and the name of a namespace that is not the main one.
            self.engine.end_with("41".len(), cause, tell);
        }
    }

    /// Takes back a session that was never admitted; its transport stays.
    pub(crate) fn forget(&self) {
        self.close();
    }

    /// Takes back a session that the application refuses, whatever its token.
    pub(crate) fn turn_away(&self) {
        tracing::info!(connection = %self.connection, "refused by the application");
        self.close();
        self.engine.turn_away();
    }

    /// Admits the session: CONNECT is acknowledged next.
    ///
    /// # Errors
    ///
    /// When the end of its transport was decided meanwhile. What is returned after that reaches
    /// nobody.
    pub(crate) async fn admit(self: &Arc<Self>) -> Result<(), Rejection> {
        if !self.engine.admit() {
            self.close();
            self.engine.wait_if_ending().await;
            return Err(Rejection::TokenMissing);
        }
        self.is_admitted.store(true, Ordering::Release);
        self.look_soon();
        Ok(())
    }

    /// Closes the session; `false` when it was closed before.
    fn close(&self) -> bool {
        let was_closed = self.is_closed.swap(true, Ordering::AcqRel);
        self.ended.cancel();
        self.gateway.rooms.leave_all(self);
        self.gateway.sessions.remove(self);
        if let Some(principal) = &self.identity().principal {
            self.gateway.sessions.remove_as(principal, self);
        }
        let timers = std::mem::take(&mut *lock(&self.deadlines));
        drop(timers);
        let socket = lock(&self.socket).take();
        drop(socket);
        lock(&self.seat).take();
        self.queue.end();
        !was_closed
    }
}

/// A place among the sockets of a subject.
fn take_seat(gateway: &Gateway, principal: &Principal) -> Result<Permit<Subject>, Rejection> {
    let subject = (principal.issuer.clone(), principal.subject.clone());
    gateway.quotas.sockets.acquire(Some(subject)).map_err(|_| {
        gateway.metrics.limited(Limit::SocketsPerSubject);
        Rejection::TooManySockets
    })
}

/// The answer to one event too many.
fn too_fast(wait: Duration) -> Value {
    // Rounded up: whoever comes back after it is not too early.
    let wait_ms = u64::try_from(wait.as_millis() + 1).unwrap_or(u64::MAX);
    let error = json!({
        "code": "rate_limited", "message": "this socket sends events too fast",
        "retryable": true, "retry_after_ms": wait_ms,
    });
    json!({ "ok": false, "error": error })
}

/// What `socketio-jwt` sends with its event `unauthorized`, and our reason.
fn unauthorized(rejection: Rejection) -> Value {
    let message = rejection.message();
    json!({
        "message": message,
        "inner": { "message": message },
        "data": {
            "message": message,
            "code": rejection.code(),
            "type": "UnauthorizedError",
            "reason": rejection.reason(),
        },
    })
}

/// Whole seconds since the epoch.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fresh random id.
///
/// # Panics
///
/// When the system has no randomness, without which nothing here would be safe.
#[must_use]
pub fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    ids::from_random(bytes)
}
