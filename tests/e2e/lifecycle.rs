//! Lifecycle events: back ends are told what happened to connections, rooms, messages and sessions.

mod adopted;
mod killed;
mod queue;

use std::time::Duration;

use harness::{
    CalledBackEnd, Opening, Options, Redis, Stack, api::WithApi, called::answer, eventually,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    cluster::ready,
    revocation::{logout_of, post},
};

/// A back end that takes every event.
async fn back_end() -> CalledBackEnd {
    CalledBackEnd::start(async |_| answer(json!({}))).await
}

/// A stack whose back end is sent events of these types, for rooms `chat:*`.
fn options(shop: &CalledBackEnd, types: &[&str]) -> Options {
    let is_of_room = |one: &&str| one.starts_with("room") || one.starts_with("message");
    let mut rule = json!({ "backend": "shop", "types": types });
    if types.iter().any(is_of_room) {
        rule["rooms"] = json!(["chat:*"]);
    }
    Options::default()
        .gateway("backends", json!([shop.settings("shop")]))
        .gateway("lifecycle", json!([rule]))
}

/// The events that were sent, in their order.
fn events(shop: &CalledBackEnd) -> Vec<Value> {
    let requests = shop.requests().into_iter();
    requests.map(|request| request.event).collect()
}

/// Waits for `count` events, and returns them.
async fn wait_for(shop: &CalledBackEnd, count: usize) -> Vec<Value> {
    eventually("the events", async || shop.requests().len() >= count).await;
    let events = events(shop);
    assert_eq!(events.len(), count, "{events:#?}");
    events
}

fn type_of(event: &Value) -> &str {
    let name = event["type"].as_str().expect("a type");
    name.strip_prefix("latchkey.").expect("a type of ours")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_told_of_when_it_opens_and_when_it_closes() {
    let shop = back_end().await;
    let types = ["connection.opened", "connection.closed"];
    let stack = Stack::start_with(options(&shop, &types)).await;
    let forge = stack.forge().claim("name", "Alice");
    let token = forge.token();
    let alice = Opening::of(&stack).admitted(&token).await;
    // CONNECT was confirmed after the event was stored.
    let opened = wait_for(&shop, 1).await.remove(0);
    assert_eq!(type_of(&opened), "connection.opened");
    assert_eq!(opened["subject"], forge.text_of("sub"));
    assert_eq!(opened["session"], forge.text_of("sid"));
    assert_eq!(opened["issuer"], stack.issuer_url.as_str());
    assert_eq!(opened["namespace"], "/");
    assert_eq!(opened["data"]["claims"]["name"], "Alice");
    drop(alice);
    let closed = wait_for(&shop, 2).await.remove(1);
    assert_eq!(type_of(&closed), "connection.closed");
    for attribute in ["subject", "session", "issuer", "namespace", "connection"] {
        assert_eq!(closed[attribute], opened[attribute], "{attribute}");
    }
    assert_eq!(closed["data"]["cause"], "client");
    assert_eq!(closed["data"]["since"], opened["time"]);
    let requests = shop.requests();
    for request in &requests {
        assert_eq!(request.header("webhook-id"), request.event["id"]);
        let kind = request.header("content-type");
        assert!(kind.starts_with("application/cloudevents+json"), "{kind}");
        assert!(!request.has_token(&token), "the token does not travel");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connection_has_its_cause() {
    let shop = back_end().await;
    let stack = Stack::start_with(options(&shop, &["connection.closed"])).await;
    let forge = stack.forge();
    let mut revoked = Opening::of(&stack).admitted(&forge.token()).await;
    let answer = post(&stack, &logout_of(&forge).token()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    revoked.closed().await;
    let brief = stack.forge().expires_in(1).token();
    let mut expired = Opening::of(&stack).admitted(&brief).await;
    expired.closed().await;
    let mut leaving = Opening::of(&stack).admitted(&stack.forge().token()).await;
    leaving.send("41").await;
    let causes = |events: &[Value]| {
        let causes = events.iter().map(|event| &event["data"]["cause"]);
        let mut causes: Vec<_> = causes.map(|one| one.as_str().expect("a cause")).collect();
        causes.sort_unstable();
        causes.join(" ")
    };
    let told = wait_for(&shop, 3).await;
    assert_eq!(causes(&told), "client expired revoked");
    // A refused client was never there.
    let mut refused = Opening::of(&stack).session().await;
    let token = json!({ "token": forge.token() });
    assert!(refused.connect(&token).await.is_err());
    let mut last = Opening::of(&stack).admitted(&stack.forge().token()).await;
    last.send("41").await;
    assert_eq!(
        causes(&wait_for(&shop, 4).await),
        "client client expired revoked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shutdown_closes_is_told_by_the_next_gateway() {
    let shop = back_end().await;
    let mut stack = Stack::start_with(options(&shop, &["connection.closed"])).await;
    let _alice = Opening::of(&stack).admitted(&stack.forge().token()).await;
    stack.restart_gateway().await;
    let closed = wait_for(&shop, 1).await.remove(0);
    assert_eq!(closed["data"]["cause"], "drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_told_of_once_it_has_authenticated() {
    let shop = back_end().await;
    let types = ["connection.opened", "connection.closed"];
    let options = options(&shop, &types).gateway("auth.deferred", true);
    let stack = Stack::start_with(options).await;
    let mut stranger = Opening::of(&stack).session().await;
    stranger.connect_with("").await.expect("a guest");
    drop(stranger);
    let forge = stack.forge();
    let mut guest = Opening::of(&stack).session().await;
    guest.connect_with("").await.expect("a guest");
    let token = json!({ "token": forge.token() });
    let answer = guest.call("authenticate", token.clone()).await;
    assert_eq!(answer["ok"], true, "{answer}");
    guest.call("authenticate", token).await;
    drop(guest);
    let told = wait_for(&shop, 2).await;
    for (event, expected) in told.iter().zip(types) {
        assert_eq!(type_of(event), expected);
        assert_eq!(event["subject"], forge.text_of("sub"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_told_of_from_its_first_connection_to_its_last() {
    let shop = back_end().await;
    let types = ["room.occupied", "room.vacated"];
    let stack = Stack::start_with(options(&shop, &types)).await;
    let detail = json!([{"type": "realtime", "actions": ["sub"], "rooms": ["chat:*", "other"]}]);
    let token = stack.forge().claim("authorization_details", detail).token();
    let mut one = Opening::of(&stack).admitted(&token).await;
    let mut two = Opening::of(&stack).admitted(&token).await;
    one.subscribe("other").await;
    one.subscribe("chat:1").await;
    two.subscribe("chat:1").await;
    two.subscribe("chat:2").await;
    one.call("rt:unsubscribe", json!({ "room": "chat:1" }))
        .await;
    drop(one);
    two.call("rt:unsubscribe", json!({ "room": "chat:1" }))
        .await;
    two.subscribe("chat:1").await;
    let told = wait_for(&shop, 4).await;
    let of = |room: &str| {
        let events = told.iter().filter(|event| event["room"] == room);
        events.map(type_of).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("chat:1"), "room.occupied room.vacated room.occupied");
    assert_eq!(of("chat:2"), "room.occupied");
    let vacated = told.iter().find(|event| type_of(event) == "room.vacated");
    assert_eq!(vacated.expect("one")["data"]["cause"], "left");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_listed_rooms_are_told_in_the_order_of_their_offsets() {
    const MESSAGES: usize = 40;

    let shop = back_end().await;
    let stack = Stack::start_with(options(&shop, &["message.published"])).await;
    let detail = json!([{"type": "realtime", "actions": ["pub"], "rooms": ["chat:*", "other"]}]);
    let forge = stack.forge().claim("authorization_details", detail);
    let token = forge.token();
    let publish = async |numbers: std::ops::Range<usize>| {
        let mut socket = Opening::of(&stack).admitted(&token).await;
        for number in numbers {
            let answer = socket.publish("chat:1", json!(number)).await;
            assert_eq!(answer["ok"], true, "{answer}");
        }
        socket
    };
    let half = MESSAGES / 2;
    let (mut socket, _) = tokio::join!(publish(0..half), publish(half..MESSAGES));
    socket.publish("other", json!("untold")).await;
    let told = wait_for(&shop, MESSAGES).await;
    assert!(!shop.requests().iter().any(|one| one.has_token(&token)));
    let offsets = told.iter().map(|event| event["data"]["offset"].as_u64());
    let expected = (1..=MESSAGES as u64).map(Some);
    assert!(offsets.eq(expected), "{told:#?}");
    assert_eq!(told[0]["room"], "chat:1");
    assert_eq!(told[0]["data"]["from"]["sub"], forge.text_of("sub"));
    assert_eq!(type_of(&told[0]), "message.published");
    // An id that was published before is no further message.
    for _ in 0..2 {
        let payload = json!({"room": "chat:2", "event": "message", "data": 1, "id": "a"});
        socket.call("rt:publish", payload).await;
    }
    socket.publish("chat:2", json!(2)).await;
    let told = wait_for(&shop, MESSAGES + 2).await;
    assert_eq!(told[MESSAGES]["data"]["id"], "a");
    assert_eq!(told[MESSAGES + 1]["data"]["data"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_told_under_one_id_however_often_the_issuer_posts_it() {
    let shop = back_end().await;
    let stack = Stack::start_with(options(&shop, &["session.revoked"])).await;
    let forge = stack.forge();
    let _alice = Opening::of(&stack).admitted(&forge.token()).await;
    let logout = logout_of(&forge).token();
    // A repetition is no further event while the first one is in the queue.
    eventually("the event and its repetition", async || {
        assert_eq!(post(&stack, &logout).await.status(), StatusCode::OK);
        shop.requests().len() >= 2
    })
    .await;
    let by_subject = stack.forge();
    let logout = by_subject.clone().logout(&["sub"]).token();
    assert_eq!(post(&stack, &logout).await.status(), StatusCode::OK);
    let of = |forge: &harness::Forge| {
        let mut told = events(&shop);
        told.retain(|event| event["subject"] == forge.text_of("sub"));
        told
    };
    eventually("the other event", async || !of(&by_subject).is_empty()).await;
    let told = of(&forge);
    assert_eq!(told[0]["session"], forge.text_of("sid"));
    assert_eq!(told[0]["issuer"], stack.issuer_url.as_str());
    assert!(told.iter().all(|event| event["id"] == told[0]["id"]));
    let other = &of(&by_subject)[0];
    assert_eq!(other.get("session"), None, "{other}");
    assert_ne!(other["id"], told[0]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_acknowledged_once_its_event_is_on_the_disk() {
    let shop = back_end().await;
    let types = ["session.revoked", "connection.opened"];
    let stack = Stack::start_with(options(&shop, &types)).await;
    let _bob = Opening::of(&stack).admitted(&stack.forge().token()).await;
    wait_for(&shop, 1).await;
    let other = rusqlite::Connection::open(stack.webhooks_file()).expect("the file");
    let fails = "CREATE TRIGGER fails BEFORE INSERT ON events
        BEGIN SELECT RAISE(ABORT, 'as on a full disk'); END";
    other.execute_batch(fails).expect("a trigger");
    // A connection is served all the same.
    let forge = stack.forge();
    let _alice = Opening::of(&stack).admitted(&forge.token()).await;
    let logout = logout_of(&forge).token();
    let status = post(&stack, &logout).await.status();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    other.execute_batch("DROP TRIGGER fails").expect("dropped");
    assert_eq!(post(&stack, &logout).await.status(), StatusCode::OK);
    let told = wait_for(&shop, 2).await;
    assert_eq!(type_of(&told[1]), "session.revoked");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn in_a_cluster_a_repeated_id_tells_the_message_that_subscribers_have() {
    let redis = Redis::start().await;
    let shop = back_end().await;
    let options = options(&shop, &["message.published"]).gateway("cluster.url", redis.url());
    let stack = Stack::start_with(options).await;
    ready(&stack.gateway_url).await;
    let detail = json!([{"type": "realtime", "actions": ["sub", "pub"], "rooms": ["chat:*"]}]);
    let forge = stack.forge().claim("authorization_details", detail);
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    for data in ["first", "second"] {
        let payload = json!({"room": "chat:1", "event": "message", "data": data, "id": "a"});
        let answer = socket.call("rt:publish", payload).await;
        assert_eq!(
            (&answer["ok"], &answer["offset"]),
            (&json!(true), &json!(1))
        );
    }
    // The repetition may be told too, since the gateway that took the message may have been killed.
    socket.publish("chat:1", json!("last")).await;
    eventually("the last message", async || {
        events(&shop)
            .iter()
            .any(|event| event["data"]["offset"] == 2)
    })
    .await;
    let told = events(&shop);
    let repeated: Vec<_> = told
        .iter()
        .filter(|one| one["data"]["offset"] == 1)
        .collect();
    assert!(repeated.iter().all(|one| one["id"] == repeated[0]["id"]));
    assert!(
        repeated.iter().all(|one| one["data"]["data"] == "first"),
        "{told:#?}"
    );
    assert!(!repeated.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn in_a_cluster_a_message_is_told_although_its_back_end_has_hung_up() {
    let redis = Redis::start().await;
    let shop = back_end().await;
    let options = options(&shop, &["message.published"]).gateway("cluster.url", redis.url());
    let api = WithApi::start_with(options).await;
    ready(&api.stack.gateway_url).await;
    let message = json!({ "room": "chat:1", "event": "message", "data": 1 });
    redis.pause();
    let answer = tokio::time::timeout(
        Duration::from_millis(200),
        api.post("/v1/publish", message.clone()),
    );
    assert!(answer.await.is_err(), "Redis answers nothing");
    redis.go_on();
    let told = wait_for(&shop, 1).await;
    assert_eq!(told[0]["data"]["offset"], 1);
    // Its twin, which waits for the answer.
    api.post("/v1/publish", message).await.ok();
    wait_for(&shop, 2).await;
}
