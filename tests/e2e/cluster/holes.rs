//! The channel may lose a message: the next one is not delivered before the log was read.

use harness::{Redis, WebSocket};
use serde_json::{Value, json};

use super::{member, member_of, options, pair, publish_numbers};

/// Gives an offset to a message of which no gateway hears; `is_kept` says whether the log has it.
async fn lose_message(redis: &Redis, data: &str, is_kept: bool) {
    let log = "latchkey:{lobby}:log";
    let offset = redis.command(&format!("HINCRBY {log} offset 1")).await;
    let offset = offset.strip_prefix(':').expect("an offset").to_owned();
    if is_kept {
        let head = json!({
            "event": "message", "id": "lost", "ts": 1, "from": {"sub": "alice"}, "data": data.len(),
        });
        let head = head.to_string().replace('"', "\\\"");
        let size = head.len() + 1 + data.len();
        // Later than any test.
        let added = redis
            .command(&format!(
                "XADD latchkey:{{lobby}}:messages {offset}-1 at 9000000000000 size {size} \
                 message \"{head}\\n{data}\""
            ))
            .await;
        assert!(added.starts_with('$'), "{added}");
    }
}

async fn expect_message(subscriber: &mut WebSocket, data: u64, offset: u64) {
    let event = subscriber.event().await;
    assert_eq!(
        (&event[0], &event[1], &event[2]["offset"]),
        (&json!("message"), &json!(data), &json!(offset))
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_message_that_the_channel_lost_is_delivered_before_the_next_one() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let mut subscribers = [member(&stack).await, member_of(&stack, &other).await];
    for subscriber in &mut subscribers {
        subscriber.subscribe("lobby").await;
    }
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..1).await;
    lose_message(&redis, "7", true).await;
    publish_numbers(&mut publisher, 1..3).await;
    for subscriber in &mut subscribers {
        for (data, offset) in [(0, 1), (7, 2), (1, 3), (2, 4)] {
            expect_message(subscriber, data, offset).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_message_that_the_log_lost_too_is_announced_as_a_gap() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let mut subscribers = [member(&stack).await, member_of(&stack, &other).await];
    let mut epoch = Value::Null;
    for subscriber in &mut subscribers {
        epoch = subscriber.subscribe("lobby").await["epoch"].clone();
    }
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..1).await;
    lose_message(&redis, "7", false).await;
    publish_numbers(&mut publisher, 1..3).await;
    for subscriber in &mut subscribers {
        expect_message(subscriber, 0, 1).await;
        let gap = subscriber.event().await;
        let expected = json!({"room": "lobby", "epoch": epoch, "from": 2, "to": 2});
        assert_eq!((&gap[0], &gap[1]), (&json!("rt:gap"), &expected));
        expect_message(subscriber, 1, 3).await;
        expect_message(subscriber, 2, 4).await;
    }
}
