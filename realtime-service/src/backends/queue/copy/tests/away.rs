//! Redis while it is silent, or without its data, and gateways that were cut off from it.

use super::*;

async fn command(settings: &ClusterSettings, parts: &[&str]) {
    let client = redis::Client::open(&*settings.url).expect("a URL");
    let connection = client.get_multiplexed_async_connection().await;
    let mut command = cmd(parts[0]);
    command.arg(&parts[1..]);
    let answer = command
        .query_async(&mut connection.expect("a connection"))
        .await;
    let _: redis::Value = answer.expect("an answer");
}

async fn assert_whole(gateway: &Gateway) {
    eventually("a whole copy", async || {
        gateway.copy.progress.has(0) && gateway.copied_rows().await == gateway.rows().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn an_event_is_acknowledged_once_redis_has_it_and_without_redis_while_it_is_silent() {
    let server = redis_server::OwnServer::start().await;
    let (settings, disk) = (server.settings(), directory());
    let one = Gateway::start(&settings, disk.path()).await;
    for number in 0..20 {
        one.append(&format!("a{number}"), "alice", 2).await;
        assert_eq!(one.copied_rows().await.len(), number + 1, "already there");
    }
    command(&settings, &["CLIENT", "PAUSE", "1500", "ALL"]).await;
    let begun = Instant::now();
    for id in ["b1", "b2", "b3"] {
        one.append(id, "bob", 2).await;
    }
    let taken = begun.elapsed();
    assert!(
        taken < Duration::from_millis(1200),
        "Redis was awaited: {taken:?}"
    );
    assert_whole(&one).await;
    one.append("b4", "bob", 2).await;
    assert_eq!(one.copied_rows().await.len(), 24);
    drop(server);
    let begun = Instant::now();
    one.append("b5", "bob", 2).await;
    let taken = begun.elapsed();
    assert!(
        taken < Duration::from_millis(1200),
        "Redis was awaited: {taken:?}"
    );
    assert_eq!(one.ids().await.len(), 25);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn a_copy_that_is_gone_or_older_is_written_anew() {
    let server = redis_server::OwnServer::start().await;
    let (settings, disk) = (server.settings(), directory());
    let one = Gateway::start(&settings, disk.path()).await;
    one.append("a1", "alice", 2).await;
    one.open_book("alice closed", "alice").await;
    let keys = one.copy.keys();
    // Redis has an older state, without the event.
    let event = Place {
        number: 1,
        ..Place::BEFORE_EVENTS
    };
    command(&settings, &["HDEL", &keys.rows, &event.name()]).await;
    command(&settings, &["ZREM", &keys.order, &event.name()]).await;
    command(&settings, &["HINCRBY", &keys.rows, "version", "-1"]).await;
    one.append("a2", "alice", 2).await;
    assert_whole(&one).await;
    let id = one.copy.progress.id();
    command(&settings, &["FLUSHALL"]).await;
    one.append("a3", "alice", 2).await;
    eventually("another copy", async || {
        let link = one.copy.cluster.link_of(&keys.rows);
        let Ok(link) = link else { return false };
        link.query(cmd("EXISTS").arg(&keys.rows)).await == Ok(1)
    })
    .await;
    assert_whole(&one).await;
    assert_eq!(one.copied_rows().await.len(), 4);
    assert_eq!(one.copy.progress.id(), id, "nobody has adopted it");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn a_gateway_that_was_adopted_while_it_lived_goes_on_under_another_id() {
    let settings = settings();
    let (disk, other_disk) = (directory(), directory());
    let one = Gateway::start(&settings, disk.path()).await;
    one.append("a1", "alice", 2).await;
    one.open_book("alice closed", "alice").await;
    // It is cut off from Redis.
    one.running.abort();
    one.copy.progress.fall_back();
    one.append("a2", "alice", 2).await;
    let lost = Lost {
        id: one.copy.progress.id(),
        keys: one.copy.keys(),
        cluster: one.copy.cluster.clone(),
    };
    let two = Gateway::start(&settings, other_disk.path()).await;
    lost.lapse().await;
    lost.adopted().await;
    assert_eq!(two.ids().await, ["a1", "alice closed"]);

    let running = Gateway::run(&one.copy);
    eventually("another id", async || one.copy.progress.id() != lost.id).await;
    one.copied().await;
    assert_whole(&one).await;
    assert_eq!(one.ids().await, ["a1", "a2"], "the connection is open");
    assert_eq!(one.copied_rows().await.len(), 3);
    // The file knows its id.
    let id = one.copy.progress.id();
    running.abort();
    let _ = running.await;
    one.kill().await;
    let one = Gateway::start(&settings, disk.path()).await;
    assert_eq!(one.copy.progress.id(), id);
    assert_eq!(one.ids().await, ["a1", "a2", "alice closed"]);
}
