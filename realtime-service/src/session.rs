//! A socket that was admitted: who it is, what it may do, and until when.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use serde::Serialize;
use serde_json::json;
use shared_claims::{Rejection, VerifiedClaims, ids};
use socketioxide::extract::SocketRef;
use tokio::time::Instant;

use crate::{
    engine::EngineSession,
    gateway::Gateway,
    listener::Backlog,
    metrics::Cause,
    rooms::{
        RoomName,
        policy::{Grants, RoomRule},
    },
    timers::Timer,
};

/// An admitted socket. It exists from the verification of its token to the end of its connection.
pub struct Session {
    /// Who it is, in the form that others are shown.
    pub sender: Sender,
    /// What its token and the rules let it do.
    pub grants: Grants,
    engine: Arc<EngineSession>,
    /// The end of the token by the clock that timers go by, and by the one on the wall: the former
    /// stands still while a machine is suspended.
    expires_at: (Instant, SystemTime),
    expiry: Mutex<Option<Timer>>,
    is_closed: AtomicBool,
    rooms: Mutex<HashSet<RoomName>>,
}

/// Who sent a message.
#[derive(Clone, Debug, Serialize)]
pub struct Sender {
    /// The subject of the token.
    pub sub: String,
    /// The name to show, when the token has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A random id of this connection. It is not Socket.IO's `socket.id`, which is the Engine.IO
    /// `sid`, and whoever knows that one can take the connection over.
    pub connection: String,
}

impl Session {
    /// Opens a session on verified claims. `now` is the time that they were verified at.
    #[must_use]
    pub fn open(
        claims: &VerifiedClaims,
        rules: &[RoomRule],
        engine: Arc<EngineSession>,
        now: SystemTime,
    ) -> Arc<Self> {
        let left = claims.expires_at().duration_since(now).unwrap_or_default();
        let profile = &claims.profile;
        Arc::new(Self {
            sender: Sender {
                sub: claims.sub.clone(),
                name: profile
                    .name
                    .clone()
                    .or_else(|| profile.preferred_username.clone()),
                connection: random_id(),
            },
            grants: Grants::of(rules, &claims.sub),
            engine,
            expires_at: (Instant::now() + left, claims.expires_at()),
            expiry: Mutex::default(),
            is_closed: AtomicBool::new(false),
            rooms: Mutex::default(),
        })
    }

    /// Whether the session may still send and receive. It is asked before every event in either
    /// direction, so that not a byte passes after the end, however late the timer.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire)
            && Instant::now() < self.expires_at.0
            && SystemTime::now() < self.expires_at.1
    }

    /// The rooms that it is in.
    pub fn rooms(&self) -> std::sync::MutexGuard<'_, HashSet<RoomName>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session and its transport at once, whatever waits to be sent.
    pub fn end(&self, gateway: &Gateway, cause: Cause) {
        self.close(gateway);
        self.engine.end(cause);
    }

    /// Ends the session when its transport or its socket has gone.
    pub fn disconnected(&self, gateway: &Gateway) {
        self.close(gateway);
        self.engine.leave();
    }

    /// Arms the timer that ends the session when its token ends.
    pub fn arm_expiry(self: &Arc<Self>, socket: SocketRef, gateway: &Arc<Gateway>) {
        let session = Arc::downgrade(self);
        let for_action = gateway.clone();
        let timer = gateway.timers.schedule(self.expires_at.0, move || {
            if let Some(session) = session.upgrade() {
                session.expire(&socket, &for_action);
            }
        });
        let mut expiry = self.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        // The socket may have gone while its handler was on the way here.
        if !self.is_closed.load(Ordering::Acquire) {
            *expiry = Some(timer);
        }
    }

    /// Tells the client that its token has ended, and closes its transport, not its socket: a
    /// client that gets its token from a function then comes back by itself with a fresh one.
    fn expire(&self, socket: &SocketRef, gateway: &Gateway) {
        if !self.close(gateway) {
            return;
        }
        tracing::info!(sub = %self.sender.sub, connection = %self.sender.connection, "token expired");
        // What still waits must not follow the end, so a backlogged client is told nothing.
        let is_told = self.backlog().is_empty()
            && socket
                .emit("unauthorized", &unauthorized(Rejection::TokenExpired))
                .is_ok();
        if is_told {
            self.engine.end_once_flushed(Cause::Expired);
        } else {
            self.engine.end(Cause::Expired);
        }
    }

    /// What waits to be sent to this client.
    #[must_use]
    pub fn backlog(&self) -> &Backlog {
        self.engine.backlog()
    }

    /// Closes the session; `false` when it was closed before.
    fn close(&self, gateway: &Gateway) -> bool {
        let was_closed = self.is_closed.swap(true, Ordering::AcqRel);
        gateway.rooms.leave_all(self);
        let _timer = self
            .expiry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        !was_closed
    }
}

/// What `socketio-jwt` sends with its event `unauthorized`, and our reason.
fn unauthorized(rejection: Rejection) -> serde_json::Value {
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
