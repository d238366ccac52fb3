//! The task of an engine: pings, ping timeouts, write stalls, and the ends of polling sessions.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};

use super::{
    EngineHandler, Shared, core::as_millis, session::Session, state::Phase, violation::CloseReason,
};
use crate::transport::{Packet, turn::Turn};

/// Time in which the client of a closed polling session may fetch the last packets.
const LAST_POLL_GRACE: Duration = Duration::from_secs(1);

/// The work of the task of an engine.
pub(super) struct Maintenance<H: EngineHandler> {
    shared: Arc<Shared<H>>,
    ping: Packet,
    next_step: u64,
    /// The sessions that were blocked when maintenance looked last.
    blocked: Vec<Weak<Session<H::Data>>>,
    /// The polling sessions whose last packets wait for a poll, by the end of that wait.
    closing: VecDeque<(Instant, Arc<Session<H::Data>>)>,
}

impl<H: EngineHandler> Maintenance<H> {
    pub(super) fn new(shared: Arc<Shared<H>>) -> Self {
        Self {
            next_step: shared.core.current_step(),
            shared,
            ping: Packet::engine("2"),
            blocked: Vec::new(),
            closing: VecDeque::new(),
        }
    }

    /// Runs until the future is dropped.
    pub(super) async fn run(mut self) {
        let core = self.shared.core.clone();
        let mut ticks = tokio::time::interval(core.step());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let _turn = Turn::begin();
                    self.visit_due();
                    self.end_stalled();
                    self.end_closing();
                }
                () = core.has_ended.notified() => {}
            }
            let _turn = Turn::begin();
            self.announce_ended();
        }
    }

    /// Visits the sessions whose ping or ping timeout is due.
    fn visit_due(&mut self) {
        let current = self.shared.core.current_step();
        while self.next_step <= current {
            let core = &self.shared.core;
            let due = core.take_due(self.next_step);
            let is_late = (current - self.next_step) * as_millis(core.step()) > core.late_ms();
            for session in due.iter().filter_map(Weak::upgrade) {
                if is_late {
                    session.excuse_silence();
                }
                self.visit(&session);
            }
            self.next_step += 1;
        }
    }

    /// Sends a ping if one is due, ends a session whose pong did not come, and schedules the next
    /// visit.
    fn visit(&self, session: &Arc<Session<H::Data>>) {
        let core = &self.shared.core;
        session.check_liveness();
        if !session.is_open() {
            return;
        }
        let now = core.now_ms();
        let timeout = core.ping_timeout_ms();
        let mut expires = session.expires_ms.load(Ordering::Acquire);
        let mut next = expires.saturating_sub(timeout);
        if next <= now {
            if !session.is_pinged.swap(true, Ordering::AcqRel) {
                // A client has its full time when it is this process that was late.
                if now > next + core.late_ms() {
                    expires = now + timeout;
                    session.expires_ms.store(expires, Ordering::Release);
                }
                if let Err(violation) = self.shared.handler.pinged(session) {
                    return session.end(CloseReason::Violated(violation));
                }
                session.send(self.ping.clone());
            }
            // The pong may come long before the timeout, and then the next ping is due earlier.
            next = expires.min(now + core.ping_interval_ms());
        }
        core.schedule(Arc::downgrade(session), next);
        // Asked once the session can be found: a shutdown at the same time finds it, or is seen here.
        if let Some(code) = core.shutdown_code() {
            session.close(code);
        }
    }

    /// Ends the WebSockets that have taken nothing for too long.
    fn end_stalled(&mut self) {
        let write_stall = self.shared.core.settings.write_stall;
        self.blocked.append(&mut self.shared.core.take_blocked());
        let now = Instant::now();
        self.blocked.retain(|session| {
            let Some(session) = session.upgrade().filter(|session| session.keep_watch()) else {
                return false;
            };
            let is_stalled = session.stalled_for(now) >= write_stall;
            if is_stalled {
                session.abort(CloseReason::WriteStalled);
            }
            !is_stalled
        });
        if self.blocked.is_empty() {
            self.blocked = Vec::new();
        }
    }

    /// Ends the polling sessions whose clients have not fetched the last packets in time.
    fn end_closing(&mut self) {
        let now = Instant::now();
        while let Some((_, session)) = self.closing.pop_front_if(|(until, _)| *until <= now) {
            session.abort(CloseReason::Killed);
        }
    }

    /// Tells the handler of the ends of polling sessions.
    fn announce_ended(&mut self) {
        for session in self.shared.core.take_ended() {
            self.shared.announce_end(&session);
            let phase = session.state().phase();
            if phase == Phase::Ended {
                self.shared.core.unregister(session.sid());
            } else {
                let until = Instant::now() + LAST_POLL_GRACE;
                self.closing.push_back((until, session));
            }
        }
    }
}
