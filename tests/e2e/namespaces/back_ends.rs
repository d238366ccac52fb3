//! The back ends of a namespace: calls, decisions, admission and lifecycle events.

use harness::{CalledBackEnd, Opening, Stack, called::answer, eventually};
use serde_json::{Value, json};

use super::{open_rooms, options};

/// Answers each event by its namespace: the answer joins and publishes there.
async fn shop(event: Value) -> axum::response::Response {
    match event["type"].as_str().expect("a type") {
        "latchkey.client.event" => answer(json!({
            "ack": [event["namespace"]],
            "actions": [
                { "join": { "room": "desk:7" } },
                { "publish": { "room": "desk:7", "event": "placed", "data": event["namespace"] } },
                { "emit": { "event": "told", "args": [1] } },
            ],
        })),
        "latchkey.client.connect" if event["subject"] == "mallory" => {
            answer(json!({ "allow": false }))
        }
        "latchkey.client.connect" => answer(json!({ "allow": true, "rooms": ["desk:9"] })),
        "latchkey.room.authorize" => answer(json!({ "allow": event["data"]["room"] == "desk:1" })),
        _ => answer(json!({})),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_take_the_routes_of_their_namespace_and_actions_stay_in_it() {
    let back_end = CalledBackEnd::start(shop).await;
    let events = json!([{ "events": ["order:*"], "backend": "shop", "mode": "call" }]);
    let namespaces = json!([
        { "name": "/admin", "rooms": open_rooms(), "events": events },
        { "name": "/plain", "rooms": open_rooms() },
    ]);
    let options = options(namespaces).gateway("backends", json!([back_end.settings("shop")]));
    let stack = Stack::start_with(options).await;
    let token = stack.forge().token();
    let mut socket = Opening::of(&stack).admitted(&token).await;
    for namespace in ["/admin", "/plain"] {
        socket.connect_to(namespace, &token).await.expect(namespace);
    }
    let unknown = socket.call("order:place", json!(1)).await;
    assert_eq!(unknown["error"]["code"], "unknown_event");
    let unknown = socket.call_in("/plain", "order:place", json!(1)).await;
    assert_eq!(unknown["error"]["code"], "unknown_event");
    assert!(back_end.requests().is_empty());
    assert_eq!(
        socket.call_in("/admin", "order:place", json!(1)).await,
        "/admin"
    );
    assert_eq!(back_end.requests()[0].event["namespace"], "/admin");
    let placed = socket.event_in("/admin").await;
    assert_eq!(
        (&placed[0], &placed[1]),
        (&json!("placed"), &json!("/admin"))
    );
    assert_eq!(socket.event_in("/admin").await, json!(["told", 1]));
    let reading = json!({ "room": "desk:7", "limit": 9 });
    for (namespace, count) in [("/admin", 1), ("/plain", 0)] {
        let answer = socket
            .call_in(namespace, "rt:history", reading.clone())
            .await;
        assert_eq!(
            answer["messages"].as_array().map(Vec::len),
            Some(count),
            "{namespace}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_asks_its_own_back_ends_about_clients_and_rooms() {
    let back_end = CalledBackEnd::start(shop).await;
    let asks = json!([
        { "rooms": ["lobby"], "actions": ["sub"] },
        { "rooms": ["desk:*"], "actions": ["sub"], "authorize": "backend", "backend": "shop" },
    ]);
    let namespaces = json!([{ "name": "/admin", "rooms": asks, "connect": { "backend": "shop" } }]);
    // The back end must answer within the time that a client without an admitted socket has.
    let mut shop = back_end.settings("shop");
    shop["timeout_ms"] = json!(5000);
    let options = options(namespaces)
        .gateway("backends", json!([shop]))
        .gateway("rooms", open_rooms());
    let stack = Stack::start_with(options).await;
    let mallory = stack.forge().claim("sub", "mallory").token();
    let mut socket = Opening::of(&stack).admitted(&mallory).await;
    assert!(back_end.requests().is_empty());
    let refusal = socket
        .connect_to("/admin", &mallory)
        .await
        .expect_err("refused");
    assert_eq!(refusal.0["data"]["reason"], "refused_by_back_end");
    let alice = stack.forge().claim("sub", "alice").token();
    let mut socket = Opening::of(&stack).admitted(&alice).await;
    socket.connect_to("/admin", &alice).await.expect("admitted");
    for request in back_end.requests() {
        assert_eq!(request.event["namespace"], "/admin");
    }
    let entering = |room: &str| json!({ "room": room });
    for (room, is_allowed) in [("desk:1", true), ("desk:2", false)] {
        let answer = socket
            .call_in("/admin", "rt:subscribe", entering(room))
            .await;
        assert_eq!(answer["ok"], is_allowed, "{room}: {answer}");
        let asked = back_end.requests().pop().expect("a question").event;
        assert_eq!(asked["type"], "latchkey.room.authorize");
        assert_eq!(
            (&asked["namespace"], &asked["data"]["room"]),
            (&json!("/admin"), &json!(room))
        );
    }
    let asked = back_end.requests().len();
    assert_eq!(
        socket.call("rt:subscribe", entering("desk:2")).await["ok"],
        true
    );
    // The room that the back end named is one of the namespace.
    socket
        .call(
            "rt:publish",
            json!({ "room": "desk:9", "event": "message", "data": "no" }),
        )
        .await;
    let shown = socket.call("rt:presence", entering("desk:9")).await;
    assert_eq!(shown["connections"], 0, "{shown}");
    assert_eq!(back_end.requests().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_events_are_those_of_their_namespace_and_name_it() {
    let (main, admin) = (
        CalledBackEnd::start(shop).await,
        CalledBackEnd::start(shop).await,
    );
    let types = [
        "connection.opened",
        "room.occupied",
        "message.published",
        "room.vacated",
        "connection.closed",
    ];
    let rule = |name: &str| json!([{ "backend": name, "types": types, "rooms": ["**"] }]);
    let namespaces =
        json!([{ "name": "/admin", "rooms": open_rooms(), "lifecycle": rule("admin") }]);
    let options = options(namespaces)
        .gateway(
            "backends",
            json!([main.settings("main"), admin.settings("admin")]),
        )
        .gateway("lifecycle", rule("main"));
    let stack = Stack::start_with(options).await;
    let forge = stack.forge();
    let mut socket = super::in_both(&stack, &forge.token()).await;
    for namespace in ["/admin", "/"] {
        let entering = json!({ "room": "lobby" });
        socket
            .call_in(namespace, "rt:subscribe", entering.clone())
            .await;
        socket
            .call_in(namespace, "rt:publish", super::say("hello"))
            .await;
        socket.call_in(namespace, "rt:unsubscribe", entering).await;
    }
    drop(socket);
    for (back_end, namespace) in [(&main, "/"), (&admin, "/admin")] {
        eventually("the events", async || {
            back_end.requests().len() >= types.len()
        })
        .await;
        let mut told = Vec::new();
        for request in back_end.requests() {
            let event = request.event;
            assert_eq!(event["namespace"], namespace, "{event}");
            told.push(
                event["type"]
                    .as_str()
                    .expect("a type")
                    .replace("latchkey.", ""),
            );
        }
        told.sort_unstable();
        let mut expected = types.map(str::to_owned);
        expected.sort_unstable();
        assert_eq!(told, expected, "{namespace}");
    }
}
