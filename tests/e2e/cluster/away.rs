//! Redis is taken away in several ways, and comes back.

use harness::{Options, Redis, Stack, WebSocket, eventually};
use serde_json::{Value, json};

use super::{MESSAGES, member, member_of, options, pair, publish_numbers, readiness, ready, since};

pub(super) async fn degraded(url: &str) {
    eventually("a gateway that is degraded", async || {
        readiness(url).await["status"] == "degraded"
    })
    .await;
}

/// The next event of a room, which has to be the notice of a new epoch.
pub(super) async fn new_epoch(subscriber: &mut WebSocket, before: &Value) -> Value {
    let event = subscriber.event().await;
    assert_eq!(
        (&event[0], &event[1]["room"]),
        (&json!("rt:gap"), &json!("lobby"))
    );
    assert_ne!(event[1]["epoch"], *before, "{event}");
    event[1].clone()
}

/// Publishes a number until it is accepted, and returns the answer.
pub(super) async fn publish_until_accepted(publisher: &mut WebSocket, number: u64) -> Value {
    let payload = json!({
        "room": "lobby", "event": "message", "data": number, "id": number.to_string(),
    });
    let mut answer = Value::Null;
    eventually("a publish that is accepted", async || {
        answer = publisher.call("rt:publish", payload.clone()).await;
        answer["ok"] == true
    })
    .await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn while_redis_is_stopped_publishing_is_unavailable_and_all_else_goes_on() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let mut subscriber = member_of(&stack, &other).await;
    let place = subscriber.subscribe("lobby").await;
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..1).await;
    assert_eq!(subscriber.event().await[1], 0);

    redis.pause();
    degraded(&stack.gateway_url).await;
    degraded(&other.url).await;
    let payload = json!({"room": "lobby", "event": "message", "data": 1});
    let answer = publisher.call("rt:publish", payload).await;
    let error = &answer["error"];
    assert_eq!(
        (&answer["ok"], &error["code"]),
        (&json!(false), &json!("unavailable"))
    );
    assert_eq!(error["retryable"], true);
    assert!(error["retry_after_ms"].as_u64() > Some(0), "{error}");
    // A client of a room that the gateway knows, and of one that it does not know.
    let mut late = member_of(&stack, &other).await;
    let payload = json!({"room": "lobby", "since": since(&place)});
    let answer = late.call("rt:subscribe", payload).await;
    assert_eq!(
        (&answer["ok"], &answer["recovered"]),
        (&json!(true), &json!(false))
    );
    let mut stranger = member(&stack).await;
    let stranger_place = stranger.subscribe("lobby").await;

    redis.go_on();
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    let accepted = publish_until_accepted(&mut publisher, 2).await;
    assert_eq!(accepted["epoch"], place["epoch"], "nothing was lost");
    for member in [&mut subscriber, &mut late] {
        let event = member.event().await;
        assert_eq!(
            (&event[1], &event[2]["offset"]),
            (&json!(2), &accepted["offset"])
        );
    }
    // Nobody on this gateway knew the epoch before: the stranger learns of it.
    let gap = new_epoch(&mut stranger, &stranger_place["epoch"]).await;
    assert_eq!(gap["epoch"], place["epoch"]);
    assert_eq!(stranger.event().await[1], 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_connection_that_is_cut_loses_no_message() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis).gateway("history.messages", 1000)).await;
    let mut subscriber = member_of(&stack, &other).await;
    let place = subscriber.subscribe("lobby").await;
    let mut publisher = member(&stack).await;
    let publishing = async {
        for number in 0..MESSAGES as u64 {
            if number % 20 == 10 {
                // All connections but this one, those that listen to channels included.
                for kind in ["normal", "pubsub"] {
                    let killed = redis.command(&format!("CLIENT KILL TYPE {kind}")).await;
                    assert!(killed.starts_with(':'), "{killed}");
                }
            }
            publish_until_accepted(&mut publisher, number).await;
        }
    };
    let hearing = async {
        for number in 0..MESSAGES {
            let event = subscriber.event().await;
            assert_eq!(
                (&event[1], &event[2]["offset"]),
                (&json!(number), &json!(number + 1))
            );
            assert_eq!(event[2]["epoch"], place["epoch"]);
        }
    };
    tokio::join!(publishing, hearing);
}

/// A loss is told to everybody, on every gateway, and the room goes on in another epoch.
pub(super) async fn everybody_is_told(stack: &Stack, members: &mut [WebSocket], epoch: &Value) {
    let mut epochs = Vec::new();
    for member in members.iter_mut() {
        let gap = new_epoch(member, epoch).await;
        assert_eq!((&gap["from"], &gap["to"]), (&json!(1), &json!(0)));
        epochs.push(gap["epoch"].clone());
    }
    assert!(epochs.iter().all(|it| *it == epochs[0]), "{epochs:?}");
    let mut publisher = member(stack).await;
    let accepted = publish_until_accepted(&mut publisher, 7).await;
    assert_eq!(
        (&accepted["epoch"], &accepted["offset"]),
        (&epochs[0], &json!(1))
    );
    for member in members {
        let event = member.event().await;
        assert_eq!((&event[1], &event[2]["offset"]), (&json!(7), &json!(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_redis_that_was_killed_begins_a_new_epoch_and_everybody_is_told() {
    let mut redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
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
    redis.kill().await;
    degraded(&stack.gateway_url).await;
    degraded(&other.url).await;
    redis.restart().await;
    everybody_is_told(&stack, &mut members, &place["epoch"]).await;
    let mut back = member_of(&stack, &other).await;
    let payload = json!({"room": "lobby", "since": since(&place)});
    let answer = back.call("rt:subscribe", payload).await;
    assert_eq!(answer["recovered"], false, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_redis_that_comes_back_with_older_data_gives_no_offset_twice() {
    let mut redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let mut members = [member(&stack).await, member_of(&stack, &other).await];
    let mut place = Value::Null;
    for member in &mut members {
        place = member.subscribe("lobby").await;
    }
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..3).await;
    assert_eq!(redis.command("SAVE").await, "+OK");
    publish_numbers(&mut publisher, 3..5).await;
    for member in &mut members {
        for number in 0..5 {
            assert_eq!(member.event().await[1], number);
        }
    }
    redis.kill().await;
    degraded(&stack.gateway_url).await;
    redis.restart().await;
    everybody_is_told(&stack, &mut members, &place["epoch"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn deleted_data_begins_a_new_epoch_and_everybody_is_told() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let mut members = [member(&stack).await, member_of(&stack, &other).await];
    let mut place = Value::Null;
    for member in &mut members {
        place = member.subscribe("lobby").await;
    }
    assert_eq!(redis.command("FLUSHALL").await, "+OK");
    everybody_is_told(&stack, &mut members, &place["epoch"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn by_setting_a_gateway_goes_on_alone_and_says_so() {
    let redis = Redis::start().await;
    let alone: Options = options(&redis).gateway("cluster.while_away", "local");
    let (stack, other) = pair(alone).await;
    let mut here = member(&stack).await;
    let place = here.subscribe("lobby").await;
    let mut there = member_of(&stack, &other).await;
    there.subscribe("lobby").await;
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..2).await;
    for number in 0..2 {
        assert_eq!(here.event().await[1], number);
        assert_eq!(there.event().await[1], number);
    }

    redis.pause();
    degraded(&stack.gateway_url).await;
    let accepted = publish_until_accepted(&mut publisher, 7).await;
    let gap = new_epoch(&mut here, &place["epoch"]).await;
    assert_eq!(gap["epoch"], accepted["epoch"]);
    let event = here.event().await;
    assert_eq!((&event[1], &event[2]["epoch"]), (&json!(7), &gap["epoch"]));

    redis.go_on();
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    // The epoch in Redis goes on where it was left.
    let gap = new_epoch(&mut here, &gap["epoch"]).await;
    assert_eq!(
        gap,
        json!({"room": "lobby", "epoch": place["epoch"], "from": 3, "to": 2})
    );
    publish_until_accepted(&mut publisher, 8).await;
    for member in [&mut here, &mut there] {
        let event = member.event().await;
        assert_eq!((&event[1], &event[2]["offset"]), (&json!(8), &json!(3)));
    }
}
