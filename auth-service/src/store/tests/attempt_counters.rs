//! Counters that issuers share on PostgreSQL.

use futures_util::future::join_all;

use super::OwnStore;
use crate::store::{AttemptCounter, Level};

const MINUTE: i64 = 60_000;

/// A counter with room for ten attempts in ten minutes.
fn counter(name: u8) -> AttemptCounter {
    AttemptCounter {
        key: [name; 32],
        step_ms: MINUTE,
        window_ms: 10 * MINUTE,
    }
}

impl OwnStore {
    /// Counts an attempt at each, and returns the places of those without room.
    async fn full(&self, names: &[u8]) -> Vec<usize> {
        let counters: Vec<_> = names.iter().copied().map(counter).collect();
        let full = self.count_attempts(&counters).await.expect("a write");
        assert!(full.iter().all(|(_, level)| level.wait_ms > 0));
        full.into_iter().map(|(place, _)| place).collect()
    }

    async fn level(&self, name: u8) -> Option<Level> {
        let levels = self.read_attempts(&[counter(name)]).await.expect("a read");
        levels.first().map(|(_, level)| *level)
    }
}

#[test]
fn a_level_is_within_its_window_whatever_was_stored() {
    let counter = counter(1);
    for (stored, empty_in_ms, wait_ms) in [
        (i64::MIN, 0, 0),
        (5 * MINUTE, 5 * MINUTE, 0),
        (i64::MAX, 10 * MINUTE, MINUTE),
    ] {
        let level = Level {
            empty_in_ms,
            wait_ms,
        };
        assert_eq!(counter.level(stored), level);
    }
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn of_attempts_at_once_no_more_are_counted_than_there_is_room_for() {
    let own = OwnStore::postgres().await;
    // The two in either order: statements never wait for each other.
    let attempts = (0..40).map(|number| {
        let own = &own;
        async move {
            match number % 2 {
                0 => own.full(&[1, 2]).await,
                _ => own.full(&[2, 1]).await,
            }
        }
    });
    let full = join_all(attempts).await;
    assert_eq!(full.iter().filter(|full| full.is_empty()).count(), 10);
    assert_eq!(full.iter().filter(|full| full.len() == 2).count(), 30);
    let level = own.level(1).await.expect("a level");
    assert!(
        (9 * MINUTE..=10 * MINUTE).contains(&level.empty_in_ms),
        "{level:?}"
    );
    assert!((1..=MINUTE).contains(&level.wait_ms), "{level:?}");
    assert_eq!(own.level(3).await, None);
    assert_eq!(own.full(&[1, 3]).await, [0]);
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn an_attempt_is_given_back_and_a_counter_that_is_empty_is_removed() {
    let own = OwnStore::postgres().await;
    for _ in 0..10 {
        assert!(own.full(&[1]).await.is_empty());
    }
    assert_eq!(own.full(&[1]).await, [0]);
    own.give_attempts_back(&[counter(1), counter(2)])
        .await
        .expect("a write");
    assert_eq!(own.level(1).await.map(|level| level.wait_ms), Some(0));
    assert!(own.full(&[1]).await.is_empty());
    assert_eq!(own.full(&[1]).await, [0]);
    assert_eq!(own.remove_empty_counters(100).await.expect("a write"), 0);
    let later = "update attempt_counters set empty_at = empty_at - 10 * 60000";
    own.try_execute(later).await.expect(later);
    assert_eq!(own.level(1).await.map(|level| level.empty_in_ms), Some(0));
    assert!(own.full(&[2]).await.is_empty());
    assert_eq!(own.remove_empty_counters(100).await.expect("a write"), 1);
    assert!(own.full(&[1]).await.is_empty());
}

#[tokio::test]
async fn sqlite_has_one_issuer_whose_memory_counts() {
    let own = OwnStore::sqlite().await;
    assert!(!own.is_shared());
    for _ in 0..20 {
        assert!(own.full(&[1]).await.is_empty());
    }
    assert_eq!(own.level(1).await, None);
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_counter_of_a_longer_window_is_full_for_its_own_window_at_most() {
    let own = OwnStore::postgres().await;
    let longer = AttemptCounter {
        step_ms: 60 * MINUTE,
        window_ms: 600 * MINUTE,
        ..counter(1)
    };
    for _ in 0..10 {
        assert_eq!(own.count_attempts(&[longer]).await.expect("a write"), []);
    }
    // A look brings nothing back, and tells no more than a window.
    let level = own.level(1).await.expect("a level");
    assert_eq!((level.empty_in_ms, level.wait_ms), (10 * MINUTE, MINUTE));
    assert_eq!(own.full(&[1]).await, [0]);
    let later = "update attempt_counters set empty_at = empty_at - 60000";
    own.try_execute(later).await.expect(later);
    assert!(own.full(&[1]).await.is_empty());
}
