//! A server that is connected and answers nobody: whoever can do without an answer does not wait for the
//! timeout of the requests.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// The time without an answer after which a server with requests is silent. A server that is busy with a
/// snapshot or a long script answers sooner.
const PATIENCE: Duration = Duration::from_millis(250);

/// The requests of one connection that wait for an answer, and since when none has come.
pub(super) struct Silence {
    state: Mutex<State>,
}

struct State {
    waiting: usize,
    /// The last answer, or the first request after a time without any.
    since: Instant,
    /// Whether the server is silent: until its next answer, also when nobody waits any longer.
    is_silent: bool,
}

/// A request that waits for its answer.
pub(super) struct Waiting<'a> {
    silence: &'a Silence,
    is_answered: bool,
}

impl Silence {
    pub(super) fn new() -> Self {
        let state = State {
            waiting: 0,
            since: Instant::now(),
            is_silent: false,
        };
        let state = Mutex::new(state);
        Self { state }
    }

    /// Notes a request, which waits until what is returned is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        let mut state = self.lock();
        if state.waiting == 0 {
            state.since = Instant::now();
        }
        state.waiting += 1;
        Waiting {
            silence: self,
            is_answered: false,
        }
    }

    /// Whether the server was found silent, and has not answered since.
    pub(super) fn is_known(&self) -> bool {
        self.lock().is_silent
    }

    /// Waits until the server is silent.
    pub(super) async fn begun(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let now = Instant::now();
                let end = state.since + PATIENCE;
                state.is_silent |= state.waiting > 0 && end <= now;
                if state.is_silent {
                    return;
                }
                match state.waiting {
                    0 => now + PATIENCE,
                    _ => end,
                }
            };
            sleep_until(next).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Notes the answer, which ends a silence.
    pub(super) fn answer(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.silence.lock();
        state.waiting -= 1;
        if self.is_answered {
            (state.since, state.is_silent) = (Instant::now(), false);
        }
    }
}
