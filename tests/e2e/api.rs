//! The HTTP API for back ends: what it does, and for whom.

use harness::{
    Forge, Opening, Options,
    api::{ALL_SCOPES, WithApi},
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_publishes_and_reads_what_it_has_published() {
    let api = WithApi::start().await;
    let mut alice = api.user("alice").await;
    alice.subscribe("lobby").await;
    let message = json!({"room": "lobby", "event": "news", "data": {"n": 1}, "id": "one"});
    let answer = api.post("/v1/publish", message.clone()).await.ok();
    assert_eq!(
        (&answer["offset"], &answer["id"], answer.get("duplicate")),
        (&json!(1), &json!("one"), None)
    );
    let event = alice.event().await;
    assert_eq!(
        (&event[0], &event[1], &event[2]["from"]),
        (
            &json!("news"),
            &json!({"n": 1}),
            &json!({"sub": "client:worker"})
        )
    );
    // The same id again is the same message.
    let again = api.post("/v1/publish", message).await.ok();
    assert_eq!(
        (&again["offset"], &again["duplicate"]),
        (&answer["offset"], &json!(true))
    );

    let history = api.get("/v1/rooms/lobby/history").await.ok();
    let messages = history["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["data"], json!({"n": 1}));
    let since = format!(
        "/v1/rooms/lobby/history?epoch={}&offset=1",
        answer["epoch"].as_str().expect("an epoch")
    );
    let history = api.get(&since).await.ok();
    assert_eq!(
        (&history["messages"], &history["recovered"]),
        (&json!([]), &json!(true))
    );
    let presence = api.get("/v1/rooms/lobby/presence").await.ok();
    assert_eq!(
        presence,
        json!({
            "users": [{"sub": "alice", "name": "forged", "connections": 1}],
            "count": 1,
            "connections": 1,
        })
    );
    let rooms = api.get("/v1/rooms?prefix=lo").await.ok();
    assert_eq!(
        rooms,
        json!({"rooms": [{"room": "lobby", "connections": 1}]})
    );
    assert_eq!(
        api.get("/v1/rooms?prefix=x").await.ok(),
        json!({"rooms": []})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_everybody_in_whatever_room() {
    let api = WithApi::start().await;
    let (mut alice, mut bob) = (api.user("alice").await, api.user("bob").await);
    alice.subscribe("lobby").await;
    let body = json!({"event": "maintenance", "data": "soon"});
    let answer = api.post("/v1/broadcast", body).await.ok();
    assert_eq!(answer["sockets"], 2);
    for socket in [&mut alice, &mut bob] {
        let event = socket.event().await;
        assert_eq!(
            (&event[0], &event[1]),
            (&json!("maintenance"), &json!("soon"))
        );
        assert_eq!(event[2]["id"], answer["id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_of_a_user_is_asked_and_the_answers_are_gathered() {
    let api = WithApi::start().await;
    let (mut first, mut silent) = (api.user("alice").await, api.user("alice").await);
    let mut bob = api.user("bob").await;
    let answering = tokio::spawn(async move {
        let packet = first.packet().await;
        // 42, the number of the acknowledgement, and the event.
        let (number, event) = packet[2..].split_once('[').expect("an event");
        assert!(event.starts_with("\"question\",42,"), "{event}");
        first.send(format!("43{number}[\"yes\",{{\"n\":1}}]")).await;
        first
    });
    let body = json!({"event": "question", "data": 42, "ack": true, "timeout_ms": 1500});
    let answer = api.post("/v1/users/alice/emit", body).await.ok();
    assert_eq!(answer["sockets"], 2);
    let acks = answer["acks"].as_array().expect("acks");
    let of = |name: &str| acks.iter().find(|ack| ack.get(name).is_some());
    assert_eq!(
        of("answer").expect("an answer")["answer"],
        json!(["yes", {"n": 1}])
    );
    assert_eq!(of("error").expect("a silence")["error"], "timeout");
    drop(answering.await.expect("no panic"));
    assert!(silent.packet().await.contains("question"));

    // Nobody else was asked, and without `ack` nobody is waited for.
    let body = json!({"event": "notice"});
    let answer = api.post("/v1/users/bob/emit", body).await.ok();
    assert_eq!((&answer["sockets"], answer.get("acks")), (&json!(1), None));
    assert_eq!(bob.event().await[0], "notice");
    // The same subject of another issuer is somebody else.
    let body = json!({"event": "notice", "iss": "https://other.example"});
    let answer = api.post("/v1/users/bob/emit", body).await.ok();
    assert_eq!(answer["sockets"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_a_session_or_a_connection_is_disconnected_and_nobody_else() {
    let api = WithApi::start().await;
    let mut kept = api.user("kept").await;
    let session = api.stack.forge().claim("sid", "session-1");
    let mut by_session = Opening::of(&api.stack).admitted(&session.token()).await;
    let (mut by_sub, mut by_connection) =
        (api.user("by-sub").await, api.user("by-connection").await);
    let listed = api.get("/v1/connections?sub=by-connection").await.ok();
    let listed = &listed["connections"][0];
    assert_eq!(listed["sub"], "by-connection");
    let connection = &listed["connection"];

    for (body, socket) in [
        (json!({"sub": "by-sub"}), &mut by_sub),
        (json!({"session": "session-1"}), &mut by_session),
        (json!({"connection": connection}), &mut by_connection),
    ] {
        let answer = api.post("/v1/disconnect", body.clone()).await.ok();
        assert_eq!(answer, json!({"disconnected": 1}), "{body}");
        // A DISCONNECT packet, after which stock clients stay away.
        assert_eq!(socket.closed().await, ["41"], "{body}");
    }
    let mut back = api.user("back").await;
    let body = json!({"sub": "back", "reconnect": true});
    api.post("/v1/disconnect", body).await.ok();
    assert_eq!(back.closed().await, Vec::<String>::new());

    assert_eq!(api.get("/v1/connections").await.ok()["count"], 1);
    kept.publish("lobby", json!("still here")).await;
    for body in [
        json!({}),
        json!({"sub": "kept", "session": "x"}),
        json!({"iss": "https://other.example", "connection": "x"}),
    ] {
        let answer = api.post("/v1/disconnect", body.clone()).await;
        assert_eq!(answer.code(), "invalid_request", "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_wants_its_scope_and_the_token_its_audience() {
    let api = WithApi::start().await;
    let publish = Some(json!({"room": "lobby", "event": "news"}));
    let broadcast = Some(json!({"event": "news"}));
    let (kick, dead) = (Some(json!({"sub": "nobody"})), Some(json!({"dead": true})));
    let read: Option<Value> = None;
    for (method, path, scope, body) in [
        (Method::POST, "/v1/publish", "rt.publish", &publish),
        (Method::POST, "/v1/broadcast", "rt.publish", &broadcast),
        (Method::POST, "/v1/users/a/emit", "rt.publish", &broadcast),
        (Method::POST, "/v1/disconnect", "rt.kick", &kick),
        (Method::GET, "/v1/rooms", "rt.read", &read),
        (Method::GET, "/v1/rooms/lobby/presence", "rt.read", &read),
        (Method::GET, "/v1/rooms/lobby/history", "rt.read", &read),
        (Method::GET, "/v1/connections", "rt.read", &read),
        (Method::GET, "/v1/webhooks", "rt.webhooks", &read),
        (Method::POST, "/v1/webhooks/replay", "rt.webhooks", &dead),
        (Method::POST, "/v1/webhooks/drop", "rt.webhooks", &dead),
    ] {
        let call = async |forge: Forge| {
            api.call(method.clone(), path, &forge.token(), body.clone())
                .await
        };
        call(api.back_end(scope)).await.ok();
        for other in [
            "rt.publish",
            "rt.read",
            "rt.kick",
            "rt.webhooks",
            "",
            "rt.*",
        ] {
            if other != scope {
                let refused = call(api.back_end(other)).await;
                assert_eq!(refused.code(), "insufficient_scope", "{path} {other}");
                let challenge = refused.headers[header::WWW_AUTHENTICATE].to_str();
                assert!(challenge.expect("a text").contains(scope), "{path}");
            }
        }
        // A user's token is none for back ends, and the reverse.
        let refused = call(api.stack.forge().claim("scope", ALL_SCOPES)).await;
        assert_eq!(
            (refused.status, refused.body["reason"].as_str()),
            (StatusCode::UNAUTHORIZED, Some("audience_invalid")),
            "{path}"
        );
        let refused = api.call_with(method.clone(), path, &[], body.clone()).await;
        assert_eq!(
            refused.headers[header::WWW_AUTHENTICATE],
            "Bearer",
            "{path}"
        );
        assert_eq!(refused.code(), "credentials_required", "{path}");
    }
    let mut socket = Opening::of(&api.stack).session().await;
    let token = api.back_end(ALL_SCOPES).token();
    let refused = socket.connect(&json!({ "token": token })).await;
    assert_eq!(
        refused.expect_err("a refusal").message(),
        "jwt audience invalid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_held_to_rooms_reaches_no_others() {
    let api = WithApi::start().await;
    let detail = json!([{
        "type": "realtime", "actions": ["pub", "hst", "prs"], "rooms": ["org:acme:**", "user:alice"],
    }]);
    let held = api
        .back_end(ALL_SCOPES)
        .claim("authorization_details", detail)
        .token();
    let call = async |method: Method, path: &str, body: Option<Value>| {
        api.call(method, path, &held, body).await
    };
    let publish = |room: &str| Some(json!({"room": room, "event": "news"}));
    call(Method::POST, "/v1/publish", publish("org:acme:a"))
        .await
        .ok();
    call(Method::GET, "/v1/rooms/org:acme:a/history", None)
        .await
        .ok();
    call(Method::GET, "/v1/rooms/org:acme:a/presence", None)
        .await
        .ok();
    let emit = Some(json!({"event": "news"}));
    call(Method::POST, "/v1/users/alice/emit", emit.clone())
        .await
        .ok();
    for (method, path, body) in [
        (Method::POST, "/v1/publish", publish("org:other:a")),
        (Method::POST, "/v1/publish", publish("lobby")),
        (Method::GET, "/v1/rooms/lobby/history", None),
        (Method::GET, "/v1/rooms/lobby/presence", None),
        (Method::POST, "/v1/users/bob/emit", emit.clone()),
        (Method::POST, "/v1/broadcast", emit.clone()),
        (
            Method::POST,
            "/v1/disconnect",
            Some(json!({"sub": "alice"})),
        ),
        (Method::GET, "/v1/connections", None),
    ] {
        let refused = call(method, path, body).await;
        assert_eq!(refused.code(), "forbidden", "{path}");
    }
    let (mut acme, mut lobby) = (api.user("a").await, api.user("b").await);
    lobby.subscribe("lobby").await;
    let payload = json!({"room": "org:acme:a"});
    acme.call("rt:subscribe", payload).await;
    let rooms = call(Method::GET, "/v1/rooms", None).await.ok();
    assert_eq!(rooms, json!({"rooms": []}), "nobody may enter org:acme:a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_twice_with_one_key_is_carried_out_once() {
    let api = WithApi::start().await;
    let mut alice = api.user("alice").await;
    alice.subscribe("lobby").await;
    let bearer = format!("Bearer {}", api.back_end(ALL_SCOPES).token());
    let send = async |key: &str, data: u32| {
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
        let body = json!({"room": "lobby", "event": "news", "data": data});
        api.call_with(Method::POST, "/v1/publish", &headers, Some(body))
            .await
    };
    let first = send("key-1", 1).await.ok();
    let again = send("key-1", 1).await.ok();
    assert_eq!(first, again);
    assert_eq!(send("key-1", 2).await.code(), "idempotency_key_reused");
    assert_eq!(send("", 2).await.code(), "invalid_request");
    let other = send("key-2", 2).await.ok();
    assert_eq!(other["offset"], 2);
    for data in [1, 2] {
        assert_eq!(alice.event().await[1], data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_told_so_in_a_problem_document() {
    let options = Options::default().gateway("limits.message_bytes", 100_000);
    let api = WithApi::start_with(options).await;
    let long = "a".repeat(256);
    for (path, body) in [
        ("/v1/publish", json!({"room": "a:**", "event": "news"})),
        ("/v1/publish", json!({"room": long, "event": "news"})),
        ("/v1/publish", json!({"room": "lobby", "event": "rt:news"})),
        (
            "/v1/publish",
            json!({"room": "lobby", "event": "news", "more": 1}),
        ),
        ("/v1/publish", json!({"room": "lobby"})),
        (
            "/v1/publish",
            json!({"room": "lobby", "event": "news", "data": {"_placeholder": true, "num": 0}}),
        ),
        (
            "/v1/publish",
            json!({"room": "lobby", "event": "news", "id": ""}),
        ),
        ("/v1/publish", json!([])),
        ("/v1/publish", json!(["lobby", "news", 1, null])),
        ("/v1/broadcast", json!({"event": "disconnect"})),
        (
            "/v1/users/alice/emit",
            json!({"event": "a", "ack": true, "timeout_ms": 30_001}),
        ),
    ] {
        let refused = api.post(path, body.clone()).await;
        assert_eq!(refused.code(), "invalid_request", "{path} {body}");
    }
    let big = json!({"room": "lobby", "event": "news", "data": "x".repeat(200_000)});
    let refused = api.post("/v1/publish", big).await;
    assert_eq!(refused.code(), "body_too_large");
    for path in [
        "/v1/rooms/lobby/history?offset=1",
        "/v1/rooms/a:*/history",
        "/v1/rooms?limit=-1",
        "/v1/rooms?unknown=1",
        "/v1/connections?iss=https://other.example",
    ] {
        assert_eq!(api.get(path).await.code(), "invalid_request", "{path}");
    }
    assert_eq!(api.get("/v1/nothing").await.code(), "not_found");
    assert_eq!(api.get("/v1/publish").await.code(), "method_not_allowed");
    // It is not what clients connect to, and neither are they here.
    let answer = api.get("/socket.io/?EIO=4&transport=polling").await;
    assert_eq!(answer.code(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_that_calls_too_often_is_told_when_to_come_back() {
    let options = Options::default()
        .gateway("api.requests_per_sec", 1)
        .gateway("api.requests_burst", 2);
    let api = WithApi::start_with(options).await;
    let get = async |sub: &str| {
        let token = api.back_end("rt.read").claim("sub", sub).token();
        api.call(Method::GET, "/v1/rooms", &token, None).await
    };
    get("client:one").await.ok();
    get("client:one").await.ok();
    let refused = get("client:one").await;
    assert_eq!(refused.code(), "rate_limited");
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    get("client:another").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_and_its_page_come_from_the_listener_for_back_ends_alone() {
    let api = WithApi::start_with(Options::default().gateway("api.docs", true)).await;
    let description = api.get("/openapi.json").await.ok();
    assert!(description["paths"]["/v1/publish"]["post"].is_object());
    let page = api
        .stack
        .http()
        .get(format!("{}/docs/", api.url))
        .send()
        .await;
    let page = page.expect("an answer");
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str();
    assert!(policy.expect("a text").contains("default-src 'none'"));
    let page = page.text().await.expect("a text");
    assert!(!page.contains("https://"), "{page}");
    let without = WithApi::start().await;
    without.get("/openapi.json").await.ok();
    assert_eq!(without.get("/docs/").await.code(), "not_found");
    for path in ["/v1/rooms", "/openapi.json", "/docs/"] {
        let url = format!("{}{path}", api.stack.gateway_url);
        let answer = api.stack.http().get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
