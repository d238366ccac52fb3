//! When a session ends by itself, and what its client is told.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use serde_json::json;
use shared_claims::Rejection;
use tokio::time::Instant;

use super::{Session, lock, queue::is_connected, seconds, unauthorized};
use crate::{metrics::Cause, timers::Timer};

/// The timers of a session; without them nothing ends it but its client.
#[derive(Default)]
pub(super) struct Deadlines {
    /// What the identity of this moment brings with it.
    identity: Vec<Timer>,
    /// The next look at the socket, if there is one.
    look: Option<Timer>,
}

impl Session {
    /// Arms the timers of the identity of this moment in place of those of another.
    pub(super) fn arm(self: &Arc<Self>) {
        let timers = match self.identity().expires_at() {
            Some((end, wall)) => {
                let notice = self.gateway.auth.expiring_notice();
                let at = end.checked_sub(notice).unwrap_or(end);
                vec![
                    self.schedule(end, Self::expire),
                    self.schedule(at, move |session| session.announce_end(wall)),
                ]
            }
            None if self.gateway.auth.anonymous => Vec::new(),
            None => {
                let end = Instant::now() + self.gateway.auth.deferred_deadline();
                vec![self.schedule(end, Self::time_out)]
            }
        };
        let mut deadlines = lock(&self.deadlines);
        // The socket may have gone meanwhile.
        if !self.is_closed.load(Ordering::Acquire) {
            deadlines.identity = timers;
        }
    }

    /// Looks in `after` whether the socket is still there.
    pub(super) fn look_in(self: &Arc<Self>, after: Duration) {
        let look = self.schedule(Instant::now() + after, Self::look);
        let mut deadlines = lock(&self.deadlines);
        if !self.is_closed.load(Ordering::Acquire) {
            deadlines.look = Some(look);
        }
    }

    pub(super) fn schedule(
        self: &Arc<Self>,
        at: Instant,
        action: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Timer {
        let session = Arc::downgrade(self);
        self.gateway.timers.schedule(at, move || {
            if let Some(session) = session.upgrade() {
                action(&session);
            }
        })
    }

    /// Tells the client that its token will end soon, in time to present the next one. It passes
    /// through the queue, for CONNECT may not be acknowledged yet.
    fn announce_end(self: &Arc<Self>, wall: SystemTime) {
        let left = wall.duration_since(SystemTime::now()).unwrap_or_default();
        let data = json!({ "expires_at": seconds(wall), "seconds_left": left.as_secs() });
        let session = self.clone();
        let job = Box::pin(async move {
            let socket = lock(&session.socket).clone();
            if let Some(socket) = socket
                && is_connected(&socket, &session).await
                && session.is_live()
            {
                session.emit("rt:expiring", &data);
            }
        });
        // A queue that is full ends the session anyway.
        let _ = self.queue.push(0, job);
    }

    /// Tells the client that its token has ended, and closes its transport, not its socket: a
    /// client that gets its token from a function then comes back by itself with a fresh one.
    fn expire(self: &Arc<Self>) {
        // A token that was renewed in this very moment has timers of its own.
        if !self.identity.load().has_expired() {
            return;
        }
        let socket = lock(&self.socket).clone();
        let Some(socket) = socket.filter(|_| self.close()) else {
            return;
        };
        tracing::info!(connection = %self.connection, "token expired");
        let told = unauthorized(Rejection::TokenExpired);
        let bytes = told.to_string().len();
        self.engine.end_with(bytes, Cause::Expired, || {
            socket.emit("unauthorized", &told).is_ok()
        });
    }

    /// Ends the session of a guest who has not authenticated in time.
    fn time_out(self: &Arc<Self>) {
        // Somebody may have authenticated in this very moment.
        if self.identity().principal.is_some() {
            return;
        }
        tracing::info!(connection = %self.connection, "closed: it has not authenticated in time");
        self.emit(
            "unauthorized",
            &unauthorized(Rejection::AuthenticationTimedOut),
        );
        self.dismiss(Cause::Unauthenticated);
    }
}
