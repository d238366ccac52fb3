//! Several gateways and a Redis Cluster: the same guarantees as with one server, and a shard that is lost or
//! loses its data concerns its rooms alone.

use harness::{Options, RedisCluster, Stack, WebSocket, eventually, random_text};
use serde_json::{Value, json};

use super::{
    away::{degraded, publish_until_accepted},
    member, member_of, pair, publish_numbers, readiness, ready, since,
};

/// Rooms of which each shard of three has one: their slots are 10294, 5161 and 15905.
const ROOMS: [&str; 3] = ["lobby", "news", "board"];

fn options(cluster: &RedisCluster) -> Options {
    let rule = json!({"rooms": ROOMS, "actions": ["sub", "pub", "hst", "prs"]});
    Options::default()
        .gateway("rooms", json!([rule]))
        .gateway("cluster.url", cluster.url())
        .gateway("cluster.timeout_ms", 500)
}

fn key_of(room: &str) -> String {
    format!("latchkey:{{{room}}}:log")
}

/// Publishes a number in a room until it is accepted, and returns the answer.
async fn publish(publisher: &mut WebSocket, room: &str, number: u64) -> Value {
    let id = random_text(9);
    let payload = json!({"room": room, "event": "message", "data": number, "id": id});
    let mut answer = Value::Null;
    eventually("a publish that is accepted", async || {
        answer = publisher.call("rt:publish", payload.clone()).await;
        answer["ok"] == true
    })
    .await;
    answer
}

/// The next event is this message.
async fn expect_message(subscriber: &mut WebSocket, room: &str, number: u64, answer: &Value) {
    let event = subscriber.event().await;
    assert_message(&event, room, number, answer);
}

fn assert_message(event: &Value, room: &str, number: u64, answer: &Value) {
    assert_eq!(
        (&event[0], &event[1]),
        (&json!("message"), &json!(number)),
        "{event}"
    );
    let meta = &event[2];
    assert_eq!(
        (&meta["room"], &meta["epoch"], &meta["offset"]),
        (&json!(room), &answer["epoch"], &answer["offset"])
    );
}

/// The next event says that the room goes on with message 1 of another epoch.
async fn expect_epoch(subscriber: &mut WebSocket, room: &str, before: &Value) -> Value {
    let event = subscriber.event().await;
    assert_eq!(
        (&event[0], &event[1]["room"]),
        (&json!("rt:gap"), &json!(room)),
        "{event}"
    );
    assert_ne!(event[1]["epoch"], *before);
    assert_eq!((&event[1]["from"], &event[1]["to"]), (&json!(1), &json!(0)));
    event[1]["epoch"].clone()
}

/// Whether a publish is refused for now.
async fn is_unavailable(publisher: &mut WebSocket, room: &str) -> bool {
    let payload = json!({"room": room, "event": "message", "data": 0});
    let answer = publisher.call("rt:publish", payload).await;
    answer["error"]["code"] == "unavailable"
}

/// Gives every node of a cluster a user with the rights that docs/cluster.md names, and returns its
/// password.
async fn with_documented_rights(cluster: &RedisCluster) -> String {
    let page = include_str!("../../../docs/cluster.md");
    let (_, rest) = page
        .split_once("`+cluster|")
        .expect("the rights in a Redis Cluster");
    let (cluster_rights, _) = rest.split_once('`').expect("the end of the rights");
    let rights = format!(
        "{} +cluster|{cluster_rights}",
        super::access::documented_rights()
    );
    let password = random_text(18);
    for node in &cluster.nodes {
        let user =
            format!("ACL SETUSER gateway on >{password} ~latchkey:* &latchkey:* -@all {rights}");
        assert_eq!(node.command(&user).await, "+OK");
    }
    password
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn every_gateway_delivers_the_messages_of_all_shards_with_the_documented_rights() {
    let cluster = RedisCluster::start(3, false).await;
    let password = with_documented_rights(&cluster).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, password).expect("a written file");
    let url = cluster.url().replace("://", "://gateway@");
    let options = options(&cluster)
        .gateway("cluster.url", url)
        .gateway("cluster.password_file", json!(file));
    let (stack, other) = pair(options).await;
    let mut nodes = Vec::new();
    for room in ROOMS {
        nodes.push(cluster.node_of(&key_of(room)).await);
        let mut subscribers = [member(&stack).await, member_of(&stack, &other).await];
        for subscriber in &mut subscribers {
            subscriber.subscribe(room).await;
        }
        let (mut one, mut two) = (member(&stack).await, member_of(&stack, &other).await);
        for number in 0..20 {
            let publisher = if number % 2 == 0 { &mut one } else { &mut two };
            let answer = publish(publisher, room, number).await;
            for subscriber in &mut subscribers {
                expect_message(subscriber, room, number, &answer).await;
            }
        }
    }
    nodes.sort_unstable();
    assert_eq!(nodes, [0, 1, 2], "a shard without a room");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_room_keeps_its_epoch_and_its_messages_when_its_slot_moves() {
    let cluster = RedisCluster::start(3, false).await;
    let (stack, other) = pair(options(&cluster)).await;
    let (key, from) = (key_of("lobby"), cluster.node_of(&key_of("lobby")).await);
    let mut subscribers = [member(&stack).await, member_of(&stack, &other).await];
    let mut place = Value::Null;
    for subscriber in &mut subscribers {
        place = subscriber.subscribe("lobby").await;
    }
    let mut publisher = member(&stack).await;
    // There, back, and to the third one.
    let ways = [
        (from, (from + 1) % 3),
        ((from + 1) % 3, from),
        (from, (from + 2) % 3),
    ];
    for (number, way) in (0..).step_by(3).zip(ways) {
        let mut answers = vec![publish(&mut publisher, "lobby", number).await];
        cluster.begin_move(&key, way).await;
        let (answer, ()) = tokio::join!(
            publish(&mut publisher, "lobby", number + 1),
            cluster.finish_move(&key, way)
        );
        answers.push(answer);
        answers.push(publish(&mut publisher, "lobby", number + 2).await);
        for (number, answer) in (number..).zip(&answers) {
            assert_eq!(answer["epoch"], place["epoch"]);
            assert_eq!(answer["offset"], number + 1);
            for subscriber in &mut subscribers {
                expect_message(subscriber, "lobby", number, answer).await;
            }
        }
    }
    // A client that was away meanwhile missed nothing either.
    let mut back = member_of(&stack, &other).await;
    let payload = json!({"room": "lobby", "since": since(&place)});
    let answer = back.call("rt:subscribe", payload).await;
    assert_eq!(answer["recovered"], true, "{answer}");
    assert_eq!(super::said(&answer).len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_shard_that_is_away_costs_its_rooms_only() {
    let cluster = RedisCluster::start(3, false).await;
    let (stack, other) = pair(options(&cluster)).await;
    let mut subscriber = member_of(&stack, &other).await;
    let mut epochs = Vec::new();
    for room in ROOMS {
        epochs.push(subscriber.subscribe(room).await["epoch"].clone());
    }
    let mut publisher = member(&stack).await;
    let node = cluster.node_of(&key_of(ROOMS[0])).await;
    cluster.nodes[node].pause();
    degraded(&stack.gateway_url).await;
    degraded(&other.url).await;
    assert!(is_unavailable(&mut publisher, ROOMS[0]).await);
    for (room, epoch) in ROOMS.iter().zip(&epochs).skip(1) {
        let answer = publish(&mut publisher, room, 1).await;
        assert_eq!(answer["epoch"], *epoch);
        expect_message(&mut subscriber, room, 1, &answer).await;
    }
    cluster.nodes[node].go_on();
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    let answer = publish(&mut publisher, ROOMS[0], 2).await;
    assert_eq!(answer["epoch"], epochs[0], "nothing was lost");
    expect_message(&mut subscriber, ROOMS[0], 2, &answer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_shard_that_lost_its_data_begins_new_epochs_for_its_rooms_only() {
    let cluster = RedisCluster::start(3, false).await;
    let (stack, other) = pair(options(&cluster)).await;
    let mut members = [member(&stack).await, member_of(&stack, &other).await];
    let mut epochs = Vec::new();
    for room in ROOMS {
        for member in &mut members {
            epochs.push(member.subscribe(room).await["epoch"].clone());
        }
    }
    let node = cluster.node_of(&key_of(ROOMS[0])).await;
    assert_eq!(cluster.nodes[node].command("FLUSHALL").await, "+OK");
    let mut publisher = member(&stack).await;
    for member in &mut members {
        expect_epoch(member, ROOMS[0], &epochs[0]).await;
    }
    // A read that comes before the loss is noticed begins an epoch too, which does not outlive it.
    let first = publish(&mut publisher, ROOMS[0], 0).await;
    for member in &mut members {
        let mut event = member.event().await;
        while event[0] == "rt:gap" {
            assert_eq!(event[1]["room"], ROOMS[0]);
            event = member.event().await;
        }
        assert_message(&event, ROOMS[0], 0, &first);
    }
    for (number, room) in (1..).zip(&ROOMS[1..]) {
        let answer = publish(&mut publisher, room, number).await;
        assert_eq!(
            answer["epoch"],
            epochs[2 * usize::try_from(number).expect("small")]
        );
        for member in &mut members {
            expect_message(member, room, number, &answer).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_replica_takes_over_a_shard_and_its_rooms_begin_new_epochs() {
    let mut cluster = RedisCluster::start(3, true).await;
    let (stack, other) = pair(options(&cluster)).await;
    let mut members = [member(&stack).await, member_of(&stack, &other).await];
    let mut epochs = Vec::new();
    for room in &ROOMS[..2] {
        for member in &mut members {
            epochs.push(member.subscribe(room).await["epoch"].clone());
        }
    }
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..3).await;
    for member in &mut members {
        for number in 0..3 {
            assert_eq!(member.event().await[1], number);
        }
    }
    let node = cluster.node_of(&key_of(ROOMS[0])).await;
    cluster.nodes[node].kill().await;
    let mut now = Vec::new();
    for member in &mut members {
        now.push(expect_epoch(member, ROOMS[0], &epochs[0]).await);
    }
    assert_eq!(now[0], now[1]);
    let answer = publish_until_accepted(&mut publisher, 7).await;
    assert_eq!((&answer["epoch"], &answer["offset"]), (&now[0], &json!(1)));
    for member in &mut members {
        expect_message(member, ROOMS[0], 7, &answer).await;
    }
    let answer = publish(&mut publisher, ROOMS[1], 8).await;
    assert_eq!(answer["epoch"], epochs[2], "another shard");
    ready(&stack.gateway_url).await;

    // The server before comes back as a replica, and nothing changes.
    cluster.nodes[node].restart().await;
    eventually("a replica", async || {
        let role = cluster.nodes[node].text("ROLE").await;
        role.contains("slave")
    })
    .await;
    let again = publish(&mut publisher, ROOMS[0], 9).await;
    assert_eq!((&again["epoch"], &again["offset"]), (&now[0], &json!(2)));
    assert_eq!(readiness(&stack.gateway_url).await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_gateway_finds_the_cluster_by_any_node_that_answers() {
    let cluster = RedisCluster::start(3, false).await;
    let last = cluster.nodes[2].address();
    // Nothing listens on the port of discard.
    let url = format!("redis+cluster://127.0.0.1:9,{last}");
    let stack = Stack::start_with(options(&cluster).gateway("cluster.url", url)).await;
    ready(&stack.gateway_url).await;
    let nowhere = options(&cluster).gateway("cluster.url", "redis+cluster://127.0.0.1:9");
    let stack = Stack::start_with(nowhere).await;
    assert_eq!(readiness(&stack.gateway_url).await["status"], "degraded");
    assert!(is_unavailable(&mut member(&stack).await, ROOMS[0]).await);
}
