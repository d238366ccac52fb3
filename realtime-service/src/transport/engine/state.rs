//! The state machine of a session's transport: which transport carries the session, which requests
//! are under way, and how far the session has ended.
//!
//! ```text
//!            probe_started      probe_answered      upgraded
//! Polling ───────────────► Started ───────► Answered ───────► WebSocket
//!    ▲                        │                │
//!    └────────────────────────┴────────────────┘ probe_failed
//!
//! Open ──► Closing (the last packets leave) ──► Ended          any state ──► Ended
//! ```
//!
//! The machine does no I/O. Each transition returns the waker of the request or task that has to
//! look at the new state; the caller wakes it after it has released the lock.
//!
//! Invariant: at most one poll, one POST and one probe are under way, and none of them starts once
//! the session has left `Open`, except the poll that fetches the last packets.

use std::task::Waker;

use super::{error::RequestError, query::TransportKind, violation::CloseReason};

/// The state of a session's transport.
pub(super) struct TransportState {
    transport: TransportKind,
    phase: Phase,
    reason: Option<CloseReason>,
    probe: Probe,
    poll: Poll,
    is_posting: bool,
}

/// How far a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Packets are exchanged.
    Open,
    /// The last packets leave; nothing is received any more.
    Closing,
    /// Nothing leaves any more.
    Ended,
}

/// How far an upgrade to a WebSocket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    /// The WebSocket opens, or is open and has not been probed.
    Started,
    /// The probe is answered, and the client has to end its poll.
    Answered,
}

/// The GET that fetches packets.
enum Poll {
    None,
    Pending(Option<Waker>),
}

/// What a pending poll is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollOutcome {
    /// The packets that wait.
    Packets,
    /// A noop packet, so that the client can go on with its upgrade.
    Noop,
    /// An error.
    Refused(RequestError),
    /// Nothing yet.
    Pending,
}

/// Why a request does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotStarted {
    /// The request is refused and changes nothing.
    Refused(RequestError),
    /// A request of the same kind is under way. Overlapping polls and POSTs close the session.
    Overlapping,
}

impl TransportState {
    pub(super) fn new(transport: TransportKind) -> Self {
        Self {
            transport,
            phase: Phase::Open,
            reason: None,
            probe: Probe::None,
            poll: Poll::None,
            is_posting: false,
        }
    }

    pub(super) fn transport(&self) -> TransportKind {
        self.transport
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns why the session ended, once its end is decided.
    pub(super) fn reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// Whether the client is about to end its poll for an upgrade.
    pub(super) fn is_upgrading(&self) -> bool {
        self.probe == Probe::Answered
    }

    /// Whether a poll is pending.
    pub(super) fn is_polling(&self) -> bool {
        matches!(self.poll, Poll::Pending(_))
    }

    /// Starts a poll.
    pub(super) fn start_poll(&mut self) -> Result<(), NotStarted> {
        if self.phase == Phase::Ended {
            return Err(NotStarted::Refused(RequestError::UnknownSession));
        }
        if self.transport == TransportKind::WebSocket {
            return Err(NotStarted::Refused(RequestError::BadRequest));
        }
        if self.is_polling() {
            return Err(NotStarted::Overlapping);
        }
        self.poll = Poll::Pending(None);
        Ok(())
    }

    /// Decides what the pending poll is answered, and keeps `waker` while that is nothing.
    ///
    /// `has_packets` says whether packets wait; `accepts_noop` whether the poll ends for an upgrade.
    pub(super) fn poll_outcome(
        &mut self,
        has_packets: bool,
        accepts_noop: bool,
        waker: &Waker,
    ) -> PollOutcome {
        if self.transport == TransportKind::WebSocket {
            return PollOutcome::Refused(RequestError::BadRequest);
        }
        if has_packets {
            return PollOutcome::Packets;
        }
        if self.phase != Phase::Open {
            return PollOutcome::Refused(RequestError::UnknownSession);
        }
        if self.is_upgrading() && accepts_noop {
            return PollOutcome::Noop;
        }
        self.poll = Poll::Pending(Some(waker.clone()));
        PollOutcome::Pending
    }

    /// Ends the poll, whether it was answered or its client has gone.
    pub(super) fn end_poll(&mut self) {
        self.poll = Poll::None;
    }

    /// Returns the waker of the pending poll: packets wait for it.
    pub(super) fn take_poll_waker(&mut self) -> Option<Waker> {
        match &mut self.poll {
            Poll::Pending(waker) => waker.take(),
            Poll::None => None,
        }
    }

    /// Starts a POST.
    pub(super) fn start_post(&mut self) -> Result<(), NotStarted> {
        if self.phase != Phase::Open {
            return Err(NotStarted::Refused(RequestError::UnknownSession));
        }
        if self.transport == TransportKind::WebSocket {
            return Err(NotStarted::Refused(RequestError::BadRequest));
        }
        if self.is_posting {
            return Err(NotStarted::Overlapping);
        }
        self.is_posting = true;
        Ok(())
    }

    /// Ends the POST, whether it was answered or its client has gone.
    pub(super) fn end_post(&mut self) {
        self.is_posting = false;
    }

    /// Starts an upgrade: a WebSocket opens for this session. One that overlaps another WebSocket does
    /// not start, and the session goes on.
    pub(super) fn start_probe(&mut self) -> Result<(), NotStarted> {
        if self.phase != Phase::Open {
            return Err(NotStarted::Refused(RequestError::UnknownSession));
        }
        if self.transport == TransportKind::WebSocket || self.probe != Probe::None {
            return Err(NotStarted::Overlapping);
        }
        self.probe = Probe::Started;
        Ok(())
    }

    /// Notes that the probe was answered. Returns the waker of the poll that has to end.
    pub(super) fn answer_probe(&mut self) -> Option<Waker> {
        self.probe = Probe::Answered;
        self.take_poll_waker()
    }

    /// Ends an upgrade that failed: the session goes on by polling.
    pub(super) fn fail_probe(&mut self) {
        if self.transport == TransportKind::Polling {
            self.probe = Probe::None;
        }
    }

    /// Ends an upgrade: the WebSocket carries the session. Returns the waker of the poll that is
    /// still pending; `None` when the session is not open or was not probed.
    pub(super) fn upgrade(&mut self) -> Option<Option<Waker>> {
        if self.phase != Phase::Open || self.probe != Probe::Answered {
            return None;
        }
        self.transport = TransportKind::WebSocket;
        self.probe = Probe::None;
        Some(self.take_poll_waker())
    }

    /// Moves to `phase`, `Closing` or `Ended`. The first reason is kept. Returns the waker of the
    /// pending poll; `None` when the session is in that phase already, or beyond it.
    pub(super) fn close(&mut self, phase: Phase, reason: CloseReason) -> Option<Option<Waker>> {
        let is_later = match (self.phase, phase) {
            (Phase::Open, Phase::Closing | Phase::Ended) | (Phase::Closing, Phase::Ended) => true,
            (_, Phase::Open) | (Phase::Closing, Phase::Closing) | (Phase::Ended, _) => false,
        };
        if !is_later {
            return None;
        }
        self.phase = phase;
        self.reason.get_or_insert(reason);
        Some(self.take_poll_waker())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: RequestError = RequestError::UnknownSession;
    const BAD: RequestError = RequestError::BadRequest;

    fn polling() -> TransportState {
        TransportState::new(TransportKind::Polling)
    }

    fn outcome(state: &mut TransportState, has_packets: bool) -> PollOutcome {
        state.poll_outcome(has_packets, true, Waker::noop())
    }

    #[test]
    fn a_poll_waits_for_packets_and_a_second_one_overlaps() {
        let mut state = polling();
        assert_eq!(state.start_poll(), Ok(()));
        assert_eq!(outcome(&mut state, false), PollOutcome::Pending);
        assert_eq!(state.start_poll(), Err(NotStarted::Overlapping));
        assert!(state.take_poll_waker().is_some());
        assert_eq!(outcome(&mut state, true), PollOutcome::Packets);
        state.end_poll();
        assert_eq!(state.start_poll(), Ok(()));
    }

    #[test]
    fn a_poll_and_a_post_go_together_and_two_posts_do_not() {
        let mut state = polling();
        assert_eq!(state.start_poll(), Ok(()));
        assert_eq!(state.start_post(), Ok(()));
        assert_eq!(state.start_post(), Err(NotStarted::Overlapping));
        state.end_post();
        assert_eq!(state.start_post(), Ok(()));
    }

    #[test]
    fn an_upgrade_releases_the_poll_whichever_comes_first() {
        for poll_is_first in [true, false] {
            let mut state = polling();
            if poll_is_first {
                assert_eq!(state.start_poll(), Ok(()));
                assert_eq!(outcome(&mut state, false), PollOutcome::Pending);
            }
            assert_eq!(state.start_probe(), Ok(()));
            assert_eq!(state.start_probe(), Err(NotStarted::Overlapping));
            assert!(state.upgrade().is_none(), "not probed");
            assert_eq!(state.answer_probe().is_some(), poll_is_first);
            if !poll_is_first {
                assert_eq!(state.start_poll(), Ok(()));
            }
            assert_eq!(outcome(&mut state, false), PollOutcome::Noop);
            state.end_poll();
            assert!(state.upgrade().is_some());
            assert_eq!(state.transport(), TransportKind::WebSocket);
            assert_eq!(state.start_poll(), Err(NotStarted::Refused(BAD)));
            assert_eq!(state.start_post(), Err(NotStarted::Refused(BAD)));
            assert_eq!(state.start_probe(), Err(NotStarted::Overlapping));
        }
    }

    #[test]
    fn a_failed_upgrade_leaves_the_session_polling() {
        let mut state = polling();
        assert_eq!(state.start_probe(), Ok(()));
        state.answer_probe();
        state.fail_probe();
        assert_eq!(state.start_poll(), Ok(()));
        assert_eq!(outcome(&mut state, false), PollOutcome::Pending);
        assert_eq!(state.start_probe(), Ok(()), "another attempt");
        state.answer_probe();
        assert!(state.upgrade().is_some());
        state.fail_probe();
        assert_eq!(state.transport(), TransportKind::WebSocket);
    }

    #[test]
    fn the_last_packets_are_fetched_by_one_more_poll() {
        let mut state = polling();
        let reason = CloseReason::ClosedByClient;
        assert!(state.close(Phase::Closing, reason).is_some());
        assert!(state.close(Phase::Closing, CloseReason::Killed).is_none());
        assert_eq!(state.start_post(), Err(NotStarted::Refused(UNKNOWN)));
        assert_eq!(state.start_probe(), Err(NotStarted::Refused(UNKNOWN)));
        assert_eq!(state.start_poll(), Ok(()));
        assert_eq!(outcome(&mut state, true), PollOutcome::Packets);
        assert_eq!(outcome(&mut state, false), PollOutcome::Refused(UNKNOWN));
        assert!(state.close(Phase::Ended, CloseReason::Killed).is_some());
        assert_eq!(state.reason(), Some(reason), "the first reason is kept");
        state.end_poll();
        assert_eq!(state.start_poll(), Err(NotStarted::Refused(UNKNOWN)));
    }

    #[test]
    fn an_end_in_the_middle_of_an_upgrade_ends_the_upgrade() {
        let mut state = polling();
        assert_eq!(state.start_poll(), Ok(()));
        assert_eq!(outcome(&mut state, false), PollOutcome::Pending);
        assert_eq!(state.start_probe(), Ok(()));
        let waker = state.close(Phase::Ended, CloseReason::Killed);
        assert!(waker.is_some_and(|waker| waker.is_some()));
        assert_eq!(outcome(&mut state, false), PollOutcome::Refused(UNKNOWN));
        state.answer_probe();
        assert!(state.upgrade().is_none());
    }
}
