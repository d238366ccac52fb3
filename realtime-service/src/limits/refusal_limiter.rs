//! How many refusals one address gets in a minute.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::AddressKey;

/// The span in which refusals are counted.
const WINDOW_MS: u64 = 60_000;

/// The counters in each of the two rows. Half a megabyte in all, whoever comes: with 1,000 addresses
/// that flood, one in 1,000 others shares both of its counters with them.
const COUNTERS: usize = 32 * 1024;

/// Counts refusals by address, in memory that never grows.
///
/// An address has one counter in each of two rows, at places that a keyed hash chooses, so that
/// nobody outside can choose whom to share them with. It has had too many refusals when both of its
/// counters say so. A counter is the time, in milliseconds since the start, at which it will be
/// empty: every refusal moves it on by the window divided by the number allowed.
pub struct RefusalLimiter {
    rows: [Vec<AtomicU64>; 2],
    hashers: [RandomState; 2],
    started: Instant,
    step_ms: u64,
}

impl RefusalLimiter {
    /// No refusals yet, of `per_minute` that one address may have.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let row = || (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self {
            rows: [row(), row()],
            hashers: [RandomState::new(), RandomState::new()],
            started: Instant::now(),
            step_ms: (WINDOW_MS / u64::from(per_minute).max(1)).max(1),
        }
    }

    /// Counts a refusal.
    pub fn count(&self, address: AddressKey) {
        let now = self.now_ms();
        for counter in self.counters(address) {
            // Beyond the window there is nothing to count: it would only make the wait longer.
            let next =
                |empty_at: u64| Some((empty_at.max(now) + self.step_ms).min(now + WINDOW_MS));
            // The closure always gives a value, so this cannot fail.
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
    }

    /// How long an address has to wait that has had too many refusals; `None` when it has not.
    #[must_use]
    pub fn wait(&self, address: AddressKey) -> Option<Duration> {
        let now = self.now_ms();
        let empty_at = self.counters(address);
        let empty_at = empty_at.map(|counter| counter.load(Ordering::Relaxed));
        let next = empty_at[0].min(empty_at[1]).max(now) + self.step_ms;
        let excess_ms = next.saturating_sub(now + WINDOW_MS);
        (excess_ms > 0).then(|| Duration::from_millis(excess_ms))
    }

    fn counters(&self, address: AddressKey) -> [&AtomicU64; 2] {
        [0, 1].map(|row| {
            // The remainder fits, whatever the width of a pointer.
            let place = self.hashers[row].hash_one(address) % COUNTERS as u64;
            &self.rows[row][place as usize]
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn key(number: u32) -> AddressKey {
        IpAddr::V4(Ipv4Addr::from_bits(number)).into()
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_so_many_refusals_in_a_minute_and_another_none_of_them() {
        let flood = RefusalLimiter::new(6);
        for _ in 0..6 {
            assert_eq!(flood.wait(key(1)), None);
            flood.count(key(1));
        }
        assert_eq!(flood.wait(key(1)), Some(Duration::from_secs(10)));
        assert_eq!(flood.wait(key(2)), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(flood.wait(key(1)), None);
        flood.count(key(1));
        assert_eq!(flood.wait(key(1)), Some(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_more_refusals_make_nobody_wait_longer_than_one() {
        let flood = RefusalLimiter::new(6);
        for _ in 0..1000 {
            flood.count(key(1));
        }
        assert_eq!(flood.wait(key(1)), Some(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_addresses_that_flood_stop_next_to_nobody_else() {
        let flood = RefusalLimiter::new(2);
        for address in 0..1000 {
            flood.count(key(address));
            flood.count(key(address));
            assert!(flood.wait(key(address)).is_some());
        }
        let others = 1000..11_000;
        let stopped = others.filter(|address| flood.wait(key(*address)).is_some());
        let stopped = stopped.count();
        assert!(stopped < 100, "{stopped} of 10,000 share counters");
    }
}
