//! What back ends send and read: who hears it, how much of it one answer carries, and how binary data
//! reads.

use harness::{
    Opening, Options,
    api::{ALL_SCOPES, WithApi},
    eventually, free_address,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::metrics::{shown, stack_with_admin};

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_is_not_for_whoever_has_yet_to_say_who_they_are() {
    let options = Options::default().gateway("auth.deferred", true);
    let api = WithApi::start_with(options).await;
    let mut nobody_yet = Opening::of(&api.stack).session().await;
    let admitted = nobody_yet.connect(&json!({})).await;
    admitted.expect("let in for now");
    let mut alice = api.user("alice").await;
    let broadcast = async |data: u32| {
        let body = json!({"event": "maintenance", "data": data});
        api.post("/v1/broadcast", body).await.ok()["sockets"].clone()
    };
    assert_eq!(broadcast(1).await, 1);
    assert_eq!(alice.event().await[1], 1);

    let token = api.stack.forge().claim("sub", "bob").token();
    let answer = nobody_yet.call("authenticate", json!({ "token": token }));
    assert_eq!(answer.await["ok"], true);
    let mut bob = nobody_yet;
    assert_eq!(broadcast(2).await, 2);
    assert_eq!(bob.event().await, json!(["authenticated"]));
    assert_eq!(bob.event().await[1], 2);
    assert_eq!(alice.event().await[1], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_is_for_guests_too() {
    let options = Options::default().gateway("auth.anonymous", true);
    let api = WithApi::start_with(options).await;
    let mut guest = Opening::of(&api.stack).session().await;
    guest.connect(&json!({})).await.expect("a guest");
    let body = json!({"event": "maintenance"});
    let answer = api.post("/v1/broadcast", body).await.ok();
    assert_eq!(answer["sockets"], 1);
    let event = guest.event().await;
    assert_eq!(
        (&event[0], &event[1]),
        (&json!("maintenance"), &Value::Null)
    );
    // A guest is a connection and nobody's.
    let listed = api.get("/v1/connections").await.ok();
    assert_eq!(listed["count"], 1);
    assert_eq!(listed["connections"][0].get("sub"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_reads_as_base64_in_its_places() {
    let api = WithApi::start().await;
    let mut alice = api.user("alice").await;
    let placeholder = |number: u32| json!({"_placeholder": true, "num": number});
    let data = json!({"name": "a", "parts": [placeholder(1), 7, placeholder(0)]});
    let payload = json!({"room": "lobby", "event": "image", "data": data});
    let packet = json!(["rt:publish", payload]);
    alice.send(format!("452-1{packet}")).await;
    alice.send_binary(&[0xFB, 0xFF]).await;
    alice.send_binary(b"second").await;
    assert_eq!(alice.acknowledgement(1).await["ok"], true);
    let history = api.get("/v1/rooms/lobby/history").await.ok();
    assert_eq!(
        history["messages"][0]["data"],
        json!({"name": "a", "parts": [{"base64": "c2Vjb25k"}, 7, {"base64": "+/8="}]})
    );

    // What a back end sends is JSON, whatever it looks like, but for what clients would look for.
    alice.subscribe("lobby").await;
    let image = |data: &Value| json!({"room": "lobby", "event": "image", "data": data});
    let data = json!({"base64": "c2Vjb25k"});
    api.post("/v1/publish", image(&data)).await.ok();
    assert_eq!(alice.event().await[1], data);
    let refused = api.post("/v1/publish", image(&placeholder(0))).await;
    assert_eq!(refused.code(), "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_finds_what_was_done_under_its_key() {
    let api = WithApi::start().await;
    let mut alice = api.user("alice").await;
    let bearer = format!("Bearer {}", api.back_end(ALL_SCOPES).token());
    let ask = async || {
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "1")];
        let body = json!({"event": "question", "ack": true, "timeout_ms": 15_000});
        api.call_with(Method::POST, "/v1/users/alice/emit", &headers, Some(body))
            .await
    };
    let packet = tokio::select! {
        packet = alice.packet() => packet,
        _ = ask() => panic!("answered before the client has"),
    };
    assert_eq!(ask().await.code(), "still_running");
    let (number, _) = packet[2..].split_once('[').expect("an event");
    alice.send(format!("43{number}[\"yes\"]")).await;
    eventually("the answer", || async {
        ask().await.status == StatusCode::OK
    })
    .await;
    let acks = &ask().await.ok()["acks"];
    assert_eq!(acks[0]["answer"], json!(["yes"]));
    // It was asked once.
    api.post("/v1/users/alice/emit", json!({"event": "notice"}))
        .await
        .ok();
    assert_eq!(alice.event().await[0], "notice");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_answering_is_not_waited_for() {
    let api = WithApi::start().await;
    // By Socket.IO and by Engine.IO.
    for leave in ["41", "1"] {
        let mut alice = api.user("alice").await;
        let leaving = async {
            assert!(alice.packet().await.contains("question"));
            alice.send(leave).await;
        };
        let body = json!({"event": "question", "ack": true, "timeout_ms": 15_000});
        let (answer, ()) = tokio::join!(api.post("/v1/users/alice/emit", body), leaving);
        let answer = answer.ok();
        assert_eq!(answer["acks"][0]["error"], "gone", "{leave}");
        // It was asked, so it counts.
        assert_eq!(answer["sockets"], 1, "{leave}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_too_long_an_answer_to_be_kept_is_done_once_all_the_same() {
    let api = WithApi::start().await;
    for (name, length, again) in [
        ("alice", 60_000, Ok(StatusCode::OK)),
        ("bob", 70_000, Err("answer_not_kept")),
    ] {
        let mut user = api.user(name).await;
        let path = format!("/v1/users/{name}/emit");
        let bearer = format!("Bearer {}", api.back_end(ALL_SCOPES).token());
        let ask = async || {
            let headers = [
                ("authorization", bearer.as_str()),
                ("idempotency-key", name),
            ];
            let body = json!({"event": "question", "ack": true, "timeout_ms": 15_000});
            api.call_with(Method::POST, &path, &headers, Some(body))
                .await
        };
        let answering = async {
            let packet = user.packet().await;
            let (number, _) = packet[2..].split_once('[').expect("an event");
            let answer = "x".repeat(length);
            user.send(format!("43{number}[\"{answer}\"]")).await;
        };
        let (answer, ()) = tokio::join!(ask(), answering);
        let answer = answer.ok()["acks"][0]["answer"][0].take();
        assert_eq!(answer.as_str().map(str::len), Some(length), "{name}");
        let repeated = ask().await;
        match again {
            Ok(status) => assert_eq!(repeated.status, status),
            Err(code) => assert_eq!(repeated.code(), code),
        }
        // It was asked once.
        api.post(&path, json!({"event": "notice"})).await.ok();
        assert_eq!(user.event().await[0], "notice", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_are_read_page_by_page() {
    let api = WithApi::start().await;
    let mut sockets = Vec::new();
    for sub in ["a", "b", "c"] {
        let mut socket = api.user(sub).await;
        socket.subscribe(&format!("user:{sub}")).await;
        sockets.push(socket);
    }
    for (path, list, key) in [
        ("/v1/rooms", "rooms", "room"),
        ("/v1/connections", "connections", "connection"),
    ] {
        let first = api.get(&format!("{path}?limit=2")).await.ok();
        let next = first["next"].as_str().expect("a next page");
        let second = api.get(&format!("{path}?limit=2&after={next}")).await.ok();
        assert_eq!(second.get("next"), None, "{path}");
        let of = |page: &Value| page[list].as_array().expect(list).clone();
        let all = [of(&first), of(&second)].concat();
        let whole = api.get(path).await.ok();
        assert_eq!((all.len(), &all), (3, &of(&whole)), "{path}");
        assert_eq!(all[1][key], next, "{path}");
    }
    // What is kept is read on from a message, the oldest first.
    for n in 1..=3 {
        let body = json!({"room": "lobby", "event": "news", "data": n});
        api.post("/v1/publish", body).await.ok();
    }
    let last = api.get("/v1/rooms/lobby/history?limit=1").await.ok();
    assert_eq!(last["messages"][0]["data"], 3);
    let epoch = last["epoch"].as_str().expect("an epoch");
    let mut said = Vec::new();
    for offset in 0..3 {
        let path = format!("/v1/rooms/lobby/history?limit=1&epoch={epoch}&offset={offset}");
        let page = api.get(&path).await.ok();
        assert_eq!(page["recovered"], true);
        assert_eq!(page["more"], offset < 2);
        said.push(page["messages"][0]["data"].clone());
    }
    assert_eq!(said, [1, 2, 3]);
}

/// Asks a client for an acknowledgement, which has one attachment, and returns what the back end gets.
async fn acknowledged_with(api: &WithApi, arguments: Value) -> Value {
    let mut alice = api.user("alice").await;
    let answering = async {
        let packet = alice.packet().await;
        let id = packet["42".len()..].split_once('[').expect("an event").0;
        alice.send(format!("461-{id}{arguments}")).await;
        alice.send_binary(&[1, 2]).await;
    };
    let body = json!({"event": "question", "ack": true, "timeout_ms": 15_000});
    let (answered, ()) = tokio::join!(api.post("/v1/users/alice/emit", body), answering);
    answered.ok()["acks"][0].clone()
}

fn place(number: u32) -> Value {
    json!({"_placeholder": true, "num": number})
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_of_an_acknowledgement_comes_as_base64() {
    let api = WithApi::start().await;
    let ack = acknowledged_with(&api, json!([{"a": [place(0), 1, null]}, "b"])).await;
    let answer = json!([{"a": [{"base64": "AQI="}, 1, null]}, "b"]);
    assert_eq!(ack["answer"], answer, "{ack}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_with_a_place_for_nothing_is_invalid() {
    // Socketioxide puts the next attachment into every place.
    let api = WithApi::start_with(Options::default().gateway("carrier", "engine")).await;
    let ack = acknowledged_with(&api, json!([place(3)])).await;
    assert_eq!(ack["error"], "invalid", "{ack}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_back_ends_do_is_counted() {
    let address = free_address();
    let options = Options::default()
        .gateway("api.listen", address.as_str())
        .gateway("api.requests_burst", 1)
        .gateway("api.requests_per_sec", 1);
    let (stack, admin) = stack_with_admin(options).await;
    let api = WithApi::around(stack, &address).await;
    let mut alice = api.user("alice").await;
    alice.subscribe("lobby").await;
    let post = async |sub: &str, path: &str, body: Value| {
        let token = api.back_end(ALL_SCOPES).claim("sub", sub).token();
        api.call(Method::POST, path, &token, Some(body)).await
    };
    let news = json!({"room": "lobby", "event": "news"});
    post("client:one", "/v1/publish", news).await.ok();
    eventually("too many requests", || async {
        api.get("/v1/rooms").await.status == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    let alone = json!({"sub": "alice"});
    post("client:another", "/v1/disconnect", alone).await.ok();
    let lines = [
        "messages_published_total 1",
        "messages_delivered_total 1",
        r#"limited_total{limit="api_requests_per_sec"} 1"#,
        r#"sessions_closed_total{cause="disconnected"} 1"#,
    ];
    shown(&api.stack, &admin, &lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_text_is_a_bad_request_like_any_other() {
    let api = WithApi::start_with(Options::default().gateway("api.docs", true)).await;
    for path in [
        "/v1/rooms/%FF/presence",
        "/v1/rooms/%FF/history",
        "/v1/rooms/a%80b/presence",
        "/docs/%FF",
    ] {
        assert_eq!(api.get(path).await.code(), "invalid_request", "{path}");
    }
    let event = json!({"event": "note", "data": null});
    let answer = api.post("/v1/users/%FF/emit", event.clone()).await;
    assert_eq!(answer.code(), "invalid_request");
    api.get("/v1/rooms/%C3%A5/presence").await.ok();
    assert_eq!(api.get("/docs/%C3%A5").await.code(), "not_found");
    api.post("/v1/users/%C3%A5/emit", event).await.ok();
}
