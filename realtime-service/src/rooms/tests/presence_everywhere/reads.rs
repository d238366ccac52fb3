//! Reads of the rows of other gateways, of which the test writes the messages itself.

use futures_util::FutureExt as _;
use serde_json::Value;

use super::*;

/// A gateway that reads and writes nothing by itself.
async fn passive() -> Gateway {
    let mut gateway = Gateway::start(&redis_server::settings()).await;
    gateway.tasks.shutdown().await;
    gateway
}

/// Publishes a message about the lobby as another gateway does.
async fn publish(gateway: &Gateway, message: &str) {
    let people = gateway.rooms.terms.people.as_ref();
    let channel = people.expect("several gateways").channel(&name("lobby"));
    let count: Option<i64> = gateway.run(&["PUBLISH", &channel, message]).await;
    assert_eq!(count, Some(1), "the gateway listens");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_read_that_is_given_up_leaves_the_room_to_be_read() {
    let gateway = passive().await;
    let room = gateway.rooms.get_or_open(&name("lobby"));
    let is_partial = || room.presence(PresenceMode::Count).partial;
    assert!(room.read_peers().await && !is_partial());
    publish(&gateway, "C other-x.1 5 6 1 1").await;
    until("a gap", async || is_partial()).await;
    let given_up = room.read_peers().now_or_never();
    assert_eq!(given_up, None, "Redis has not answered yet");
    assert!(is_partial());
    assert!(room.read_peers().await && !is_partial());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_retired_room_leaves_the_channel_to_its_successor() {
    let gateway = passive().await;
    let lobby = name("lobby");
    let former = gateway.rooms.get_or_open(&lobby);
    gateway.rooms.retire_if_idle(&lobby, &former);
    let room = gateway.rooms.get_or_open(&lobby);
    assert!(!Arc::ptr_eq(&former, &room));
    assert!(room.read_peers().await);
    assert!(!former.read_peers().await);
    drop(former);
    let alice = "C other-x.1 - 1 1 1\n[null,\"alice\"]\n[1,null,null]";
    publish(&gateway, alice).await;
    until("alice", async || {
        room.presence(PresenceMode::Count).count == 1
    })
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn users_who_vanish_at_once_are_announced_at_once() {
    let gateway = passive().await;
    let watcher = gateway.enter("watcher", 0).await;
    let rows = "[null,\"alice\"]\n[1,null,null]\n[null,\"bob\"]\n[1,null,null]";
    publish(&gateway, &format!("C other-x.1 - 1 2 1\n{rows}")).await;
    publish(&gateway, "D other-x.1").await;
    let mut events: Vec<(String, usize, u64)> = Vec::new();
    until("a leave", async || {
        for queued in watcher.outbox.engine().queue().take(usize::MAX) {
            let text = queued.packet().text().strip_prefix("42");
            let event: Value = serde_json::from_str(text.expect("an event")).expect("JSON");
            let users = event[1]["users"].as_array().map_or(0, Vec::len);
            let count = event[1]["count"].as_u64().unwrap_or_default();
            events.push((
                event[0].as_str().unwrap_or_default().to_owned(),
                users,
                count,
            ));
        }
        events.last().is_some_and(|(kind, ..)| kind == "rt:leave")
    })
    .await;
    let expected = [("answer", 1, 1), ("rt:join", 2, 3), ("rt:leave", 2, 1)];
    let events: Vec<_> = events
        .iter()
        .map(|(kind, users, count)| (&**kind, *users, *count))
        .collect();
    assert_eq!(events, expected);
}
