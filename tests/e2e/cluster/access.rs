//! A Redis server that asks for TLS, a user and a password.

use harness::{Options, Redis, Stack, eventually, random_text, tls::Certificate};
use serde_json::{Value, json};

use super::{member, member_of, publish_numbers, readiness, ready};

/// The rights that docs/cluster.md names.
pub(super) fn documented_rights() -> String {
    let page = include_str!("../../../docs/cluster.md");
    let (_, rest) = page.split_once("`+@scripting").expect("the rights");
    let (rights, _) = rest.split_once('`').expect("the end of the rights");
    format!("+@scripting{rights}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn gateways_share_a_redis_with_tls_as_a_user_with_the_documented_rights() {
    let certificate = Certificate::default();
    let (redis, address) = Redis::start_with_tls(&certificate).await;
    let (_, port) = address.rsplit_once(':').expect("a port");
    let password = random_text(18);
    let rights = documented_rights();
    let user = format!("ACL SETUSER gateway on >{password} ~latchkey:* &latchkey:* -@all {rights}");
    assert_eq!(redis.command(&user).await, "+OK");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{password}\n")).expect("a written file");
    let options = |file: Value, ca_file: Value| -> Options {
        Options::default()
            .gateway("cluster.url", format!("rediss://gateway@localhost:{port}"))
            .gateway("cluster.password_file", file)
            .gateway("cluster.ca_file", ca_file)
    };
    let stack = Stack::start_with(options(json!(file), json!(certificate.cert_file()))).await;
    let other = stack.start_gateway().await;
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    let mut subscriber = member_of(&stack, &other).await;
    subscriber.subscribe("lobby").await;
    publish_numbers(&mut member(&stack).await, 0..3).await;
    for number in 0..3 {
        assert_eq!(subscriber.event().await[1], number);
    }
    let mut watcher = member(&stack).await;
    let payload = json!({"room": "lobby", "mode": "count"});
    eventually("presence of the other gateway", async || {
        let presence = watcher.call("rt:presence", payload.clone()).await;
        presence["connections"] == 1 && presence.get("partial").is_none()
    })
    .await;

    // Another password, and another authority. Each gateway has tried before it listens.
    let wrong = directory.path().join("wrong");
    std::fs::write(&wrong, "hunter2").expect("a written file");
    let stranger = Certificate::default();
    for (file, ca_file) in [
        (&wrong, certificate.cert_file()),
        (&file, stranger.cert_file()),
    ] {
        let stack = Stack::start_with(options(json!(file), json!(ca_file))).await;
        let mut member = member(&stack).await;
        let payload = json!({"room": "lobby", "event": "message", "data": 1});
        let answer = member.call("rt:publish", payload).await;
        assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
        assert_eq!(readiness(&stack.gateway_url).await["status"], "degraded");
    }
}
