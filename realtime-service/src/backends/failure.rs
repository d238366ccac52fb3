//! Failures of calls.

use std::time::Duration;

/// Time after which a client should call again unless something else is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The text of a refusal of an event that is never sent.
pub const TOO_LARGE: &str = "the event is larger than its back end can be sent";

/// The kind of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The back end has not answered in time. It may have done what it was asked for.
    TimedOut,
    /// The back end cannot be reached, or its answer cannot be used.
    Failed,
    /// As much waits for the back end as may, or the back end asks for a pause.
    Busy,
    /// The event is larger than the back end is ever sent.
    TooLarge,
}

impl Failure {
    /// The code of the error that the client gets, and the name in metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TimedOut => "backend_timeout",
            Self::Failed => "backend_failed",
            Self::Busy => "backend_busy",
            Self::TooLarge => "invalid_request",
        }
    }
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The kind.
    pub failure: Failure,
    /// The time after which the same call may succeed; `None` when it would fail again.
    pub retry_after: Option<Duration>,
    /// The reason, for the log. It has no part of a request or of an answer.
    pub reason: String,
    /// Whether the back end is at fault, and not its answer to this call.
    pub(super) is_of_back_end: bool,
    /// Whether a request was sent, or a connection for it was refused. A call that only waited in the
    /// gateway is no attempt.
    pub(super) was_sent: bool,
    /// Whether the head of an answer has arrived that says what the call asked for: the rest of it may be a refusal.
    pub(super) is_answer_begun: bool,
}

impl CallError {
    /// A call that failed, and may succeed in a moment.
    pub(super) fn temporary(failure: Failure, reason: impl Into<String>) -> Self {
        Self {
            failure,
            retry_after: Some(RETRY_AFTER),
            reason: reason.into(),
            is_of_back_end: true,
            was_sent: true,
            is_answer_begun: false,
        }
    }

    /// A call that was not sent, since the gateway has no place for it.
    pub(super) fn unsent(reason: &str) -> Self {
        Self {
            is_of_back_end: false,
            was_sent: false,
            ..Self::temporary(Failure::Busy, reason)
        }
    }

    /// A call that is never sent, since its event is larger than all calls together may be.
    pub(super) fn too_large() -> Self {
        Self {
            failure: Failure::TooLarge,
            retry_after: None,
            ..Self::unsent(TOO_LARGE)
        }
    }

    /// A call that was not sent, since the back end has not answered others. The circuit is open for
    /// `pause`.
    pub(super) fn cut_off(pause: Duration) -> Self {
        Self {
            failure: Failure::Failed,
            ..Self::unsent("the circuit is open").after(pause)
        }
    }

    /// A call that the back end answered with a request for a pause.
    pub(super) fn postponed(reason: impl Into<String>, pause: Duration) -> Self {
        Self {
            is_of_back_end: false,
            ..Self::temporary(Failure::Busy, reason).after(pause)
        }
    }

    /// A call that fails whenever it is made.
    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self {
            failure: Failure::Failed,
            retry_after: None,
            reason: reason.into(),
            is_of_back_end: false,
            was_sent: true,
            is_answer_begun: false,
        }
    }

    /// The same failure, after the head of an answer with a status of 2xx.
    pub(super) fn within_answer(self) -> Self {
        Self {
            is_answer_begun: true,
            ..self
        }
    }

    fn after(self, pause: Duration) -> Self {
        Self {
            retry_after: Some(pause),
            ..self
        }
    }
}
