//! An issuer that counts failed attempts in Redis, behind TLS and behind sentinels.

use harness::{Options, Redis, SentinelGroup, Stack, eventually, random_text, tls::Certificate};
use serde_json::json;

use super::{away::degraded, readiness};

/// The keys of counters.
const KEYS: &str = "KEYS latchkey:auth:*";

/// The rights that docs/operations.md names.
fn documented_rights() -> String {
    let page = include_str!("../../../docs/operations.md");
    let (_, rest) = page.split_once("`+@scripting").expect("the rights");
    let (rights, _) = rest.split_once('`').expect("the end of the rights");
    format!("+@scripting{rights}")
}

/// Waits until the issuer counts in Redis.
async fn ready(stack: &Stack) {
    eventually("an issuer with a Redis", async || {
        readiness(&stack.issuer_url).await["status"] == "ready"
    })
    .await;
}

/// Sends a wrong password.
async fn guess(stack: &Stack, name: &str) {
    let body = json!({"username": name, "password": "wrong"});
    let request = stack.http().post(format!("{}/login", stack.issuer_url));
    let answer = request.json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), reqwest::StatusCode::UNAUTHORIZED);
}

/// Returns the number of counters, of which one is the issuer's own.
async fn count(redis: &Redis) -> usize {
    let keys = redis.text(&format!("{KEYS}\r\nQUIT")).await;
    keys.matches("latchkey:auth:{attempts}:").count() - keys.matches(":probe").count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn an_issuer_counts_behind_tls_as_a_user_with_the_documented_rights() {
    let certificate = Certificate::default();
    let (redis, address) = Redis::start_with_tls(&certificate).await;
    let (_, port) = address.rsplit_once(':').expect("a port");
    let (password, rights) = (random_text(18), documented_rights());
    let user = format!("ACL SETUSER issuer on >{password} ~latchkey:auth:* -@all {rights}");
    assert_eq!(redis.command(&user).await, "+OK");
    let directory = tempfile::tempdir().expect("a directory");
    let (file, wrong) = (
        directory.path().join("password"),
        directory.path().join("wrong"),
    );
    std::fs::write(&file, format!("{password}\n")).expect("a written file");
    std::fs::write(&wrong, "hunter2").expect("a written file");
    let stranger = Certificate::default();
    for (file, ca_file, is_right) in [
        (&file, certificate.cert_file(), true),
        (&wrong, certificate.cert_file(), false),
        (&file, stranger.cert_file(), false),
    ] {
        let options = Options::default()
            .auth("cluster.url", format!("rediss://issuer@localhost:{port}"))
            .auth("cluster.password_file", json!(file))
            .auth("cluster.ca_file", json!(ca_file));
        let stack = Stack::start_with(options).await;
        let before = count(&redis).await;
        if is_right {
            ready(&stack).await;
        } else {
            degraded(&stack.issuer_url).await;
        }
        guess(&stack, "alice").await;
        // A counter of the name, and one of the address.
        let added = if is_right { 2 } else { 0 };
        assert_eq!(count(&redis).await - before, added);
        stack.login("alice").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn an_issuer_follows_the_sentinels_when_the_primary_was_killed() {
    let mut group = SentinelGroup::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sentinels");
    std::fs::write(&file, &group.password).expect("a written file");
    let options = Options::default()
        .auth("cluster.url", group.url())
        .auth("limits.logins_per_address", 1_000_000);
    let with_password = options
        .clone()
        .auth("cluster.sentinel_password_file", json!(file));
    let without = Stack::start_with(options).await;
    degraded(&without.issuer_url).await;
    let stack = Stack::start_with(with_password).await;
    ready(&stack).await;
    // A counter of the name, and one of the address. A request that is slow is counted without Redis.
    eventually("two counters on the primary", async || {
        guess(&stack, "alice").await;
        count(&group.servers[0]).await == 2
    })
    .await;
    group.servers[0].kill().await;
    // Nobody waits for the failover.
    stack.login("alice").await;
    eventually("the replica in the place of the primary", async || {
        guess(&stack, "bob").await;
        count(&group.servers[1]).await >= 3
    })
    .await;
    ready(&stack).await;
    stack.login("alice").await;
}
