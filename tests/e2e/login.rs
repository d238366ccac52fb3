//! Logging in over HTTP, and connecting with what comes of it.

use std::collections::BTreeSet;

use harness::{SocketClient, Stack, client::Credential, random_text, soon};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

async fn send(request: RequestBuilder) -> Response {
    soon("an answer", request.send()).await.expect("an answer")
}

async fn json_of(answer: Response) -> Value {
    soon("a body", answer.json()).await.expect("JSON")
}

fn post_login(stack: &Stack) -> RequestBuilder {
    stack.http().post(format!("{}/login", stack.issuer_url))
}

/// The answer is a problem (RFC 9457) with this status and code.
async fn assert_problem(what: &str, answer: Response, status: StatusCode, code: &str) {
    assert_eq!(answer.status(), status, "{what}");
    assert_eq!(
        answer.headers()["content-type"],
        "application/problem+json",
        "{what}"
    );
    let problem = json_of(answer).await;
    assert_eq!(problem["status"], status.as_u16(), "{what}");
    assert_eq!(problem["code"], code, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_and_a_form_both_answer_a_token_that_connects() {
    let stack = Stack::start().await;
    let password = stack.passwords().of("alice").to_owned();
    let as_json = post_login(&stack).json(&json!({"username": "alice", "password": password}));
    let as_form =
        post_login(&stack).form(&[("username", "alice"), ("password", password.as_str())]);
    for request in [as_json, as_form] {
        let answer = send(request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let answer = json_of(answer).await;
        assert_eq!(answer["token_type"], "Bearer");
        assert_eq!(answer["expires_in"], 900);
        let token = answer["token"].as_str().expect("a token").to_owned();

        let me = stack
            .http()
            .get(format!("{}/me", stack.issuer_url))
            .bearer_auth(&token);
        let me = json_of(send(me).await).await;
        assert_eq!(me["username"], "alice");

        let credential = Credential::Auth(json!(token));
        let client = SocketClient::connect(&stack.gateway_url, credential).await;
        let mut client = client.expect("a token that is accepted");
        let room = format!("user:{}", me["sub"].as_str().expect("a subject"));
        let answer = client.call("rt:subscribe", json!({ "room": room })).await;
        assert_eq!(answer["ok"], true, "{answer}");
        client.disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_from_one_person_to_the_other() {
    let stack = Stack::start().await;
    let mut clients = Vec::new();
    for name in ["alice", "bob"] {
        let credential = Credential::Auth(json!(stack.login(name).await));
        let client = SocketClient::connect(&stack.gateway_url, credential).await;
        let mut client = client.expect("a token that is accepted");
        let answer = client.call("rt:subscribe", json!({"room": "lobby"})).await;
        assert_eq!(answer["ok"], true, "{answer}");
        clients.push(client);
    }
    let publish = json!({"room": "lobby", "event": "chat", "data": {"text": "hello"}});
    let answer = clients[1].call("rt:publish", publish).await;
    assert_eq!(answer["ok"], true, "{answer}");
    for client in &mut clients {
        let (event, arguments) = client.event().await;
        assert_eq!(event, "chat");
        assert_eq!(arguments[0], json!({"text": "hello"}));
        assert_eq!(arguments[1]["from"]["name"], "bob");
        assert_eq!(arguments[1]["id"], answer["id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let stack = Stack::start().await;
    let password = stack.passwords().of("alice").to_owned();
    let mut answers = Vec::new();
    for (name, password) in [("alice", random_text(18)), ("mallory", password.clone())] {
        let answer =
            send(post_login(&stack).json(&json!({"username": name, "password": password}))).await;
        let status = answer.status();
        let mut headers = answer.headers().clone();
        headers.remove("date");
        // Each worker has its own order of them, whoever asks.
        let exposed = headers.remove("access-control-expose-headers");
        let exposed = exposed.expect("a list").to_str().expect("text").to_owned();
        let exposed: BTreeSet<String> = exposed.split(", ").map(str::to_owned).collect();
        let body = soon("a body", answer.text()).await.expect("a body");
        answers.push((status, headers, exposed, body));
    }
    assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
    assert_eq!(answers[0], answers[1]);
    stack.login("alice").await;
}

/// Bodies of the type JSON that are no login.
const BAD_JSON: [&str; 12] = [
    "",
    "{",
    "null",
    "[]",
    "\"alice\"",
    "{}",
    r#"{"username":"alice"}"#,
    r#"{"username":1,"password":"x"}"#,
    r#"{"username":"alice","password":["x"]}"#,
    r#"{"username":"alice","password":null}"#,
    r#"{"username":"alice","password":"x","admin":true}"#,
    r#"{"username":"alice","password":"x","password":"x"}"#,
];

/// Bodies of the type of a form that are no login.
const BAD_FORMS: [&str; 4] = [
    "",
    "username=alice",
    "password=x",
    "username=alice&username=bob&password=x",
];

/// Sends a login with this `content-type` and body.
async fn send_login(stack: &Stack, content_type: &str, body: &str) -> Response {
    let request = post_login(stack)
        .header("content-type", content_type)
        .body(body.to_owned());
    send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_login_is_told_what_is_wrong_with_it() {
    let stack = Stack::start().await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let json_bodies = BAD_JSON.into_iter().chain([deep.as_str()]);
    let json_bodies = json_bodies.map(|body| ("application/json", body));
    let forms = BAD_FORMS.map(|body| ("application/x-www-form-urlencoded", body));
    for (kind, body) in json_bodies.chain(forms) {
        let answer = send_login(&stack, kind, body).await;
        assert_problem(body, answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    let password = stack.passwords().of("alice");
    let right = json!({"username": "alice", "password": password}).to_string();
    for kind in [
        "text/plain",
        "application/xml",
        "application/json; charset=utf-16",
    ] {
        let answer = send_login(&stack, kind, &right).await;
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        assert_problem(kind, answer, status, "unsupported_media_type").await;
    }
    let answer = send_login(&stack, "application/json", &right).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_10_mb_is_too_large_and_the_next_one_is_served() {
    let stack = Stack::start().await;
    let body = json!({"username": "alice", "password": "x".repeat(10_000_000)}).to_string();
    // By hand: the answer comes before the body is through, and some clients then tell only of the
    // broken connection.
    let address = stack.issuer_url.trim_start_matches("http://").to_owned();
    let answer = soon("an answer", post_by_hand(&address, body)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    stack.login("alice").await;
}

/// Posts a body to `/login` while reading the answer to it.
async fn post_by_hand(address: &str, body: String) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let tcp = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let (mut read, mut write) = tcp.into_split();
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let writing = tokio::spawn(async move {
        // The service hangs up on what it does not want.
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(body.as_bytes()).await;
        write
    });
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match read.read(&mut chunk).await {
            Ok(1..) => answer.extend_from_slice(&chunk[..]),
            Ok(0) | Err(_) => break,
        }
    }
    writing.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn me_takes_the_token_of_the_header_and_no_other() {
    let stack = Stack::start().await;
    let me = || stack.http().get(format!("{}/me", stack.issuer_url));
    let token = stack.login("alice").await;
    assert_eq!(
        send(me().bearer_auth(&token)).await.status(),
        StatusCode::OK
    );
    let expired = stack.forge().claim("iat", 1).claim("exp", 2).token();
    let foreign = stack.forge().claim("iss", "https://evil.example").token();
    for (what, request) in [
        ("expired", me().bearer_auth(expired)),
        ("foreign", me().bearer_auth(foreign)),
        ("changed", me().bearer_auth(format!("{token}x"))),
    ] {
        assert_problem(
            what,
            send(request).await,
            StatusCode::UNAUTHORIZED,
            "invalid_token",
        )
        .await;
    }
    let answer = send(me()).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
}
