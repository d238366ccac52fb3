//! How often each of many may do something.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The fewest entries at which counters that are empty are looked for.
const SWEEP_ENTRIES: usize = 1024;

/// Counters by key, each of which leaks at the same steady rate.
///
/// A counter is kept as the time at which it will be empty. A counter that is empty is dropped before
/// long, so that there are not many more than keys that were counted within a burst's time.
pub struct Rates {
    counters: Mutex<Counters>,
    step: Duration,
    burst: Duration,
}

struct Counters {
    empty_at: HashMap<Box<str>, Instant>,
    /// The number of entries at which empty counters are dropped next.
    sweep_at: usize,
}

impl Rates {
    /// Counters that let each key pass `per_sec` times a second, and `burst` times at once.
    #[must_use]
    pub fn new(per_sec: u32, burst: u32) -> Self {
        let step = Duration::from_secs(1) / per_sec;
        Self {
            counters: Mutex::new(Counters {
                empty_at: HashMap::new(),
                sweep_at: SWEEP_ENTRIES,
            }),
            step,
            burst: step * burst,
        }
    }

    /// Counts `key` once.
    ///
    /// # Errors
    ///
    /// The time after which it may pass; then it is not counted.
    pub fn count(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.empty_at.len() >= counters.sweep_at {
            counters.empty_at.retain(|_, empty_at| *empty_at > now);
            counters.sweep_at = (2 * counters.empty_at.len()).max(SWEEP_ENTRIES);
        }
        let empty_at = counters.empty_at.get(key).copied();
        let next = empty_at.map_or(now, |empty_at| empty_at.max(now)) + self.step;
        let excess = (next - now).saturating_sub(self.burst);
        if !excess.is_zero() {
            return Err(excess);
        }
        counters.empty_at.insert(key.into(), next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_key_has_its_burst_and_its_rate_and_no_other_keys() {
        let rates = Rates::new(10, 3);
        let count = |key| rates.count(key, Instant::now());
        for _ in 0..3 {
            assert!(count("one").is_ok());
        }
        assert_eq!(count("one"), Err(Duration::from_millis(100)));
        assert!(count("another").is_ok());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(count("one").is_ok());
        assert!(count("one").is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(count("one").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn counters_that_are_empty_are_dropped() {
        let rates = Rates::new(10, 3);
        for round in 0..10 {
            for key in 0..SWEEP_ENTRIES {
                let key = format!("{round} {key}");
                assert!(rates.count(&key, Instant::now()).is_ok());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let counters = rates.counters.lock().expect("a lock");
        assert!(counters.empty_at.len() <= 2 * SWEEP_ENTRIES);
    }
}
