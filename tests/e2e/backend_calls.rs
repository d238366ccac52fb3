//! Events of clients that a back end answers: what it is sent, and what its answer does.

use std::sync::Arc;

use harness::{CalledBackEnd, Opening, Options, Stack, WebSocket, called::answer, eventually};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::metrics::{stack_with_admin, value};

/// A user's socket, with the user's token.
async fn socket(stack: &Stack, name: &str) -> (WebSocket, String) {
    let token = stack.login(name).await;
    (Opening::of(stack).admitted(&token).await, token)
}

/// The arguments of the acknowledgement of event 1.
async fn ack(socket: &mut WebSocket) -> Value {
    let packet = socket.packet().await;
    let body = packet
        .strip_prefix("431")
        .unwrap_or_else(|| panic!("{packet}"));
    serde_json::from_str(body).expect("JSON")
}

async fn emit(socket: &mut WebSocket, event: &Value) {
    socket.send(format!("421{event}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_posted_as_a_cloud_event_and_the_response_is_its_acknowledgement() {
    let shop =
        CalledBackEnd::start(async |_| answer(json!({ "ack": ["placed", { "n": 7 }] }))).await;
    let stack = Stack::start_with(shop.options()).await;
    let (mut alice, token) = socket(&stack, "alice").await;
    emit(
        &mut alice,
        &json!(["shop:order:place", { "item": "tea" }, 2]),
    )
    .await;
    assert_eq!(ack(&mut alice).await, json!(["placed", { "n": 7 }]));
    let requests = shop.requests();
    let [request] = &requests[..] else {
        panic!("{requests:?}");
    };
    let event = &request.event;
    let claims = &event["data"]["claims"];
    for (attribute, expected) in [
        ("specversion", json!("1.0")),
        ("type", json!("latchkey.client.event")),
        ("source", json!("urn:latchkey:realtime")),
        ("datacontenttype", json!("application/json")),
        ("id", json!(request.header("webhook-id"))),
        ("event", json!("shop:order:place")),
        ("namespace", json!("/")),
        ("issuer", json!(stack.issuer_url)),
        ("subject", claims["sub"].clone()),
        ("session", claims["sid"].clone()),
    ] {
        assert_eq!(event[attribute], expected, "{attribute}");
        assert!(expected.is_string(), "{attribute}");
    }
    assert!(event["connection"].as_str().is_some_and(|id| id.len() > 20));
    let time = event["time"].as_str().expect("a text");
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(event["data"]["args"], json!([{ "item": "tea" }, 2]));
    assert!(claims["exp"].is_u64());
    assert_eq!(
        request.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    // The claims travel, and the token does not.
    assert!(!request.has_token(&token));
    let mut twin = request.clone();
    let bearer = format!("Bearer {token}").parse().expect("a header");
    twin.headers.insert("authorization", bearer);
    assert!(twin.has_token(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_route_are_unknown_and_nobody_is_asked() {
    let shop = CalledBackEnd::start(async |_| answer(json!({}))).await;
    let stack = Stack::start_with(shop.options()).await;
    let (mut alice, _) = socket(&stack, "alice").await;
    for event in ["shopping", "shop", "order:place"] {
        let answer = alice.call(event, json!(1)).await;
        assert_eq!(answer["error"]["code"], "unknown_event", "{event}");
    }
    assert!(shop.requests().is_empty());
    // An empty answer acknowledges without arguments.
    emit(&mut alice, &json!(["shop:order"])).await;
    assert_eq!(ack(&mut alice).await, json!([]));
    assert_eq!(shop.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_travels_both_ways() {
    let shop = CalledBackEnd::start(async |event: Value| {
        let place = json!({ "_placeholder": true, "num": 0 });
        let same = event["data"]["attachments"].clone();
        answer(json!({ "ack": ["got", { "image": place }], "attachments": same }))
    })
    .await;
    let stack = Stack::start_with(shop.options()).await;
    let (mut alice, _) = socket(&stack, "alice").await;
    alice
        .send(r#"451-1["shop:image",{"a":{"_placeholder":true,"num":0}}]"#)
        .await;
    alice.send_binary(&[0, 1, 254, 255]).await;
    let packet = alice.packet().await;
    assert_eq!(
        packet,
        r#"461-1["got",{"image":{"_placeholder":true,"num":0}}]"#
    );
    assert_eq!(alice.binary().await, [0, 1, 254, 255]);
    let event = &shop.requests()[0].event;
    assert_eq!(
        event["data"]["args"],
        json!([{ "a": { "_placeholder": true, "num": 0 } }])
    );
    assert_eq!(event["data"]["attachments"], json!(["AAH+/w=="]));
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_done_in_their_order_before_the_acknowledgement() {
    let shop = CalledBackEnd::start(async |_| {
        let publish =
            |n: u32| json!({ "publish": { "room": "order:7", "event": "news", "data": n } });
        answer(json!({
            "actions": [
                publish(1),
                { "join": { "room": "order:7" } },
                publish(2),
                { "emit": { "event": "told", "args": [3, "b"] } },
                { "leave": { "room": "order:7" } },
                publish(4),
                { "emit": { "event": "bare" } },
            ],
            "ack": [5],
        }))
    })
    .await;
    let stack = Stack::start_with(shop.options()).await;
    let (mut alice, _) = socket(&stack, "alice").await;
    emit(&mut alice, &json!(["shop:order"])).await;
    let news = alice.event().await;
    assert_eq!((&news[0], &news[1]), (&json!("news"), &json!(2)));
    assert_eq!(news[2]["from"], json!({ "sub": "backend:shop" }));
    assert_eq!(alice.event().await, json!(["told", 3, "b"]));
    assert_eq!(alice.event().await, json!(["bare"]));
    assert_eq!(ack(&mut alice).await, json!([5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_others_is_done_although_the_caller_has_gone() {
    let publish = json!({ "room": "lobby", "event": "news", "data": 1 });
    let actions = json!([
        { "join": { "room": "order:7" } },
        { "emit": { "event": "told" } },
        { "leave": { "room": "order:8" } },
        { "publish": publish },
    ]);
    let (shop, gate) = CalledBackEnd::start_gated(json!({ "actions": actions })).await;
    let (stack, admin) = stack_with_admin(shop.options()).await;
    let (mut bob, _) = socket(&stack, "bob").await;
    bob.subscribe("lobby").await;
    let (mut alice, _) = socket(&stack, "alice").await;
    emit(&mut alice, &json!(["shop:order"])).await;
    eventually("the call", async || shop.requests().len() == 1).await;
    drop(alice);
    let sockets = async || value(&stack, &admin, "sockets").await;
    eventually("her end", async || sockets().await == 1).await;
    gate.add_permits(1);
    assert_eq!(bob.event().await[0], "news");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_one_fault_does_nothing() {
    let shop = CalledBackEnd::start(async |event: Value| {
        let room = event["data"]["args"][0].clone();
        let told = json!({ "emit": { "event": "told" } });
        answer(json!({ "actions": [told, { "join": { "room": room } }], "ack": ["done"] }))
    })
    .await;
    let stack = Stack::start_with(shop.options()).await;
    let (mut alice, _) = socket(&stack, "alice").await;
    emit(&mut alice, &json!(["shop:enter", "no:*"])).await;
    let error = &ack(&mut alice).await[0]["error"];
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&json!("backend_failed"), &json!(false))
    );
    emit(&mut alice, &json!(["shop:enter", "yes"])).await;
    assert_eq!(alice.event().await, json!(["told"]));
    assert_eq!(ack(&mut alice).await, json!(["done"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_can_disconnect_the_caller() {
    let shop =
        CalledBackEnd::start(async |_| answer(json!({ "actions": [{ "disconnect": {} }] }))).await;
    let stack = Stack::start_with(shop.options()).await;
    let (mut alice, _) = socket(&stack, "alice").await;
    let (mut bob, _) = socket(&stack, "bob").await;
    emit(&mut alice, &json!(["shop:leave"])).await;
    assert_eq!(alice.closed().await, ["41"]);
    bob.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_one_socket_keep_their_order_and_hold_up_no_other_socket() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let shop = CalledBackEnd::start(move |event: Value| {
        let gate = gate.clone();
        async move {
            if event["event"] == "shop:slow" {
                gate.acquire().await.expect("open").forget();
            }
            answer(json!({ "ack": [event["event"]] }))
        }
    })
    .await;
    let stack = Stack::start_with(shop.options()).await;
    let (mut alice, _) = socket(&stack, "alice").await;
    let (mut bob, _) = socket(&stack, "bob").await;
    alice.send(r#"421["shop:slow"]"#).await;
    alice.send(r#"422["shop:fast"]"#).await;
    alice
        .send(r#"423["rt:unsubscribe",{"room":"lobby"}]"#)
        .await;
    eventually("the first call", async || shop.requests().len() == 1).await;
    emit(&mut bob, &json!(["shop:fast"])).await;
    assert_eq!(ack(&mut bob).await, json!(["shop:fast"]));
    assert_eq!(
        shop.requests().len(),
        2,
        "alice's second call has overtaken the first"
    );
    opened.add_permits(1);
    for expected in [
        r#"431["shop:slow"]"#,
        r#"432["shop:fast"]"#,
        r#"433[{"ok":true}]"#,
    ] {
        assert_eq!(alice.packet().await, expected);
    }
}

/// A stack whose rule for `shop:**` has further members.
fn with_rule(shop: &CalledBackEnd, more: Value) -> Options {
    let mut rule = json!({ "events": ["shop:**"], "backend": "shop", "mode": "call" });
    let members = more.as_object().expect("members").clone();
    rule.as_object_mut().expect("an object").extend(members);
    shop.options().gateway("events", json!([rule]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_needs_the_scope_and_the_claims_of_the_rule() {
    let shop = CalledBackEnd::start(async |_| answer(json!({ "ack": ["yes"] }))).await;
    for (more, is_allowed) in [
        (json!({ "claims": { "plan": "gold" } }), true),
        (json!({ "claims": { "plan": ["gold", "silver"] } }), true),
        (json!({ "claims": { "plan": "silver" } }), false),
        (json!({ "scope": "orders" }), true),
        (json!({ "scope": "order" }), false),
        (json!({ "issuers": ["https://another.example"] }), false),
        (json!({ "issuers": ["*"] }), true),
    ] {
        let stack = Stack::start_with(with_rule(&shop, more.clone())).await;
        let token = stack
            .forge()
            .claim("plan", "gold")
            .claim("scope", "read orders")
            .token();
        let mut alice = Opening::of(&stack).admitted(&token).await;
        emit(&mut alice, &json!(["shop:order"])).await;
        let answer = ack(&mut alice).await;
        match is_allowed {
            true => assert_eq!(answer, json!(["yes"]), "{more}"),
            false => assert_eq!(answer[0]["error"]["code"], "forbidden", "{more}"),
        }
    }
    assert_eq!(shop.requests().len(), 4, "only those who may");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_calls_only_what_is_open_to_guests() {
    let shop = CalledBackEnd::start(async |_| answer(json!({ "ack": ["yes"] }))).await;
    for (guests, is_allowed) in [(true, true), (false, false)] {
        let options = with_rule(&shop, json!({ "guests": guests }));
        let stack = Stack::start_with(options.gateway("auth.anonymous", true)).await;
        let mut guest = Opening::of(&stack).session().await;
        guest
            .connect(&json!({}))
            .await
            .expect("admitted as a guest");
        emit(&mut guest, &json!(["shop:order"])).await;
        let answer = ack(&mut guest).await;
        match is_allowed {
            true => assert_eq!(answer, json!(["yes"])),
            false => assert_eq!(answer[0]["error"]["code"], "forbidden"),
        }
    }
    let requests = shop.requests();
    assert_eq!(requests.len(), 1);
    let event = &requests[0].event;
    assert!(event.get("subject").is_none() && event.get("session").is_none());
    assert_eq!(event["data"]["claims"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_calls_too_often_is_told_when_to_call_again() {
    let shop = CalledBackEnd::start(async |_| answer(json!({ "ack": ["yes"] }))).await;
    let stack = Stack::start_with(with_rule(&shop, json!({ "rate": 1 }))).await;
    let (mut alice, _) = socket(&stack, "alice").await;
    let (mut again, _) = socket(&stack, "alice").await;
    let (mut bob, _) = socket(&stack, "bob").await;
    emit(&mut alice, &json!(["shop:order"])).await;
    assert_eq!(ack(&mut alice).await, json!(["yes"]));
    // The other socket of the same user counts with the first one.
    emit(&mut again, &json!(["shop:order"])).await;
    let error = &ack(&mut again).await[0]["error"];
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&json!("rate_limited"), &json!(true))
    );
    assert!(
        error["retry_after_ms"]
            .as_u64()
            .is_some_and(|wait| (1..=1001).contains(&wait))
    );
    emit(&mut bob, &json!(["shop:order"])).await;
    assert_eq!(ack(&mut bob).await, json!(["yes"]));
    eventually("the next second", async || {
        emit(&mut again, &json!(["shop:order"])).await;
        ack(&mut again).await == json!(["yes"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_a_back_end_has_opened_outlives_a_renewal() {
    let shop = CalledBackEnd::start(async |event: Value| {
        let publish = |room| json!({ "publish": { "room": room, "event": "news" } });
        let actions = match event["event"].as_str() {
            Some("shop:enter") => {
                json!([{ "join": { "room": "order:7" } }, { "join": { "room": "org:2" } }])
            }
            _ => json!([publish("org:1"), publish("org:2"), publish("order:7")]),
        };
        answer(json!({ "actions": actions, "ack": ["done"] }))
    })
    .await;
    let stack = Stack::start_with(shop.options()).await;
    let grant = json!([{ "type": "realtime", "actions": ["sub"], "rooms": ["org:1", "org:2"] }]);
    let forge = stack.forge();
    let granted = forge.clone().claim("authorization_details", grant);
    let mut alice = Opening::of(&stack).admitted(&granted.token()).await;
    let refused = alice
        .call("rt:subscribe", json!({ "room": "order:7" }))
        .await;
    assert_eq!(refused["error"]["code"], "forbidden");
    alice.subscribe("org:1").await;
    // The back end opens this one too.
    alice.subscribe("org:2").await;
    emit(&mut alice, &json!(["shop:enter"])).await;
    assert_eq!(ack(&mut alice).await, json!(["done"]));
    let next = forge.claim("jti", "next").token();
    let renewed = alice.call("authenticate", json!({ "token": next })).await;
    assert_eq!(renewed["ok"], true, "{renewed}");
    let dropped = json!(["rt:unsubscribed", { "room": "org:1", "code": "forbidden" }]);
    assert_eq!(alice.event().await, dropped);
    emit(&mut alice, &json!(["shop:tell"])).await;
    for room in ["org:2", "order:7"] {
        let news = alice.event().await;
        assert_eq!((&news[0], &news[2]["room"]), (&json!("news"), &json!(room)));
    }
    assert_eq!(ack(&mut alice).await, json!(["done"]));
}
