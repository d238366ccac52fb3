//! Explanations of rules that leave a decision to a back end.

use axum::response::{IntoResponse as _, Response};
use harness::{
    CalledBackEnd, Forge,
    api::{ALL_SCOPES, WithApi},
    called::answer,
    random_text,
};
use http::StatusCode;
use serde_json::{Value, json};

/// Allows `desk:7`, refuses `desk:8`, and has no answer about other desks.
async fn decide(event: Value) -> Response {
    match event["data"]["room"].as_str().unwrap_or_default() {
        "desk:7" => answer(json!({ "allow": true, "cache_secs": 60 })),
        "desk:8" => answer(json!({ "allow": false, "reason": "not yours" })),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_names_the_back_end_and_has_its_answer_when_it_is_asked_for() {
    let shop = CalledBackEnd::start(decide).await;
    let api = WithApi::start_with(shop.decides_on(&["sub", "pub"])).await;
    let token = api.stack.forge().claim("sub", "alice").token();
    let explain = async |room: &str, action: &str, ask: bool| {
        let body = json!({ "token": token, "room": room, "action": action, "ask": ask });
        api.post("/v1/authz/explain", body).await.ok()
    };
    let plain = explain("desk:7", "pub", false).await;
    assert_eq!(
        (&plain["allowed"], &plain["backend"], &plain["answer"]),
        (&json!(false), &json!("shop"), &Value::Null)
    );
    assert_eq!(plain["by"]["source"]["rule"]["backend"], "shop");
    assert!(shop.requests().is_empty());
    for (room, allowed, expected) in [
        ("desk:7", true, json!({ "allow": true, "cache_secs": 60 })),
        (
            "desk:8",
            false,
            json!({ "allow": false, "cache_secs": 0, "reason": "not yours" }),
        ),
        (
            "desk:9",
            false,
            json!({ "allow": false, "cache_secs": 0, "error": "backend_failed" }),
        ),
    ] {
        let asked = explain(room, "pub", true).await;
        assert_eq!(
            (&asked["allowed"], &asked["answer"]),
            (&json!(allowed), &expected),
            "{asked}"
        );
    }
    // A question in an explanation is about no message, and its answer is not kept.
    let requests = shop.requests();
    assert_eq!(requests[0].event["data"]["message"], Value::Null);
    explain("desk:7", "pub", true).await;
    assert_eq!(shop.requests().len(), 4);
    // A rule that allows by itself asks nobody.
    let lobby = explain("lobby", "sub", true).await;
    assert_eq!(
        (&lobby["allowed"], &lobby["backend"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(shop.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_of_an_admission_are_explained_by_the_connection() {
    let grants = json!([{ "actions": ["sub"], "rooms": ["desk:*"] }]);
    let shop = CalledBackEnd::start(move |_| {
        let grants = grants.clone();
        async move { answer(json!({ "allow": true, "grants": grants })) }
    })
    .await;
    let api = WithApi::start_with(shop.admits()).await;
    let _alice = api.user("alice").await;
    let token = api.back_end(ALL_SCOPES).token();
    let connections = api
        .call(reqwest::Method::GET, "/v1/connections", &token, None)
        .await;
    let connection = connections.ok()["connections"][0]["connection"].clone();
    let body = json!({ "connection": connection, "room": "desk:7", "action": "sub" });
    let explained = api.post("/v1/authz/explain", body).await.ok();
    assert_eq!(
        (&explained["allowed"], &explained["by"]["source"]),
        (&json!(true), &json!({ "connect_back_end": 0 })),
        "{explained}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn the_command_says_who_decides_and_asks_when_it_is_told_to() {
    let shop = CalledBackEnd::start(decide).await;
    let secret = random_text(36);
    let token = Forge::new("http://localhost:8080", &secret).token();
    let config = tempfile::NamedTempFile::new().expect("a file");
    let toml = format!(
        "[[backends]]\nname = 'shop'\nurl = '{}'\nsecret_file = '{}'\n\
         [[rooms]]\nrooms = ['desk:*']\nactions = ['sub']\nauthorize = 'backend'\nbackend = 'shop'\n",
        shop.url,
        shop.secret_file().display()
    );
    std::fs::write(config.path(), toml).expect("a written file");
    let path = config.path().to_str().expect("a path in UTF-8");
    let variables = [("LATCHKEY_SECRET".to_owned(), secret)];
    let by = "\n  by desk:* (sub) of rooms[0] \"desk:*\", for the own issuer, if the back end shop allows it\n";
    for (room, more, code, expected) in [
        (
            "desk:7",
            None,
            1,
            format!("decided by a back end: sub in desk:7{by}"),
        ),
        (
            "desk:7",
            Some("--ask"),
            0,
            format!("allowed: sub in desk:7{by}  the back end shop allows it for 60 s\n"),
        ),
        (
            "desk:8",
            Some("--ask"),
            1,
            format!("denied: sub in desk:8{by}  the back end shop refuses it: not yours\n"),
        ),
    ] {
        let mut arguments = vec![
            "explain",
            "--config",
            path,
            "--token-file",
            "-",
            "--room",
            room,
            "--action",
            "sub",
        ];
        arguments.extend(more);
        let ended = harness::stack::run("realtime-service", &arguments, &variables, Some(&token));
        let ended = ended.await;
        assert_eq!(ended.status.code(), Some(code), "{}", ended.output);
        assert!(ended.output.contains(&expected), "{}", ended.output);
    }
}
