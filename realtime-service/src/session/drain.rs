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
        let sessions = in_turn(self.sessions.all());
        let mut sent_at = None;
        let mut next = 0;
        while next < sessions.len() && self.sessions.count() > 0 {
            let place = |&(place, _): &(usize, _)| place_in_window(place, sessions.len(), window);
            sleep_until(begun_at + place(&sessions[next])).await;
            let elapsed = begun_at.elapsed();
            let batch = sessions[next..].iter();
            let batch: Vec<_> = batch.take_while(|one| place(one) <= elapsed).collect();
            next += batch.len();
            let batch = batch.into_iter().filter_map(|(_, one)| one.upgrade());
            if self.send_drain(batch, &notice) {
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

/// Puts sessions in the order of their drain, each with its place. Sessions of one client in several
/// namespaces have the same place, since they end with one transport.
fn in_turn(mut sessions: Vec<Arc<Session>>) -> Vec<(usize, Weak<Session>)> {
    sessions.sort_unstable_by_key(|session| Arc::as_ptr(session.engine()).addr());
    let mut place = 0;
    let mut before = None;
    let placed = sessions.iter().enumerate().map(|(index, session)| {
        let client = Arc::as_ptr(session.engine());
        if before != Some(client) {
            (place, before) = (index, Some(client));
        }
        (place, Arc::downgrade(session))
    });
    placed.collect()
}

/// Returns the time after the begin of `window` at which the session `index` of `count` is due.
fn place_in_window(index: usize, count: usize, window: Duration) -> Duration {
    let nanoseconds = window.as_nanos() * index as u128 / count as u128;
    // No window is as long as the 584 years that do not fit.
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
