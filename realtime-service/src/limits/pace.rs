//! How fast one socket may send events.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// A counter of one socket's events that leaks at a steady rate.
///
/// It is kept as one number, the time at which the counter will be empty. Every event counts, also
/// one that is answered with a refusal, so that a client which goes on and on comes to its end.
pub struct Pace {
    empty_at: Instant,
}

/// The pace that a socket may have: durations of the level of its counter.
pub struct PaceLimits {
    step: Duration,
    burst: Duration,
    most: Duration,
}

impl PaceLimits {
    /// The pace that `limits` allow.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let step = Duration::from_secs(1) / limits.events_per_sec;
        let burst = step * limits.events_burst;
        Self {
            step,
            burst,
            most: burst + step * limits.events_excess,
        }
    }
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is handled.
    Pass,
    /// It is not handled, and the client is told to wait for so long.
    Wait(Duration),
    /// The client does not listen, and goes.
    Close,
}

impl Pace {
    /// A counter with nothing counted yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { empty_at: now }
    }

    /// Counts one event.
    pub fn count(&mut self, limits: &PaceLimits, now: Instant) -> Verdict {
        let &PaceLimits { step, burst, most } = limits;
        self.empty_at = self.empty_at.max(now) + step;
        let level = self.empty_at - now;
        if level <= burst {
            Verdict::Pass
        } else if level <= most {
            // The next one is counted too.
            Verdict::Wait(level + step - burst)
        } else {
            Verdict::Close
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten a second, five at once, and three too many.
    fn limits() -> PaceLimits {
        PaceLimits::new(&Limits {
            events_per_sec: 10,
            events_burst: 5,
            events_excess: 3,
            ..Limits::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_events_are_turned_away_and_then_the_socket() {
        let (limits, mut pace) = (limits(), Pace::new(Instant::now()));
        for _ in 0..5 {
            assert_eq!(pace.count(&limits, Instant::now()), Verdict::Pass);
        }
        for waits_ms in [200, 300, 400] {
            let wait = Verdict::Wait(Duration::from_millis(waits_ms));
            assert_eq!(pace.count(&limits, Instant::now()), wait);
        }
        assert_eq!(pace.count(&limits, Instant::now()), Verdict::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_as_told_passes_and_the_steady_rate_is_never_too_fast() {
        let (limits, mut pace) = (limits(), Pace::new(Instant::now()));
        for _ in 0..5 {
            assert_eq!(pace.count(&limits, Instant::now()), Verdict::Pass);
        }
        let Verdict::Wait(wait) = pace.count(&limits, Instant::now()) else {
            panic!("the sixth is too many");
        };
        tokio::time::advance(wait).await;
        for _ in 0..1000 {
            assert_eq!(pace.count(&limits, Instant::now()), Verdict::Pass);
            tokio::time::advance(Duration::from_millis(100)).await;
        }
    }
}
