//! `rt:subscribe`, `rt:unsubscribe` and `rt:publish`: the shapes of answers and messages, and what
//! is denied.

use harness::{Opening, Stack, WebSocket, forge::now_secs};
use serde_json::{Value, json};

/// The members of an object, by name.
fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// `answer` is a refusal with `code`, in the shape that all have; `room` when it is about one.
#[track_caller]
fn assert_error(what: &str, answer: &Value, code: &str, room: Option<&str>) {
    assert_eq!(members(answer), ["error", "ok"], "{what}: {answer}");
    assert_eq!(answer["ok"], false, "{what}");
    let error = &answer["error"];
    assert_eq!(error["code"], code, "{what}: {error}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{what}: {error}"
    );
    assert_eq!(error["retryable"], false, "{what}: {error}");
    assert_eq!(
        error.get("room").and_then(Value::as_str),
        room,
        "{what}: {error}"
    );
}

async fn member(stack: &Stack) -> WebSocket {
    let mut socket = Opening::of(stack).admitted(&stack.forge().token()).await;
    socket.subscribe("lobby").await;
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_tells_where_the_room_stands_and_what_one_can_do() {
    let stack = Stack::start().await;
    let mut first = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let answer = first.call("rt:subscribe", json!({"room": "lobby"})).await;
    assert_eq!(members(&answer), ["can", "epoch", "offset", "ok", "room"]);
    assert_eq!(
        (&answer["ok"], &answer["room"]),
        (&json!(true), &json!("lobby"))
    );
    assert_eq!(
        (&answer["offset"], &answer["can"]),
        (&json!(0), &json!(["sub", "pub", "hst", "prs"]))
    );
    assert!(
        answer["epoch"]
            .as_str()
            .is_some_and(|epoch| !epoch.is_empty()),
        "{answer}"
    );

    first.publish("lobby", json!(1)).await;
    let mut second = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let later = second.subscribe("lobby").await;
    assert_eq!(
        (&later["epoch"], &later["offset"]),
        (&answer["epoch"], &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_comes_with_its_place_its_time_and_its_sender() {
    let stack = Stack::start().await;
    let mut subscriber = member(&stack).await;
    let forge = stack.forge().claim("name", "Ada Lovelace");
    let mut publisher = Opening::of(&stack).admitted(&forge.token()).await;
    let data = json!({"text": "naïve \"quotes\" \u{1F511}", "n": 1.5, "list": [null, true]});
    let payload = json!({"room": "lobby", "event": "chat:message", "data": data, "id": "m-1"});
    let answer = publisher.call("rt:publish", payload).await;
    assert_eq!(members(&answer), ["epoch", "id", "offset", "ok"]);
    assert_eq!(
        (&answer["ok"], &answer["id"], &answer["offset"]),
        (&json!(true), &json!("m-1"), &json!(1))
    );

    let event = subscriber.event().await;
    let [name, received, meta] = &event.as_array().expect("an event")[..] else {
        panic!("not a message and its meta: {event}")
    };
    assert_eq!((name, received), (&json!("chat:message"), &data));
    assert_eq!(
        members(meta),
        ["epoch", "from", "id", "offset", "room", "ts"]
    );
    assert_eq!(
        (&meta["room"], &meta["id"]),
        (&json!("lobby"), &json!("m-1"))
    );
    assert_eq!(
        (&meta["epoch"], &meta["offset"]),
        (&answer["epoch"], &answer["offset"])
    );
    assert_eq!(meta["from"]["sub"], forge.text_of("sub"));
    assert_eq!(meta["from"]["name"], "Ada Lovelace");
    let age = now_secs().abs_diff(meta["ts"].as_u64().expect("milliseconds") / 1000);
    assert!(age <= 5, "{meta}");

    // Without an id of the publisher's there is one all the same, and data may be left out.
    let answer = publisher
        .call("rt:publish", json!({"room": "lobby", "event": "chat"}))
        .await;
    let event = subscriber.event().await;
    assert_eq!((&event[1], &event[2]["id"]), (&Value::Null, &answer["id"]));
    assert!(
        answer["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_left_a_room_hears_nothing_of_it() {
    let stack = Stack::start().await;
    let (mut leaver, mut member) = (member(&stack).await, member(&stack).await);
    assert_eq!(
        leaver
            .call("rt:unsubscribe", json!({"room": "lobby"}))
            .await,
        json!({"ok": true})
    );
    let room = "lobby";
    member.publish(room, json!("gone")).await;
    assert_eq!(member.event().await[1], "gone");
    // Leaving twice, or a room one never was in, is no failure.
    assert_eq!(
        leaver.call("rt:unsubscribe", json!({ "room": room })).await["ok"],
        true
    );
    leaver.subscribe(room).await;
    member.publish(room, json!("back")).await;
    assert_eq!(leaver.event().await[1], "back");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lobby_and_ones_own_room_are_open_and_every_other_is_not() {
    let stack = Stack::start().await;
    let subs = ["u_1", "auth0|5f7c", "a:b", "**"];
    let own = ["user:u_1", "user:auth0%7C5f7c", "user:a%3Ab", "user:%2A%2A"];
    for (sub, own) in subs.into_iter().zip(own) {
        let token = stack.forge().claim("sub", sub).token();
        let mut socket = Opening::of(&stack).admitted(&token).await;
        for room in ["lobby", own] {
            socket.subscribe(room).await;
            socket.publish(room, json!(sub)).await;
            assert_eq!(socket.event().await[1], sub);
        }
        let foreign = [
            "user:u_2",
            "user:a:b",
            "user",
            "user:u_1:x",
            "Lobby",
            "lobby:x",
            "secret",
            "org:acme:a",
        ];
        for room in foreign.into_iter().chain([&own[..own.len() - 1]]) {
            let answer = socket.call("rt:subscribe", json!({ "room": room })).await;
            assert_error(room, &answer, "forbidden", Some(room));
            let publish = json!({"room": room, "event": "message", "data": 1});
            assert_error(
                room,
                &socket.call("rt:publish", publish).await,
                "forbidden",
                Some(room),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_name_of_a_room_is_told_so() {
    let stack = Stack::start().await;
    let mut socket = member(&stack).await;
    let long = "a".repeat(256);
    for room in [
        json!(""),
        json!("*"),
        json!("**"),
        json!("user:*"),
        json!("user:**"),
        json!("user:{sub}"),
        json!(":"),
        json!("lobby:"),
        json!("a\0"),
        json!("a\nb"),
        json!("a\u{202E}b"),
        json!(long),
        json!(1),
        json!(null),
        json!(["lobby"]),
        json!({"name": "lobby"}),
    ] {
        for event in ["rt:subscribe", "rt:unsubscribe"] {
            let answer = socket.call(event, json!({ "room": room })).await;
            assert_error(&room.to_string(), &answer, "invalid_room", None);
        }
        let publish = json!({"room": room, "event": "message", "data": 1});
        assert_error(
            &room.to_string(),
            &socket.call("rt:publish", publish).await,
            "invalid_room",
            None,
        );
    }
    socket.publish("lobby", json!("fine")).await;
    assert_eq!(socket.event().await[1], "fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_of_another_shape_is_refused_and_enters_no_room() {
    let stack = Stack::start().await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    for (name, value) in [
        ("since", json!({"epoch": "e"})),
        ("since", json!({"epoch": "e", "offset": -1})),
        ("since", json!(["e", 1])),
        ("history", json!("10")),
        ("presence", json!(true)),
        ("presence", json!("everybody")),
    ] {
        let answer = socket
            .call("rt:subscribe", json!({"room": "lobby", name: value}))
            .await;
        assert_error(name, &answer, "invalid_request", None);
    }
    let mut other = member(&stack).await;
    other.publish("lobby", json!("unheard")).await;
    socket.subscribe("lobby").await;
    other.publish("lobby", json!("heard")).await;
    assert_eq!(socket.event().await[1], "heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_clients_keep_for_themselves_cannot_be_published() {
    let stack = Stack::start().await;
    let mut subscriber = member(&stack).await;
    let mut publisher = Opening::of(&stack).admitted(&stack.forge().token()).await;
    for event in [
        "rt:expiring",
        "rt:anything",
        "rt:",
        "authenticate",
        "authenticated",
        "unauthorized",
        "connect",
        "connecting",
        "connect_error",
        "connect_timeout",
        "disconnect",
        "disconnecting",
        "error",
        "ping",
        "pong",
        "reconnect",
        "reconnecting",
        "reconnect_attempt",
        "reconnect_error",
        "reconnect_failed",
        "newListener",
        "removeListener",
    ] {
        let payload = json!({"room": "lobby", "event": event, "data": {"message": "jwt expired"}});
        let answer = publisher.call("rt:publish", payload).await;
        assert_error(event, &answer, "invalid_event", Some("lobby"));
    }
    for event in [
        "rt",
        "connected",
        "disconnect_me",
        "errors",
        "pinged",
        "message",
    ] {
        let payload = json!({"room": "lobby", "event": event, "data": 1});
        assert_eq!(
            publisher.call("rt:publish", payload).await["ok"],
            true,
            "{event}"
        );
        assert_eq!(subscriber.event().await[0], event);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_another_shape_is_told_so_and_does_nothing() {
    let stack = Stack::start().await;
    let mut socket = member(&stack).await;
    for payload in [
        json!("lobby"),
        json!(null),
        json!([]),
        json!(["lobby", "message", 1, null]),
        json!({}),
        json!(1),
        json!({"room": "lobby"}),
        json!({"room": "lobby", "event": 1}),
        json!({"room": "lobby", "event": "message", "data": [{"_placeholder": true, "num": 0}]}),
        json!({"room": "lobby", "event": null, "data": 1}),
        json!({"event": "message", "data": 1}),
        json!({"room": "lobby", "event": "message", "data": 1, "id": 1}),
        json!({"room": "lobby", "event": "message", "data": 1, "to": "bob"}),
        json!({"room": "lobby", "event": "message", "data": 1, "from": {"sub": "alice"}}),
    ] {
        let answer = socket.call("rt:publish", payload.clone()).await;
        assert_error(&payload.to_string(), &answer, "invalid_request", None);
    }
    for packet in [
        "421[\"rt:publish\"]",
        "421[\"rt:publish\",{\"room\":\"lobby\",\"event\":\"message\"},2]",
    ] {
        socket.send(packet).await;
        assert_error(
            packet,
            &socket.acknowledgement(1).await,
            "invalid_request",
            None,
        );
    }
    let answer = socket.call("rt:unknown", json!({"room": "lobby"})).await;
    assert_error("rt:unknown", &answer, "unknown_event", None);
    let answer = socket.call("message", json!("to everybody")).await;
    assert_error("message", &answer, "unknown_event", None);
    socket.publish("lobby", json!("fine")).await;
    assert_eq!(socket.event().await[1], "fine");
}
