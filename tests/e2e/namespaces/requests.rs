//! The HTTP API, the commands and the library with namespaces.

use harness::{
    Opening,
    api::{ALL_SCOPES, WithApi},
};
use http::{Method, StatusCode};
use realtime_service::{
    App,
    config::{Config, KeySource},
    guard,
    socketioxide::extract::SocketRef,
};
use serde_json::{Value, json};

use super::{in_both, with_admin};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_about_the_namespace_that_it_names_and_else_about_the_main_one() {
    let api = WithApi::start_with(with_admin()).await;
    let forge = api.stack.forge();
    let mut socket = in_both(&api.stack, &forge.token()).await;
    for namespace in ["/", "/admin"] {
        socket
            .call_in(namespace, "rt:subscribe", json!({ "room": "lobby" }))
            .await;
    }
    let token = api.back_end(ALL_SCOPES).token();
    let sub = forge.text_of("sub");
    let post =
        async |path: &str, body: Value| api.call(Method::POST, path, &token, Some(body)).await;
    let get = async |path: &str| api.call(Method::GET, path, &token, None).await;
    let emit = format!("/v1/users/{sub}/emit");
    for (namespace, text) in [("/admin", "secret"), ("/", "hello")] {
        let message =
            json!({ "namespace": namespace, "room": "lobby", "event": "message", "data": text });
        let published = post("/v1/publish", message).await.ok();
        assert_eq!(published["offset"], 1, "{namespace}");
        assert_eq!(socket.event_in(namespace).await[1], text);
        for path in ["/v1/broadcast", &emit] {
            let message = json!({ "namespace": namespace, "event": "news", "data": text });
            assert_eq!(post(path, message).await.ok()["sockets"], 1, "{path}");
            assert_eq!(socket.event_in(namespace).await[1], text);
        }
    }
    // Without a namespace it is the main one.
    let message = json!({ "room": "lobby", "event": "message", "data": "bye" });
    assert_eq!(post("/v1/publish", message).await.ok()["offset"], 2);
    assert_eq!(socket.event().await[1], "bye");
    for (query, texts) in [
        ("?namespace=/admin", vec!["secret"]),
        ("", vec!["hello", "bye"]),
    ] {
        let history = get(&format!("/v1/rooms/lobby/history{query}")).await.ok();
        let messages = history["messages"].as_array().expect("messages");
        let said: Vec<_> = messages.iter().map(|one| &one["data"]).collect();
        assert_eq!(said, texts, "{query}");
        let presence = get(&format!("/v1/rooms/lobby/presence{query}")).await.ok();
        assert_eq!(presence["connections"], 1, "{query}");
        let rooms = get(&format!("/v1/rooms{query}")).await.ok();
        assert_eq!(
            rooms["rooms"],
            json!([{ "room": "lobby", "connections": 1 }]),
            "{query}"
        );
    }
    let listed = get("/v1/connections").await.ok();
    let listed = listed["connections"].as_array().expect("connections");
    let mut names: Vec<_> = listed.iter().map(|one| one["namespace"].clone()).collect();
    names.sort_unstable_by_key(ToString::to_string);
    assert_eq!(names, [json!("/admin"), Value::Null]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_an_unknown_namespace_is_refused_and_its_twin_is_not() {
    let api = WithApi::start_with(with_admin()).await;
    let token = api.back_end(ALL_SCOPES).token();
    let held = json!([{ "type": "realtime", "actions": ["pub", "prs"], "rooms": ["lobby"] }]);
    let held = api
        .back_end(ALL_SCOPES)
        .claim("authorization_details", held)
        .token();
    let message =
        |namespace: &str| json!({ "namespace": namespace, "room": "lobby", "event": "message" });
    for (namespace, status) in [
        ("/other", StatusCode::BAD_REQUEST),
        ("/admin", StatusCode::OK),
    ] {
        let body = Some(message(namespace));
        let answer = api.call(Method::POST, "/v1/publish", &token, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        for path in [
            "/v1/rooms",
            "/v1/rooms/lobby/presence",
            "/v1/rooms/lobby/history",
        ] {
            let path = format!("{path}?namespace={namespace}");
            let answer = api.call(Method::GET, &path, &token, None).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
        }
    }
    // A token that is held to rooms is held to those of the main namespace.
    for (namespace, status) in [("/admin", StatusCode::FORBIDDEN), ("/", StatusCode::OK)] {
        let body = Some(message(namespace));
        let answer = api.call(Method::POST, "/v1/publish", &held, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_is_by_the_rules_of_the_namespace() {
    let namespaces = json!([
        { "name": "/admin", "scope": "staff", "rooms": [{ "rooms": ["desk:*"], "actions": ["sub"] }] },
    ]);
    let api = WithApi::start_with(super::options(namespaces)).await;
    let back_end = api.back_end(ALL_SCOPES).token();
    let explain = async |forge: &harness::Forge, namespace: &str| {
        let body = json!({
            "token": forge.token(), "namespace": namespace, "room": "desk:7", "action": "sub",
        });
        api.call(Method::POST, "/v1/authz/explain", &back_end, Some(body))
            .await
    };
    let staff = api.stack.forge().claim("scope", "staff");
    let explained = explain(&staff, "/admin").await.ok();
    assert_eq!(
        (&explained["allowed"], &explained["namespace"]),
        (&json!(true), &json!("/admin"))
    );
    let explained = explain(&staff, "/").await.ok();
    assert_eq!(
        (&explained["allowed"], &explained["namespace"]),
        (&json!(false), &json!(null))
    );
    let explained = explain(&api.stack.forge(), "/admin").await.ok();
    assert_eq!(
        (&explained["allowed"], &explained["barred"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        explain(&staff, "/other").await.status,
        StatusCode::BAD_REQUEST
    );
    // A connection has its own namespace.
    let mut socket = Opening::of(&api.stack).session().await;
    socket
        .connect_to("/admin", &staff.token())
        .await
        .expect("staff");
    let listed = api
        .call(Method::GET, "/v1/connections", &back_end, None)
        .await
        .ok();
    let connection = &listed["connections"][0]["connection"];
    for (namespace, status) in [
        (json!(null), StatusCode::OK),
        (json!("/"), StatusCode::BAD_REQUEST),
    ] {
        let body = json!({
            "connection": connection, "namespace": namespace, "room": "desk:7", "action": "sub",
        });
        let answer = api
            .call(Method::POST, "/v1/authz/explain", &back_end, Some(body))
            .await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

/// Serves an application with a namespace of its own, and returns why that is not possible.
async fn problem_of(namespaces: Value, own: &'static str) -> Option<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config {
        namespaces: serde_json::from_value(namespaces).expect("settings"),
        ..Config::default()
    };
    config.revocations.file = directory.path().join("revocations.jsonl");
    let app = App::new(config, KeySource::Published).expect("an application");
    app.io().ns(own, guard(async |_: SocketRef| ()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let served = app.serve(listener, std::future::ready(())).await;
    served.err().map(|error| format!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_and_the_settings_cannot_both_have_a_namespace() {
    let admin = || json!([{ "name": "/admin" }]);
    let problem = problem_of(admin(), "/admin").await.expect("a collision");
    assert!(
        problem.contains("namespaces[0].name") && problem.contains("the application"),
        "{problem}"
    );
    let problem = problem_of(admin(), "/own")
        .await
        .expect("a namespace that nobody serves");
    assert!(problem.contains("namespaces"), "{problem}");
    assert_eq!(problem_of(json!([]), "/admin").await, None);
}
