//! The running binary with a Redis that counts attempts, and with one that is away.

use std::time::{Duration, Instant};

use crate::{
    fixture::Workbench,
    serving::{Serving, login},
};

/// Time in which the service has to notice what Redis does.
const NOTICE: Duration = Duration::from_secs(20);

const READY: &str = "GET /health/ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Waits until the service says this of itself.
fn until(serving: &Serving, expected: &str) {
    let deadline = Instant::now() + NOTICE;
    let expected = format!("{{\"status\":\"{expected}\"}}");
    loop {
        let answer = serving.ask(READY);
        if answer.ends_with(&expected) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer}");
        std::thread::yield_now();
    }
}

fn assert_login(serving: &Serving, password: &str, status: u16) {
    let answer = serving.ask(&login("alice", password));
    let expected = format!("HTTP/1.1 {status} ");
    assert!(answer.starts_with(&expected), "{answer}");
}

fn with_alice() -> Workbench {
    let bench = Workbench::with_database();
    let added = bench.run_with("open sesame\n", &["user", "add", "alice"]);
    added.printed();
    bench
}

#[test]
fn without_redis_the_process_counts_and_one_line_says_so() {
    let bench = with_alice();
    let variables = [
        ("AUTH__CLUSTER__URL", "redis://127.0.0.1:1"),
        ("AUTH__LIMITS__LOGINS_PER_NAME", "2"),
    ];
    let serving = Serving::start_with(&bench, &variables);
    until(&serving, "degraded");
    assert_login(&serving, "wrong", 401);
    assert_login(&serving, "open+sesame", 200);
    assert_login(&serving, "wrong", 401);
    assert_login(&serving, "open+sesame", 401);
    serving.signal("HUP");
    until(&serving, "degraded");
    let ended = serving.end_by("TERM");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let count = ended.stderr.matches("Redis is away").count();
    assert_eq!(count, 1, "{}", ended.stderr);
}

#[test]
#[ignore = "needs redis-server"]
fn a_restart_forgets_no_failure_that_redis_has_counted() {
    let bench = with_alice();
    let url = std::env::var("LATCHKEY_TEST_REDIS").expect("a server; see tests/redis");
    let prefix = format!("test-{}", std::process::id());
    let start = |prefix: &str| {
        let variables = [
            ("AUTH__CLUSTER__URL", url.as_str()),
            ("AUTH__CLUSTER__PREFIX", prefix),
            ("AUTH__LIMITS__LOGINS_PER_NAME", "2"),
        ];
        let serving = Serving::start_with(&bench, &variables);
        until(&serving, "ready");
        serving
    };
    let serving = start(&prefix);
    assert_login(&serving, "wrong", 401);
    serving.signal("HUP");
    assert_login(&serving, "wrong", 401);
    let ended = serving.end_by("TERM");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("Redis is away"), "{}", ended.stderr);
    let again = start(&prefix);
    assert_login(&again, "open+sesame", 401);
    drop(again);
    let elsewhere = start(&format!("{prefix}-other"));
    assert_login(&elsewhere, "open+sesame", 200);
}
