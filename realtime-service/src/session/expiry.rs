//! The deadlines of a session, and what its client is told when one is reached.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use serde_json::json;
use shared_claims::Rejection;
use tokio::time::Instant;

use super::{Identity, Session, lock, unauthorized};
use crate::{
    clock::{unix_secs, wall_now},
    metrics::Cause,
    outbox,
    timers::Timer,
};

/// The timers of a session; without them nothing ends it but its client.
#[derive(Default)]
pub(super) struct Deadlines {
    /// Those of the current identity.
    identity: Vec<Timer>,
    /// The next check of the client's liveness, if there is one.
    liveness: Option<Timer>,
    /// The end of the transport of a client that was sent `rt:drain`.
    drain: Option<Timer>,
}

impl Session {
    /// Arms the timers of the current identity in place of those of another. The token ends at its
    /// deadline by the timers' clock or by the wall clock, whichever comes first. Before the admission
    /// no timer is armed.
    ///
    /// The caller holds the lock of renewals: timers of an older identity must not replace those of a
    /// newer one.
    pub(super) fn arm(self: &Arc<Self>) {
        if !self.is_admitted.load(Ordering::Acquire) {
            return;
        }
        let identity = self.identity();
        let deadline = identity.expires_at().map(|(end, wall)| {
            let left = wall.duration_since(wall_now()).unwrap_or_default();
            (end.min(Instant::now() + left), wall)
        });
        self.outbox.set_deadline(deadline);
        let timers = match deadline {
            Some((end, wall)) => {
                let announcement = self.schedule_announcement(end, wall);
                let expiry = self.schedule(end, move |session| session.expire(&identity));
                vec![announcement, expiry]
            }
            None if self.context.keeps_guests(self.outbox.namespace()) => Vec::new(),
            None => {
                let end = Instant::now() + self.context.auth.deferred_deadline();
                vec![self.schedule(end, Self::time_out)]
            }
        };
        let mut deadlines = lock(&self.deadlines);
        // The socket may have gone meanwhile.
        if !self.is_terminated() {
            deadlines.identity = timers;
        }
    }

    /// Arms the timers again, after the wall clock was set.
    ///
    /// The timer of a guest stays: it measures how long the guest has taken to authenticate.
    pub(super) fn arm_again(self: &Arc<Self>) {
        let _alone = lock(&self.renewing);
        if self.identity().expires_at().is_some() {
            self.arm();
        }
    }

    fn schedule_announcement(self: &Arc<Self>, end: Instant, wall: SystemTime) -> Timer {
        let notice = self.context.auth.expiring_notice();
        let at = end.checked_sub(notice).unwrap_or(end);
        self.schedule(at, move |session| session.announce_expiry(wall))
    }

    /// Checks in `after` whether the client is still there.
    pub(super) fn check_liveness_in(self: &Arc<Self>, after: Duration) {
        let check = self.schedule(Instant::now() + after, Self::check_liveness);
        let mut deadlines = lock(&self.deadlines);
        if !self.is_terminated() {
            deadlines.liveness = Some(check);
        }
    }

    /// Closes the transport in `after`, since the gateway drains. Returns `false` when the end is scheduled
    /// already, or the session has ended.
    pub(super) fn close_drained_in(self: &Arc<Self>, after: Duration) -> bool {
        let end = self.schedule(Instant::now() + after, |session| {
            session.close(Cause::Drained);
        });
        let mut deadlines = lock(&self.deadlines);
        let is_first = deadlines.drain.is_none() && !self.is_terminated();
        if is_first {
            deadlines.drain = Some(end);
        }
        is_first
    }

    fn schedule(
        self: &Arc<Self>,
        at: Instant,
        action: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Timer {
        let session = Arc::downgrade(self);
        self.context.timers.schedule(at, move || {
            if let Some(session) = session.upgrade() {
                action(&session);
            }
        })
    }

    /// Tells the client that its token will end soon, in time to present the next one.
    fn announce_expiry(self: &Arc<Self>, wall: SystemTime) {
        let left = wall.duration_since(wall_now()).unwrap_or_default();
        let data = json!({ "expires_at": unix_secs(wall), "seconds_left": left.as_secs() });
        self.emit("rt:expiring", &data);
    }

    /// Tells the client that the token of `identity` has ended, and closes its transport, not its socket: a
    /// client that gets its token from a function then comes back by itself with a fresh one.
    fn expire(self: &Arc<Self>, identity: &Arc<Identity>) {
        // A token that was renewed in this very moment has timers of its own.
        if !Arc::ptr_eq(&self.identity(), identity) || !self.terminate(Cause::Expired) {
            return;
        }
        tracing::info!(connection = %self.connection, "token expired");
        let told = unauthorized(Rejection::TokenExpired);
        match outbox::event(self.outbox.namespace(), "unauthorized", &told) {
            Ok(packet) => self.outbox.finish(packet, Cause::Expired, || {}),
            Err(_) => self.engine().end(Cause::Expired),
        }
    }

    /// Ends the session of a guest who has not authenticated in time.
    fn time_out(self: &Arc<Self>) {
        // The guest may have authenticated in this very moment.
        if self.identity().principal.is_some() {
            return;
        }
        tracing::info!(connection = %self.connection, "closed: it has not authenticated in time");
        self.emit(
            "unauthorized",
            &unauthorized(Rejection::AuthenticationTimedOut),
        );
        self.disconnect(Cause::Unauthenticated);
    }
}
