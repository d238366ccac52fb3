//! Several gateways and a primary that sentinels name: the gateways follow it to another server.

use harness::{Options, SentinelGroup, Stack};
use serde_json::{Value, json};

use super::{
    away::{degraded, everybody_is_told},
    member, member_of, pair, publish_numbers, readiness, ready,
};

/// Settings of gateways that know the password of the sentinels, in a file of `directory`.
fn options(group: &SentinelGroup, directory: &tempfile::TempDir) -> Options {
    let file = directory.path().join("sentinels");
    std::fs::write(&file, &group.password).expect("a written file");
    Options::default()
        .gateway("cluster.url", group.url())
        .gateway("cluster.sentinel_password_file", json!(file))
        .gateway("cluster.timeout_ms", 500)
}

/// Subscribes members on two gateways, takes the primary away by `lose`, and looks whether everybody goes on at
/// the replica.
async fn follow_the_primary(lose: impl AsyncFnOnce(&mut SentinelGroup)) {
    let (mut group, directory) = (
        SentinelGroup::start().await,
        tempfile::tempdir().expect("a directory"),
    );
    let (stack, other) = pair(options(&group, &directory)).await;
    let mut members = [member(&stack).await, member_of(&stack, &other).await];
    let mut place = Value::Null;
    for member in &mut members {
        place = member.subscribe("lobby").await;
    }
    publish_numbers(&mut member(&stack).await, 0..3).await;
    for member in &mut members {
        for number in 0..3 {
            assert_eq!(member.event().await[1], number);
        }
    }
    lose(&mut group).await;
    everybody_is_told(&stack, &mut members, &place["epoch"]).await;
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    let written = group.servers[1]
        .command("EXISTS latchkey:{lobby}:messages")
        .await;
    assert_eq!(
        written, ":1",
        "the replica has the messages of the new epoch"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn gateways_follow_the_sentinels_when_the_primary_was_killed() {
    follow_the_primary(async |group| group.servers[0].kill().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn gateways_leave_a_primary_that_runs_and_was_replaced() {
    follow_the_primary(async |group| group.name_the_replica().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn sentinels_that_ask_for_a_password_get_the_one_of_its_own_setting() {
    let directory = tempfile::tempdir().expect("a directory");
    let group = SentinelGroup::start().await;
    let stack = Stack::start_with(options(&group, &directory)).await;
    ready(&stack.gateway_url).await;
    let without = options(&group, &directory).gateway("cluster.sentinel_password_file", "");
    let stack = Stack::start_with(without).await;
    degraded(&stack.gateway_url).await;
    assert_eq!(readiness(&stack.gateway_url).await["status"], "degraded");
}
