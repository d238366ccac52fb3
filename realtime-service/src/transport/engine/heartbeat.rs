//! The heartbeat of a session: the server pings in Engine.IO 4, and the client in Engine.IO 3. The task of
//! the engine has the times (`maintenance.rs`).

use std::sync::{Arc, atomic::Ordering};

use super::{query::TransportKind, session::Session, violation::CloseReason};
use crate::transport::ProtocolVersion;

/// While more bytes than this wait for a client, pings in quick succession are not answered.
pub(super) const PONG_BACKLOG_BYTES: usize = 4 * 1024;

impl<D: Send + Sync + 'static> Session<D> {
    /// Notes a pong: the next ping is due after an interval.
    pub(super) fn on_pong(&self) {
        if self.is_pinged.swap(false, Ordering::AcqRel) {
            let expires = self.core().now_ms() + self.core().idle_timeout_ms();
            self.expires_ms.store(expires, Ordering::Release);
        }
    }

    /// Answers a ping of Engine.IO 3, and gives the client another interval and timeout. A client sends
    /// the next ping an interval after the pong, so that one is answered whatever waits; pings that
    /// come faster are not while much waits.
    pub(super) fn on_ping(self: &Arc<Self>) {
        let expires = self.core().now_ms() + self.core().idle_timeout_ms();
        let last = self.expires_ms.swap(expires, Ordering::AcqRel);
        let is_due = expires.saturating_sub(last) >= self.core().ping_interval_ms() / 2;
        if is_due || self.queue().waiting().bytes <= PONG_BACKLOG_BYTES {
            self.send(self.core().pong.clone());
        }
    }

    /// Gives a client of Engine.IO 3 its full time, because it is this process that was late: pings may
    /// lie unread.
    pub(super) fn excuse_silence(&self) {
        if self.dialect().version == ProtocolVersion::V3 {
            let expires = self.core().now_ms() + self.core().ping_timeout_ms();
            self.expires_ms.fetch_max(expires, Ordering::AcqRel);
        }
    }

    /// Ends the session if a ping was not answered in time, or none came. A WebSocket that takes bytes is sent
    /// a close frame.
    pub(super) fn check_liveness(self: &Arc<Self>) {
        let is_late = self.core().now_ms() >= self.expires_ms.load(Ordering::Acquire);
        if is_late && self.is_pinged.load(Ordering::Acquire) {
            match self.transport() {
                TransportKind::WebSocket => self.end(CloseReason::PingTimeout),
                TransportKind::Polling => self.abort(CloseReason::PingTimeout),
            }
        }
    }
}
