//! The counters on a Redis server, and on a Redis Cluster: `tests/redis` starts both.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::*;
use crate::ids::random_id;

const MINUTE: i64 = 60_000;

/// The variables that name the server and the Redis Cluster.
const SERVERS: [&str; 2] = ["LATCHKEY_TEST_REDIS", "LATCHKEY_TEST_REDIS_CLUSTER"];

/// Counters of one issuer, and the task that connects them.
struct Issuer {
    redis: Arc<RedisCounters>,
    metrics: Arc<Metrics>,
    running: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl std::ops::Deref for Issuer {
    type Target = RedisCounters;

    fn deref(&self) -> &RedisCounters {
        &self.redis
    }
}

fn settings(variable: &str) -> ClusterSettings {
    ClusterSettings {
        url: std::env::var(variable).expect("a server; see tests/redis"),
        prefix: format!("test-{}", random_id().expect("randomness")),
        timeout_ms: 10_000,
        ..ClusterSettings::default()
    }
}

fn start(settings: &ClusterSettings) -> Issuer {
    let redis = RedisCounters::open(settings).expect("settings");
    let redis = Arc::new(redis.expect("a URL"));
    let metrics = Arc::new(Metrics::new());
    let (own, told) = (Arc::clone(&redis), Arc::clone(&metrics));
    Issuer {
        running: tokio::spawn(async move { own.run(&told).await }),
        redis,
        metrics,
    }
}

async fn connected(settings: &ClusterSettings) -> Issuer {
    let issuer = start(settings);
    let mut state = issuer.state.subscribe();
    let connected = state.wait_for(|state| matches!(state, State::Connected(..)));
    let connected = timeout(Duration::from_secs(20), connected).await;
    drop(connected.expect("Redis in time").expect("a sender"));
    issuer
}

/// A counter with room for ten attempts in ten minutes.
fn counter(name: u8) -> AttemptCounter {
    AttemptCounter {
        key: [name; 32],
        step_ms: MINUTE,
        window_ms: 10 * MINUTE,
    }
}

impl Issuer {
    /// Counts an attempt at each, and returns the places of those without room.
    async fn full(&self, names: &[u8]) -> Vec<usize> {
        let counters: Vec<_> = names.iter().copied().map(counter).collect();
        let full = self.count(&counters, &self.metrics).await.expect("Redis");
        assert!(full.iter().all(|(_, level)| level.wait_ms > 0));
        full.into_iter().map(|(place, _)| place).collect()
    }

    async fn level(&self, name: u8) -> Option<Level> {
        let levels = self.read(&[counter(name)], &self.metrics).await;
        levels.expect("Redis").first().map(|(_, level)| *level)
    }

    /// Runs a script on the keys of counters.
    async fn run_on(&self, text: &str, names: &[u8]) -> Vec<i64> {
        let script = Script::new(text);
        let mut invocation = script.prepare_invoke();
        for name in names {
            invocation.key(self.name(&URL_SAFE_NO_PAD.encode([*name; 32])));
        }
        self.invoke(&invocation).await.expect("Redis")
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn of_attempts_of_three_issuers_at_once_no_more_are_counted_than_there_is_room_for() {
    for variable in SERVERS {
        let settings = settings(variable);
        let issuers = [
            connected(&settings).await,
            connected(&settings).await,
            connected(&settings).await,
        ];
        let attempts = (0..42).map(|number| {
            let issuer = &issuers[number % 3];
            async move {
                match number % 2 {
                    0 => issuer.full(&[1, 2]).await,
                    _ => issuer.full(&[2, 1]).await,
                }
            }
        });
        let full = join_all(attempts).await;
        assert_eq!(full.iter().filter(|full| full.is_empty()).count(), 10);
        assert_eq!(full.iter().filter(|full| full.len() == 2).count(), 32);
        for issuer in &issuers {
            let level = issuer.level(1).await.expect("a level");
            let expected = 9 * MINUTE..=10 * MINUTE;
            assert!(expected.contains(&level.empty_in_ms), "{level:?}");
            assert!((1..=MINUTE).contains(&level.wait_ms), "{level:?}");
            assert_eq!(issuer.level(3).await, None);
        }
        assert_eq!(issuers[0].full(&[1, 3]).await, [0]);
        // Another prefix is another count.
        let others = connected(&self::settings(variable)).await;
        assert!(others.full(&[1]).await.is_empty());
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_attempt_is_taken_back_and_a_counter_lives_until_it_is_empty() {
    for variable in SERVERS {
        let issuer = connected(&settings(variable)).await;
        for _ in 0..10 {
            assert!(issuer.full(&[1]).await.is_empty());
        }
        assert!(issuer.full(&[2]).await.is_empty());
        assert_eq!(issuer.full(&[1]).await, [0]);
        let back = [counter(1), counter(2)];
        let given = issuer.give_back(&back, &issuer.metrics).await;
        assert_eq!(given, Ok(()));
        assert!(issuer.full(&[1]).await.is_empty());
        assert_eq!(issuer.full(&[1]).await, [0]);
        assert_eq!(issuer.level(2).await, None);

        let lives = "return {redis.call('PTTL', KEYS[1]), redis.call('EXISTS', KEYS[2])}";
        let lives = issuer.run_on(lives, &[1, 2]).await;
        assert!((9 * MINUTE..=10 * MINUTE).contains(&lives[0]), "{lives:?}");
        assert_eq!(lives[1], 0);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_cannot_be_counted_is_told_at_once_and_by_one_lost_connection() {
    let issuer = connected(&settings(SERVERS[0])).await;
    assert!(issuer.full(&[1]).await.is_empty());
    // No place is free, which says nothing about the connection.
    let all = u32::try_from(issuer.places.available_permits()).expect("a number");
    let places = issuer.places.acquire_many(all).await.expect("places");
    let counted = issuer.count(&[counter(1)], &issuer.metrics).await;
    assert_eq!((counted, issuer.is_connected()), (Err(Away), true));
    drop(places);
    assert!(issuer.full(&[1]).await.is_empty());
    // A key of another kind, which no script of the service makes.
    let harm = "redis.call('HSET', KEYS[1], 'a', 'b') return {}";
    issuer.run_on(harm, &[2]).await;
    let counted = issuer.count(&[counter(2)], &issuer.metrics).await;
    assert_eq!((counted, issuer.is_connected()), (Err(Away), false));
    let text = issuer.metrics.render(Default::default()).expect("text");
    for line in [
        r#"latchkey_auth_cluster_requests_total{outcome="answered"} 2"#,
        r#"latchkey_auth_cluster_requests_total{outcome="failed"} 1"#,
        r#"latchkey_auth_cluster_requests_total{outcome="refused"} 1"#,
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused_at_the_start_and_a_server_that_is_away_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let password_file = directory.path().join("password");
    let settings = |url: &str| ClusterSettings {
        url: url.to_owned(),
        password_file: password_file.clone(),
        ..ClusterSettings::default()
    };
    let urls = [
        "redis://127.0.0.1:1",
        "redis+sentinel://127.0.0.1:1/main",
        "redis+cluster://127.0.0.1:1",
    ];
    for url in urls {
        assert!(RedisCounters::open(&settings(url)).is_err(), "{url}");
    }
    std::fs::write(&password_file, "a password\n").expect("a file");
    for url in urls {
        let issuer = start(&settings(url));
        let counted = issuer.count(&[counter(1)], &issuer.metrics).await;
        assert_eq!(
            (counted, issuer.is_connected()),
            (Err(Away), false),
            "{url}"
        );
    }
    let tls = ClusterSettings {
        ca_file: directory.path().join("ca.pem"),
        ..settings("rediss://127.0.0.1:1")
    };
    assert!(RedisCounters::open(&tls).is_err());
    assert!(RedisCounters::open(&ClusterSettings::default()).is_ok_and(|none| none.is_none()));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_counter_of_a_longer_window_is_full_for_its_own_window_at_most() {
    for variable in SERVERS {
        let issuer = connected(&settings(variable)).await;
        let longer = AttemptCounter {
            step_ms: 60 * MINUTE,
            window_ms: 600 * MINUTE,
            ..counter(1)
        };
        for _ in 0..10 {
            let full = issuer.count(&[longer], &issuer.metrics).await;
            assert_eq!(full.expect("Redis"), []);
        }
        // A look brings nothing back, and tells no more than a window.
        let level = issuer.level(1).await.expect("a level");
        assert_eq!((level.empty_in_ms, level.wait_ms), (10 * MINUTE, MINUTE));
        assert_eq!(issuer.full(&[1]).await, [0]);
        let lives = issuer.run_on("return {redis.call('PTTL', KEYS[1])}", &[1]);
        let lives = lives.await[0];
        assert!((9 * MINUTE..=10 * MINUTE).contains(&lives), "{lives}");
    }
}
