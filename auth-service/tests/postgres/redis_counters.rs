//! Three issuers on one database and one Redis, which counts attempts as long as it is there.

use std::time::{Duration, Instant};

use auth_service::Settings;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    outage::{PASSWORD, Service},
    redis_server::RedisServer,
    server::Server,
    shared_limits::{ATTEMPTS, Issuers, three},
};

/// Time in which issuers notice that Redis has gone or returned.
const NOTICE: Duration = Duration::from_secs(20);

/// Maximum time of a login while Redis hangs.
const PATIENCE: Duration = Duration::from_secs(5);

const COUNTED: &str = "select encode(key, 'hex') from attempt_counters";

async fn three_with_redis(
    server: &Server,
    redis: &RedisServer,
    change: impl Fn(&mut Settings),
) -> Issuers {
    let issuers = three(server, |settings| {
        settings.cluster.url = redis.url();
        settings.cluster.prefix = "test".to_owned();
        change(settings);
    })
    .await;
    until(&issuers, "ready").await;
    issuers
}

/// Waits until each issuer says this of itself.
async fn until(issuers: &[Service], expected: &str) {
    let deadline = Instant::now() + NOTICE;
    for issuer in issuers {
        loop {
            let answer = issuer.get("/health/ready").await;
            assert_eq!(answer.status(), StatusCode::OK);
            let answer: Value = answer.json().await.expect("JSON");
            if answer["status"] == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{answer}, and not {expected}");
            tokio::task::yield_now().await;
        }
    }
}

/// Guesses so often, by turns.
async fn guess(issuers: &[Service], name: &str, count: usize) {
    for number in 0..count {
        let status = issuers[number % 3].post_login(name, "wrong").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

/// Signs in with the right password at each.
async fn assert_right(issuers: &[Service], name: &str, expected: StatusCode) {
    for issuer in issuers {
        assert_eq!(issuer.post_login(name, PASSWORD).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql and redis-server"]
async fn guesses_at_all_issuers_count_in_redis_by_keys_that_name_nobody_and_expire() {
    let (server, redis) = (Server::start(), RedisServer::start());
    let issuers = three_with_redis(&server, &redis, |settings| {
        settings.limits.logins_per_name = ATTEMPTS;
    })
    .await;
    // One less than the limit: the right one is not refused, and does not count.
    guess(&issuers, "alice", 5).await;
    assert_right(&issuers, "alice", StatusCode::OK).await;
    guess(&issuers, "alice", 1).await;
    assert_right(&issuers, "alice", StatusCode::UNAUTHORIZED).await;
    assert!(server.texts(COUNTED).await.is_empty());

    let keys = redis.keys();
    let counters = keys.iter().filter(|(key, _)| !key.ends_with(":probe"));
    // Counters of the name and of the address.
    assert_eq!(counters.count(), 2, "{keys:?}");
    for (key, time) in keys {
        assert!(key.starts_with("test:auth:{attempts}:"), "{key}");
        let name = key.rsplit(':').next().expect("a name");
        let hash = URL_SAFE_NO_PAD.decode(name).unwrap_or_default();
        assert!(name == "probe" || hash.len() == 32, "{key} is no hash");
        // -2 is a key that has expired since.
        assert!((1..=900_000).contains(&time) || time == -2, "{key} {time}");
    }
    let fresh = Service::join(&server, |settings| {
        settings.cluster.url = redis.url();
        settings.cluster.prefix = "another".to_owned();
    });
    assert_right(&[fresh], "alice", StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql and redis-server"]
async fn attempts_at_once_and_of_one_address_count_at_all_issuers_of_one_redis() {
    let (server, redis) = (Server::start(), RedisServer::start());
    let issuers = three_with_redis(&server, &redis, |settings| {
        settings.limits.logins_per_address = ATTEMPTS;
        settings.cluster.timeout_ms = 10_000;
    })
    .await;
    let names: Vec<String> = (0..30).map(|number| format!("name{number}")).collect();
    let guesses = names.iter().enumerate();
    let guesses = guesses.map(|(number, name)| issuers[number % 3].post_login(name, "wrong"));
    let statuses = join_all(guesses).await;
    let answered = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!(answered(StatusCode::UNAUTHORIZED), 6);
    assert_eq!(answered(StatusCode::TOO_MANY_REQUESTS), 24);
    assert_right(&issuers, "alice", StatusCode::TOO_MANY_REQUESTS).await;
    assert!(server.texts(COUNTED).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql and redis-server"]
async fn while_redis_is_away_the_database_counts_and_a_right_password_signs_in() {
    let (server, redis) = (Server::start(), RedisServer::start());
    let issuers = three_with_redis(&server, &redis, |settings| {
        settings.limits.logins_per_name = ATTEMPTS;
    })
    .await;
    issuers[0].add_user("bob").await;
    guess(&issuers, "alice", 3).await;
    redis.stop();
    // Nobody has noticed yet.
    assert_right(&issuers, "alice", StatusCode::OK).await;
    until(&issuers, "degraded").await;
    // In the database, the count begins anew; there it has an end too.
    guess(&issuers, "alice", 5).await;
    assert_right(&issuers, "alice", StatusCode::OK).await;
    guess(&issuers, "alice", 1).await;
    assert_right(&issuers, "alice", StatusCode::UNAUTHORIZED).await;
    assert!(!server.texts(COUNTED).await.is_empty());

    redis.start_again();
    until(&issuers, "ready").await;
    // Each issuer has learned that the name is shut.
    assert_right(&issuers, "alice", StatusCode::UNAUTHORIZED).await;
    let counted = server.texts(COUNTED).await;
    guess(&issuers, "bob", 5).await;
    assert_right(&issuers, "bob", StatusCode::OK).await;
    guess(&issuers, "bob", 1).await;
    assert_right(&issuers, "bob", StatusCode::UNAUTHORIZED).await;
    assert_eq!(server.texts(COUNTED).await, counted);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql and redis-server"]
async fn a_redis_that_hangs_or_takes_no_writes_keeps_nobody_waiting() {
    let (server, redis) = (Server::start(), RedisServer::start());
    let issuers = three_with_redis(&server, &redis, |settings| {
        settings.limits.logins_per_name = ATTEMPTS;
    })
    .await;
    for round in 0..2 {
        match round {
            0 => redis.freeze(),
            _ => redis.set("maxmemory", "1"),
        }
        for issuer in issuers.iter() {
            let started = Instant::now();
            assert_eq!(issuer.post_login("alice", PASSWORD).await, StatusCode::OK);
            let took = started.elapsed();
            assert!(took < PATIENCE, "{took:?}");
        }
        until(&issuers, "degraded").await;
        guess(&issuers, "alice", 1).await;
        assert!(!server.texts(COUNTED).await.is_empty());
        assert_right(&issuers, "alice", StatusCode::OK).await;
        match round {
            0 => redis.thaw(),
            _ => redis.set("maxmemory", "0"),
        }
        until(&issuers, "ready").await;
        server.execute("delete from attempt_counters").await;
        guess(&issuers, "alice", 1).await;
        assert!(server.texts(COUNTED).await.is_empty());
    }
}
