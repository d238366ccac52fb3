//! Namespaces of the settings: each has rooms, rules and limits of its own, and one connection is in several.

mod access;
mod back_ends;
mod cluster;
mod requests;

use harness::{Opening, Options, SocketClient, Stack, WebSocket, client::Credential};
use serde_json::{Value, json};

/// All actions in the lobby of a namespace, and in its rooms `desk:*`.
fn open_rooms() -> Value {
    json!([{ "rooms": ["lobby", "desk:*"], "actions": ["sub", "pub", "hst", "prs"] }])
}

/// A stack with these namespaces.
fn options(namespaces: Value) -> Options {
    Options::default()
        .gateway("carrier", "engine")
        .gateway("namespaces", namespaces)
}

/// A stack with the namespace `/admin`, which is open to every token, and the same rooms in the main one.
pub(crate) fn with_admin() -> Options {
    options(json!([{ "name": "/admin", "rooms": open_rooms() }])).gateway("rooms", open_rooms())
}

/// A socket in the main namespace and in `/admin`.
async fn in_both(stack: &Stack, token: &str) -> WebSocket {
    let mut socket = Opening::of(stack).admitted(token).await;
    let admitted = socket.connect_to("/admin", token).await;
    admitted.expect("a token that is accepted");
    socket
}

fn say(text: &str) -> Value {
    json!({ "room": "lobby", "event": "message", "data": text, "id": "1" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_one_namespace_is_unknown_in_another() {
    let stack = Stack::start_with(with_admin()).await;
    let mut socket = in_both(&stack, &stack.forge().token()).await;
    let entering = json!({ "room": "lobby", "presence": "full" });
    let main = socket.call("rt:subscribe", entering.clone()).await;
    let admin = socket.call_in("/admin", "rt:subscribe", entering).await;
    for answer in [&main, &admin] {
        assert_eq!(
            (&answer["ok"], &answer["offset"]),
            (&json!(true), &json!(0))
        );
        assert_eq!(answer["presence"]["connections"], 1, "{answer}");
    }
    assert_ne!(main["epoch"], admin["epoch"]);
    // An id is a repeated one in its own namespace alone.
    let said = socket.call_in("/admin", "rt:publish", say("secret")).await;
    assert_eq!(
        (&said["offset"], &said["duplicate"]),
        (&json!(1), &json!(null))
    );
    let event = socket.event_in("/admin").await;
    assert_eq!(
        (&event[1], &event[2]["room"]),
        (&json!("secret"), &json!("lobby"))
    );
    let said = socket.call("rt:publish", say("hello")).await;
    assert_eq!(
        (&said["offset"], &said["duplicate"]),
        (&json!(1), &json!(null))
    );
    assert_eq!(socket.event().await[1], "hello");
    let again = socket.call_in("/admin", "rt:publish", say("again")).await;
    assert_eq!(again["duplicate"], true);
    let reading = json!({ "room": "lobby", "limit": 10 });
    let main = socket.call("rt:history", reading.clone()).await;
    let admin = socket.call_in("/admin", "rt:history", reading).await;
    for (answer, text) in [(main, "hello"), (admin, "secret")] {
        let messages = answer["messages"].as_array().expect("messages");
        assert_eq!(messages.len(), 1, "{answer}");
        assert_eq!(messages[0]["data"], text);
    }
    let left = json!({ "room": "lobby" });
    assert_eq!(
        socket.call_in("/admin", "rt:unsubscribe", left).await["ok"],
        true
    );
    socket
        .call_in(
            "/admin",
            "rt:publish",
            json!({ "room": "lobby", "event": "message" }),
        )
        .await;
    socket
        .call(
            "rt:publish",
            json!({ "room": "lobby", "event": "message", "data": 2 }),
        )
        .await;
    assert_eq!(socket.event().await[1], 2, "it is in the lobby of `/`");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_of_a_token_and_of_other_namespaces_open_no_room_of_a_namespace() {
    let namespaces =
        json!([{ "name": "/admin", "rooms": [{ "rooms": ["lobby"], "actions": ["sub"] }] }]);
    let stack = Stack::start_with(options(namespaces)).await;
    let details = json!([{ "type": "realtime", "actions": ["sub"], "rooms": ["desk:7"] }]);
    let forge = stack.forge().claim("authorization_details", details);
    let mut socket = in_both(&stack, &forge.token()).await;
    let own = format!("user:{}", forge.text_of("sub"));
    for room in ["desk:7", &own] {
        let entering = json!({ "room": room });
        let main = socket.call("rt:subscribe", entering.clone()).await;
        assert_eq!(main["ok"], true, "{main}");
        let admin = socket.call_in("/admin", "rt:subscribe", entering).await;
        assert_eq!(admin["error"]["code"], "forbidden", "{admin}");
    }
    let lobby = json!({ "room": "lobby" });
    let admin = socket.call_in("/admin", "rt:subscribe", lobby).await;
    assert_eq!(admin["ok"], true, "{admin}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_meet_in_a_namespace_with_a_stock_client() {
    let stack = Stack::start_with(with_admin()).await;
    let connect = async |name: &str, namespace: &str| {
        let credential = Credential::Auth(json!(stack.login(name).await));
        let client = SocketClient::connect_to(&stack.gateway_url, namespace, credential);
        client.await.expect("a token that is accepted")
    };
    let mut alice = connect("alice", "/admin").await;
    let mut bob = connect("bob", "/admin").await;
    let mut outside = connect("bob", "/").await;
    for client in [&mut alice, &mut outside] {
        let answer = client
            .call("rt:subscribe", json!({ "room": "lobby" }))
            .await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let answer = bob.call("rt:publish", say("in the namespace")).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let (name, arguments) = alice.event().await;
    assert_eq!(
        (&*name, &arguments[0]),
        ("message", &json!("in the namespace"))
    );
    outside.call("rt:publish", say("outside")).await;
    let (_, arguments) = outside.event().await;
    assert_eq!(
        arguments[0], "outside",
        "nothing of the namespace came before"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_left_takes_no_other_along() {
    let stack = Stack::start_with(with_admin()).await;
    let token = stack.forge().token();
    let mut socket = in_both(&stack, &token).await;
    socket.subscribe("lobby").await;
    socket
        .call_in("/admin", "rt:subscribe", json!({ "room": "lobby" }))
        .await;
    socket.send("41/admin,").await;
    socket.publish("lobby", json!("still here")).await;
    assert_eq!(socket.event().await[1], "still here");
    // Its place is free again, and nothing is left of the room that it was in.
    socket
        .connect_to("/admin", &token)
        .await
        .expect("admitted again");
    let shown = socket
        .call_in("/admin", "rt:presence", json!({ "room": "lobby" }))
        .await;
    assert_eq!(shown["connections"], 0, "{shown}");
    socket.send("41").await;
    let said = socket
        .call_in("/admin", "rt:publish", say("without `/`"))
        .await;
    assert_eq!(said["ok"], true, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_version_2_enters_a_namespace() {
    let stack = Stack::start_with(with_admin()).await;
    let token = stack.forge().token();
    let mut socket = Opening::of(&stack).admitted_by_query(&token).await;
    socket.send("40/admin?x=y").await;
    assert_eq!(socket.packet().await, "40/admin,");
    let answer = socket
        .call_in("/admin", "rt:subscribe", json!({ "room": "lobby" }))
        .await;
    assert_eq!(answer["ok"], true, "{answer}");
    socket.send("40/other").await;
    assert_eq!(socket.packet().await, "44/other,\"Invalid namespace\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_arrives_in_its_namespace() {
    let stack = Stack::start_with(with_admin()).await;
    let mut socket = in_both(&stack, &stack.forge().token()).await;
    socket
        .call_in("/admin", "rt:subscribe", json!({ "room": "lobby" }))
        .await;
    socket
        .send(r#"451-/admin,["rt:publish",{"room":"lobby","event":"image","data":{"_placeholder":true,"num":0}}]"#)
        .await;
    socket.send_binary(&[0, 255]).await;
    let packet = socket.packet().await;
    assert!(
        packet.starts_with(r#"451-/admin,["image",{"_placeholder":true,"num":0}"#),
        "{packet}"
    );
    assert_eq!(socket.binary().await, [0, 255]);
}
