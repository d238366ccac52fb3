//! The circuit breaker of one back end: after failures in a row, calls are refused without a request
//! until a pause is over. Then one call is a probe, and its outcome decides for all.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Failures in a row that open the circuit. A few are less than a deployment of the back end causes.
const FAILURES: u32 = 10;

/// The first pause, and the longest: each probe that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A circuit breaker.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    /// The end of the pause, and its length, while the circuit is open.
    open: Option<(Instant, Duration)>,
    is_probing: bool,
    /// Changes when the circuit opens or closes: a call from before decides nothing.
    generation: u64,
}

/// The permission to send one call, which reports its outcome. Dropped without a report, it decides
/// nothing.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    generation: u64,
    is_probe: bool,
}

/// Effect of a call's outcome on the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The circuit stays as it is.
    None,
    /// The circuit has opened.
    Opened,
    /// The circuit has closed.
    Closed,
}

impl Breaker {
    /// Lets a call pass.
    ///
    /// # Errors
    ///
    /// The rest of the pause, while the circuit is open.
    pub(super) fn enter(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut state = self.lock();
        let mut is_probe = false;
        if let Some((until, _)) = state.open {
            if now < until {
                return Err(until - now);
            }
            if state.is_probing {
                return Err(FIRST_PAUSE);
            }
            is_probe = true;
            state.is_probing = true;
        }
        Ok(Pass {
            breaker: self,
            generation: state.generation,
            is_probe,
        })
    }

    /// Returns the number of calls that [`Self::enter`] would let pass now: one when the next call is a probe, and
    /// none during a pause or while a probe is under way.
    pub(super) fn openings(&self, now: Instant) -> usize {
        let state = self.lock();
        match state.open {
            None => usize::MAX,
            Some((until, _)) => usize::from(now >= until && !state.is_probing),
        }
    }

    /// Opens the circuit, with a pause that is over.
    #[cfg(test)]
    pub(super) fn open_for_probe(&self) {
        self.lock().open = Some((Instant::now(), FIRST_PAUSE));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Reports that the back end has answered.
    pub(super) fn succeed(self) -> Change {
        let mut state = self.breaker.lock();
        if state.generation != self.generation {
            return Change::None;
        }
        state.failures = 0;
        if !self.is_probe {
            return Change::None;
        }
        state.open = None;
        state.generation += 1;
        Change::Closed
    }

    /// Reports that the back end has not answered.
    pub(super) fn fail(self, now: Instant) -> Change {
        let mut state = self.breaker.lock();
        if state.generation != self.generation {
            return Change::None;
        }
        state.failures += 1;
        let pause = match state.open {
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
            None if state.failures < FAILURES => return Change::None,
            None => FIRST_PAUSE,
        };
        let was_closed = state.open.is_none();
        state.open = Some((now + pause, pause));
        state.failures = 0;
        state.generation += 1;
        match was_closed {
            true => Change::Opened,
            false => Change::None,
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(breaker: &Breaker) {
        for count in 1..=FAILURES {
            let pass = breaker.enter(Instant::now()).expect("it is closed");
            let change = pass.fail(Instant::now());
            assert_eq!(change == Change::Opened, count == FAILURES, "{count}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_probe_that_is_answered_closes_it() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            let pass = breaker.enter(Instant::now()).expect("it is closed");
            assert_eq!(pass.fail(Instant::now()), Change::None);
        }
        // One answer in between, and counting begins again.
        assert_eq!(
            breaker.enter(Instant::now()).expect("closed").succeed(),
            Change::None
        );
        let late = breaker.enter(Instant::now()).expect("it is closed");
        open(&breaker);
        assert_eq!(breaker.enter(Instant::now()).err(), Some(FIRST_PAUSE));
        assert_eq!(breaker.openings(Instant::now()), 0, "a pause");
        // A call from before it opened decides nothing.
        assert_eq!(late.succeed(), Change::None);
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(breaker.openings(Instant::now()), 1, "a probe");
        let probe = breaker.enter(Instant::now()).expect("a probe");
        assert_eq!(breaker.openings(Instant::now()), 0, "it is under way");
        assert!(breaker.enter(Instant::now()).is_err(), "there is one probe");
        assert_eq!(probe.succeed(), Change::Closed);
        assert_eq!(breaker.openings(Instant::now()), usize::MAX);
        let (one, other) = (breaker.enter(Instant::now()), breaker.enter(Instant::now()));
        assert!(one.is_ok() && other.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn each_probe_that_fails_doubles_the_pause_and_one_that_is_dropped_decides_nothing() {
        let breaker = Breaker::default();
        open(&breaker);
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            tokio::time::advance(pause).await;
            drop(breaker.enter(Instant::now()).expect("a probe"));
            let probe = breaker.enter(Instant::now()).expect("another probe");
            assert_eq!(probe.fail(Instant::now()), Change::None);
            pause = (pause * 2).min(LONGEST_PAUSE);
            assert_eq!(breaker.enter(Instant::now()).err(), Some(pause));
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }
}
