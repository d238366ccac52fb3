//! The tokens of back ends: from the issuer's clients to their end, and what users' tokens let them do.

use harness::{
    Forge, Opening, Options, OtherIssuer,
    api::{ALL_SCOPES, Answer, WithApi},
    options::Mode,
    tls::Certificate,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared_claims::claims::{API_AUDIENCE, REALTIME_AUDIENCE};

async fn list_rooms(api: &WithApi, token: &str) -> Answer {
    api.call(Method::GET, "/v1/rooms", token, None).await
}

async fn publish(api: &WithApi, token: &str, room: &str) -> Answer {
    let body = json!({"room": room, "event": "news"});
    api.call(Method::POST, "/v1/publish", token, Some(body))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_the_scopes_and_the_rooms_that_its_operator_gave_it_until_its_token_ends() {
    let api = WithApi::start().await;
    let stack = &api.stack;
    let reader = stack.add_client("reader", "rt.read").await;
    let reader = stack.client_token("reader", &reader).await;
    let reader = reader.expect("a token");
    list_rooms(&api, &reader).await.ok();
    let refused = publish(&api, &reader, "lobby").await;
    assert_eq!(refused.code(), "insufficient_scope");

    let secret = stack.add_client("worker", "rt.publish rt.read").await;
    let free = stack.client_token("worker", &secret).await;
    let free = free.expect("a token");
    publish(&api, &free, "lobby").await.ok();
    stack.grant_client("worker", "org:acme:**", "pub").await;
    let held = stack.client_token("worker", &secret).await;
    let held = held.expect("a token");
    publish(&api, &held, "org:acme:a").await.ok();
    assert_eq!(publish(&api, &held, "lobby").await.code(), "forbidden");
    // A token says what was so when it was signed, and is good until its end.
    stack.remove_client("worker").await;
    publish(&api, &free, "lobby").await.ok();
    let refused = stack.client_token("worker", &secret).await;
    assert_eq!(refused.expect_err("a removed client"), "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_its_issuer_revokes_or_that_has_ended_is_refused() {
    let api = WithApi::start().await;
    let worker = api.back_end(ALL_SCOPES);
    let another = worker.clone().claim("sub", "client:another");
    list_rooms(&api, &worker.token()).await.ok();
    let logout = worker.clone().logout(&["sub"]);
    let logout = logout.claim("aud", REALTIME_AUDIENCE).token();
    let url = format!("{}/oidc/backchannel-logout", api.stack.gateway_url);
    let request = api.stack.http().post(url);
    let answer = request.form(&[("logout_token", logout)]).send().await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    let ended = another.clone().claim("exp", harness::forge::now_secs());
    let by_another_secret = another.clone().signed_by(
        jsonwebtoken::Algorithm::HS256,
        b"another secret of 32 bytes or so",
    );
    for (forge, reason) in [
        (&worker, "token_revoked"),
        (&ended, "token_expired"),
        (&by_another_secret, "signature_invalid"),
    ] {
        let refused = list_rooms(&api, &forge.token()).await;
        assert_eq!(refused.code(), "invalid_token");
        assert_eq!(refused.body["reason"], reason);
    }
    list_rooms(&api, &another.token()).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_issuer_is_none_for_back_ends() {
    let issuer = OtherIssuer::start().await;
    let mut settings = issuer.settings();
    settings["audience"] = json!(API_AUDIENCE);
    let options = Options::default()
        .mode(Mode::InProcess)
        .gateway("issuers", json!([settings]));
    let api = WithApi::start_with(options).await;
    let theirs = issuer.forge().claim("aud", API_AUDIENCE);
    let theirs = theirs.claim("scope", ALL_SCOPES).token();
    // A user of theirs it admits.
    Opening::of(&api.stack).admitted(&theirs).await;
    let refused = list_rooms(&api, &theirs).await;
    assert_eq!(refused.code(), "invalid_token");
    assert_eq!(refused.body["reason"], "issuer_invalid");
    let ours = api.back_end(ALL_SCOPES).token();
    list_rooms(&api, &ours).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_comes_once_and_in_the_header() {
    let api = WithApi::start().await;
    let token = api.back_end(ALL_SCOPES).token();
    let good = format!("bearer {token}");
    let get = async |path: &str, headers: &[(&str, &str)]| {
        api.call_with(Method::GET, path, headers, None).await
    };
    get("/v1/rooms", &[("authorization", &good)]).await.ok();
    let twice = [("authorization", good.as_str()); 2];
    let bare = [("authorization", token.as_str())];
    let basic = format!("Basic {token}");
    let basic = [("authorization", basic.as_str())];
    for headers in [&twice[..], &bare, &basic] {
        let refused = get("/v1/rooms", headers).await;
        assert_eq!(refused.code(), "credentials_bad_format");
    }
    let cookie = format!("token={token}");
    let refused = get("/v1/rooms", &[("cookie", &cookie)]).await;
    assert_eq!(refused.code(), "credentials_required");
    let refused = get(&format!("/v1/rooms?token={token}"), &[]).await;
    assert_eq!(refused.code(), "credentials_required");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_tls_back_ends_have_to_know_the_certificate() {
    let certificate = Certificate::default();
    let api = WithApi::start_with(Options::default().tls(&certificate)).await;
    let token = api.back_end(ALL_SCOPES).token();
    list_rooms(&api, &token).await.ok();
    let url = format!("{}/v1/rooms", api.url);
    // The stack's own client for HTTP knows it not.
    let get = async |url: &str| api.stack.http().get(url).bearer_auth(&token).send().await;
    assert!(
        get(&url).await.is_err(),
        "a stranger's certificate was taken"
    );
    let clear = url.replace("https:", "http:");
    assert!(get(&clear).await.is_err(), "served in the clear");
}

/// Asks why somebody may do something, or may not.
async fn explain(api: &WithApi, whom: (&str, &str), action: &str, room: &str) -> Value {
    let body = json!({whom.0: whom.1, "action": action, "room": room});
    api.post("/v1/authz/explain", body).await.ok()
}

fn with_grant(forge: Forge) -> Forge {
    let detail = json!({"type": "realtime", "actions": ["sub"], "rooms": ["org:acme:*"]});
    forge.claim("authorization_details", json!([detail]))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_explained_by_which_grant_something_is_allowed_and_which_were_considered() {
    let api = WithApi::start().await;
    let alice = with_grant(api.stack.forge().claim("sub", "alice")).token();
    let mut socket = Opening::of(&api.stack).admitted(&alice).await;
    let listed = api.get("/v1/connections?sub=alice").await.ok();
    let connection = listed["connections"][0]["connection"].as_str();
    let connection = connection.expect("a connection").to_owned();
    for whom in [("token", alice.as_str()), ("connection", &connection)] {
        let lobby = explain(&api, whom, "pub", "lobby").await;
        assert_eq!(
            (&lobby["allowed"], &lobby["by"]["pattern"]),
            (&json!(true), &json!("lobby"))
        );
        assert_eq!(lobby["by"]["source"]["rule"]["index"], 0);
        let granted = explain(&api, whom, "sub", "org:acme:a").await;
        assert_eq!(granted["by"]["pattern"], "org:acme:*");
        assert_eq!(granted["by"]["source"], json!({"authorization_details": 0}));
        let denied = explain(&api, whom, "pub", "org:acme:a").await;
        assert_eq!(
            (&denied["allowed"], denied.get("by")),
            (&json!(false), None)
        );
        let considered = denied["considered"].as_array().expect("grants");
        let of = |pattern: &str| considered.iter().find(|one| one["pattern"] == pattern);
        assert_eq!(of("lobby").expect("a grant")["why"], "other_room");
        assert_eq!(of("user:alice").expect("a grant")["why"], "other_room");
        assert_eq!(of("org:acme:*").expect("a grant")["why"], "other_action");
    }
    // What is explained is what holds.
    socket.subscribe("org:acme:a").await;
    let payload = json!({"room": "org:acme:a", "event": "news"});
    let answer = socket.call("rt:publish", payload).await;
    assert_eq!(answer["error"]["code"], "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_told_what_the_rules_want() {
    let options = Options::default().gateway("auth.anonymous", true);
    let api = WithApi::start_with(options).await;
    let mut guest = Opening::of(&api.stack).session().await;
    guest.connect(&json!({})).await.expect("a guest");
    let listed = api.get("/v1/connections").await.ok();
    let connection = listed["connections"][0]["connection"].as_str();
    let connection = connection.expect("a connection");
    let denied = explain(&api, ("connection", connection), "sub", "lobby").await;
    assert_eq!(denied["allowed"], false);
    assert_eq!(denied["passed_over"][0]["text"], "lobby");
    assert_eq!(denied["passed_over"][0]["wants"], "token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_wants_all_rooms_one_subject_and_a_token_that_holds() {
    let api = WithApi::start().await;
    let user = api.stack.forge().token();
    let body = json!({"token": user, "action": "sub", "room": "lobby"});
    let call = async |forge: Forge, body: &Value| {
        let body = Some(body.clone());
        api.call(Method::POST, "/v1/authz/explain", &forge.token(), body)
            .await
    };
    call(api.back_end("rt.read"), &body).await.ok();
    let refused = call(api.back_end("rt.publish rt.kick"), &body).await;
    assert_eq!(refused.code(), "insufficient_scope");
    let held = with_grant(api.back_end("rt.read"));
    assert_eq!(call(held, &body).await.code(), "forbidden");
    for (member, value) in [
        ("token", json!("x")),
        ("token", json!(api.back_end(ALL_SCOPES).token())),
        ("token", Value::Null),
        ("connection", json!("nobody's")),
        ("action", json!("all")),
        ("room", json!("org:**")),
    ] {
        let mut other = body.clone();
        other[member] = value;
        let refused = call(api.back_end("rt.read"), &other).await;
        assert_eq!(refused.code(), "invalid_request", "{other}");
        assert!(
            !refused.body.to_string().contains(&user),
            "{}",
            refused.body
        );
    }
}
