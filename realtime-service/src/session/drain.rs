//! The drain of all sessions: each client is sent `rt:drain`, a few at a time, and closed soon after.
//!
//! Clients that are not sent it yet are served as before.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{Session, SessionContext};
use crate::transport::turn;

/// Delay before a client reconnects after `rt:drain`, in milliseconds.
const RECONNECT_IN_MS: u64 = 1000;

/// Returns what `rt:drain` says.
#[must_use]
pub fn drain_notice() -> Value {
    json!({ "reconnect_in_ms": RECONNECT_IN_MS })
}

impl SessionContext {
    /// Sends `rt:drain` to every admitted client, spread evenly over `window`, and closes each transport
    /// `limits.drain_ms` later. Clients that were admitted meanwhile come last, all at once. Ends when the
    /// last transport has been closed, at once if there was none.
    ///
    /// Cancellation leaves the clients that were not sent it as they are; the others are closed.
    pub async fn drain(&self, window: Duration) {
        let notice = drain_notice();
        let begun_at = Instant::now();
        let sessions = self.sessions.all();
        let sessions: Vec<Weak<Session>> = sessions.iter().map(Arc::downgrade).collect();
        let mut sent_at = None;
        let mut next = 0;
        while next < sessions.len() && self.sessions.count() > 0 {
            sleep_until(begun_at + place_in_window(next, sessions.len(), window)).await;
            let elapsed = begun_at.elapsed();
            let batch = sessions[next..]
                .iter()
                .enumerate()
                .take_while(|(index, _)| {
                    place_in_window(next + index, sessions.len(), window) <= elapsed
                });
            let batch: Vec<_> = batch.map(|(_, session)| session).collect();
            next += batch.len();
            if self.send_drain(batch.into_iter().filter_map(Weak::upgrade), &notice) {
                sent_at = Some(Instant::now());
            }
        }
        if self.send_drain(self.sessions.all().into_iter(), &notice) {
            sent_at = Some(Instant::now());
        }
        if let Some(sent_at) = sent_at {
            sleep_until(sent_at + self.limits.drain()).await;
        }
    }

    /// Sends `notice` to `sessions`, and returns whether there was one to send it to.
    fn send_drain(&self, sessions: impl Iterator<Item = Arc<Session>>, notice: &Value) -> bool {
        let grace = self.limits.drain();
        turn::scope(|| {
            let sent = sessions.filter(|session| session.drain(notice, grace));
            sent.count() > 0
        })
    }
}

impl Session {
    /// Sends `rt:drain`, and closes the transport after `grace`. Returns `false` when that was done before,
    /// or the session is not admitted.
    ///
    /// A client that cannot take the event learns of the drain by the end of its transport.
    fn drain(self: &Arc<Self>, notice: &Value, grace: Duration) -> bool {
        let is_due = self.is_admitted.load(Ordering::Acquire) && self.close_drained_in(grace);
        if is_due {
            self.emit("rt:drain", notice);
        }
        is_due
    }
}

/// Returns the time after the begin of `window` at which the session `index` of `count` is due.
fn place_in_window(index: usize, count: usize, window: Duration) -> Duration {
    let nanoseconds = window.as_nanos() * index as u128 / count as u128;
    // No window is as long as the 584 years that do not fit.
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
