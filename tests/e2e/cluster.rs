//! Several gateways and one Redis: a client does not see which gateway it is on, and whatever happens to
//! Redis, a subscriber has every message in order or is told.

use harness::{Gateway, Opening, Options, Redis, Stack, WebSocket, eventually};
use serde_json::{Value, json};

mod access;
mod away;
mod commands;
mod counters;
mod holes;
mod limits;
mod presence;
mod revocations;
mod sentinels;
mod sharded;

const MESSAGES: usize = 200;

fn options(redis: &Redis) -> Options {
    Options::default()
        .gateway("cluster.url", redis.url())
        .gateway("cluster.timeout_ms", 500)
}

/// Two gateways of one Redis.
async fn pair(options: Options) -> (Stack, Gateway) {
    let stack = Stack::start_with(options).await;
    let other = stack.start_gateway().await;
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    (stack, other)
}

/// Waits until a gateway says that it can do everything.
pub(crate) async fn ready(url: &str) {
    eventually("a gateway that is ready", async || {
        readiness(url).await["status"] == "ok"
    })
    .await;
}

async fn readiness(url: &str) -> Value {
    let answer = reqwest::get(format!("{url}/health/ready")).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), reqwest::StatusCode::OK);
    answer.json().await.expect("JSON")
}

/// A member of another gateway than the stack's first one.
async fn member_of(stack: &Stack, gateway: &Gateway) -> WebSocket {
    let opening = Opening::of(stack).at(gateway.address);
    opening.admitted(&stack.forge().token()).await
}

async fn member(stack: &Stack) -> WebSocket {
    Opening::of(stack).admitted(&stack.forge().token()).await
}

fn said(answer: &Value) -> Vec<Value> {
    let messages = answer["messages"].as_array().expect("messages");
    let data = messages.iter().map(|message| message["data"].clone());
    data.collect()
}

fn since(answer: &Value) -> Value {
    json!({"epoch": answer["epoch"], "offset": answer["offset"]})
}

/// Publishes numbers, and returns the last answer.
async fn publish_numbers(publisher: &mut WebSocket, numbers: std::ops::Range<usize>) -> Value {
    let mut last = Value::Null;
    for number in numbers {
        let payload = json!({"room": "lobby", "event": "message", "data": number});
        last = publisher.call("rt:publish", payload).await;
        assert_eq!(last["ok"], true, "{last}");
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn every_gateway_delivers_the_messages_of_all_in_one_order() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let third = stack.start_gateway().await;
    ready(&third.url).await;
    let mut subscribers = [
        member(&stack).await,
        member_of(&stack, &other).await,
        member_of(&stack, &third).await,
    ];
    let mut epochs = Vec::new();
    for subscriber in &mut subscribers {
        epochs.push(subscriber.subscribe("lobby").await["epoch"].clone());
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let (mut one, mut two) = (member(&stack).await, member_of(&stack, &other).await);
    let publishing = async {
        tokio::join!(
            publish_numbers(&mut one, 0..MESSAGES),
            publish_numbers(&mut two, MESSAGES..2 * MESSAGES),
        )
    };
    let hearing = async {
        let mut heard: Vec<Vec<Value>> = Vec::new();
        for subscriber in &mut subscribers {
            let mut data = Vec::new();
            for offset in 1..=2 * MESSAGES {
                let event = subscriber.event().await;
                assert_eq!(event[2]["offset"], offset, "{event}");
                assert_eq!(event[2]["epoch"], epochs[0]);
                data.push(event[1].clone());
            }
            heard.push(data);
        }
        heard
    };
    let (_, heard) = tokio::join!(publishing, hearing);
    assert_eq!(heard[0], heard[1]);
    assert_eq!(heard[0], heard[2]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn an_id_is_known_on_every_gateway() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let token = stack.forge().token();
    let mut one = Opening::of(&stack).admitted(&token).await;
    let mut two = Opening::of(&stack).at(other.address).admitted(&token).await;
    let mut somebody = Opening::of(&stack)
        .at(other.address)
        .admitted(&stack.forge().claim("sub", "somebody").token())
        .await;
    let payload = json!({"room": "lobby", "event": "message", "data": 1, "id": "order-7"});
    let first = one.call("rt:publish", payload.clone()).await;
    let again = two.call("rt:publish", payload.clone()).await;
    assert_eq!(
        (&first["ok"], &first["duplicate"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(again["duplicate"], true, "{again}");
    assert_eq!(since(&again), since(&first));
    // Of another user it is another id.
    let other = somebody.call("rt:publish", payload).await;
    assert_eq!(
        (&other["duplicate"], &other["offset"]),
        (&Value::Null, &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn who_comes_back_to_another_gateway_gets_what_was_missed() {
    let redis = Redis::start().await;
    let options = options(&redis).gateway("history.messages", 5);
    let (stack, other) = pair(options).await;
    let mut first = member(&stack).await;
    let left = first.subscribe("lobby").await;
    drop(first);
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..5).await;

    let mut back = member_of(&stack, &other).await;
    let payload = json!({"room": "lobby", "since": since(&left)});
    let answer = back.call("rt:subscribe", payload.clone()).await;
    assert_eq!(answer["recovered"], true, "{answer}");
    assert_eq!(said(&answer), [0, 1, 2, 3, 4].map(|number| json!(number)));
    publish_numbers(&mut publisher, 5..6).await;
    let event = back.event().await;
    assert_eq!((&event[1], &event[2]["offset"]), (&json!(5), &json!(6)));

    // One more than is kept.
    let mut late = member_of(&stack, &other).await;
    let answer = late.call("rt:subscribe", payload).await;
    assert_eq!(answer["recovered"], false, "{answer}");
    let payload = json!({"room": "lobby", "limit": 2});
    let history = late.call("rt:history", payload).await;
    assert_eq!(said(&history), [json!(4), json!(5)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn binary_data_and_rooms_without_history_cross_gateways_in_order() {
    let redis = Redis::start().await;
    let options = options(&redis).gateway("history.messages", 0);
    let (stack, other) = pair(options).await;
    let mut subscriber = member_of(&stack, &other).await;
    subscriber.subscribe("lobby").await;
    let mut publisher = member(&stack).await;
    publish_numbers(&mut publisher, 0..MESSAGES).await;
    for number in 0..MESSAGES {
        let event = subscriber.event().await;
        assert_eq!(
            (&event[1], &event[2]["offset"]),
            (&json!(number), &json!(number + 1))
        );
    }
    let payload =
        json!({"room": "lobby", "event": "file", "data": {"_placeholder": true, "num": 0}});
    publisher
        .send(format!("451-7{}", json!(["rt:publish", payload])))
        .await;
    publisher.send_binary(&[0, 10, 255]).await;
    let packet = subscriber.packet().await;
    assert!(
        packet.starts_with(r#"451-["file",{"_placeholder":true,"num":0},"#),
        "{packet}"
    );
    assert_eq!(subscriber.binary().await, [0, 10, 255]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn clusters_with_other_prefixes_do_not_hear_of_each_other() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let apart = Stack::start_with(options(&redis).gateway("cluster.prefix", "apart")).await;
    ready(&apart.gateway_url).await;
    let mut outside = member(&apart).await;
    outside.subscribe("lobby").await;
    let mut inside = member_of(&stack, &other).await;
    inside.subscribe("lobby").await;
    publish_numbers(&mut member(&stack).await, 0..1).await;
    assert_eq!(inside.event().await[1], 0);
    // The first that it hears is its own.
    publish_numbers(&mut member(&apart).await, 7..8).await;
    let event = outside.event().await;
    assert_eq!((&event[1], &event[2]["offset"]), (&json!(7), &json!(1)));
}
