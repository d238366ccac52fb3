//! The back end of docs/backends.md, as it stands there, against a real stack.

use std::{fs, path::PathBuf};

use harness::{Opening, WebSocket, api::WithApi, stock::run_python, websocket::parse};
use serde_json::{Value, json};

fn read(path: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).expect(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lists_every_call_and_every_error() {
    let page = read("docs/backends.md");
    let api = WithApi::start().await;
    let description = api.get("/openapi.json").await.ok();
    for (path, operations) in description["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let call = format!("| `{} {path}` |", method.to_uppercase());
            assert!(page.contains(&call), "{call}");
        }
    }
    let problems = read("realtime-service/src/api/problem.rs");
    let (_, codes) = problems
        .split_once("fn status_and_code")
        .expect("the codes");
    let (codes, _) = codes.split_once("fn detail").expect("their end");
    let codes: Vec<&str> = codes.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 10, "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("| `{code}` |")), "{code}");
    }
}

/// The one Python program of the page.
fn documented_program() -> String {
    let page = read("docs/backends.md");
    let mut programs = page.split("```python\n").skip(1);
    let program = programs.next().and_then(|rest| rest.split("```\n").next());
    assert!(programs.next().is_none(), "there is a second program");
    program.expect("a program").to_owned()
}

/// Who has signed in as `name`, with their id and a socket that is in the lobby.
async fn guest(api: &WithApi, name: &str) -> (String, WebSocket) {
    let token = api.stack.login(name).await;
    let mut socket = Opening::of(&api.stack).admitted(&token).await;
    socket.subscribe("lobby").await;
    let request = api.stack.http().get(format!("{}/me", api.stack.issuer_url));
    let answer = request.bearer_auth(token).send().await.expect("an answer");
    let me: Value = answer.json().await.expect("JSON");
    (me["sub"].as_str().expect("an id").to_owned(), socket)
}

/// Waits for the news and for the question, and answers that. Gives the question, and what comes
/// until the end of the connection.
async fn reply(mut socket: WebSocket, answer: &str) -> (Value, Vec<String>) {
    assert_eq!(socket.event().await[0], "news");
    let packet = socket.packet().await;
    let (number, question) = packet[2..].split_once('[').expect("an event");
    socket.send(format!("43{number}{}", json!([answer]))).await;
    let question = parse(&format!("[{question}"));
    (question, socket.closed().await)
}

/// Runs the documented program about the user `user`, and returns its output.
async fn run_documented_program(api: &WithApi, secret: &str, user: &str) -> String {
    let variables = [
        ("ISSUER_URL", api.stack.issuer_url.as_str()),
        ("API_URL", api.url.as_str()),
        ("CLIENT_ID", "worker"),
        ("CLIENT_SECRET", secret),
    ];
    run_python(&documented_program(), &[user], &variables).await
}

/// Asserts that the program, of which this is the output, made all of its calls about `alice`, and that
/// each was answered as the page says.
fn assert_documented_answers(printed: &str, alice: &str, bob: &str) {
    let answers: Vec<(&str, Value)> = printed
        .lines()
        .map(|line| {
            let (call, answer) = line.split_once(" {").expect("a call and its answer");
            (call, parse(&format!("{{{answer}")))
        })
        .collect();
    let [published, emitted, presence, history, disconnected] = &answers[..] else {
        panic!("{printed}");
    };

    assert_eq!(published.0, "POST /v1/publish");
    assert_eq!(published.1["offset"], 1);
    assert_eq!(emitted.0, format!("POST /v1/users/{alice}/emit"));
    assert_eq!(emitted.1["sockets"], 1);
    assert_eq!(emitted.1["acks"][0]["answer"], json!(["no"]));
    assert_eq!(presence.0, "GET /v1/rooms/lobby/presence");
    assert_eq!(
        (&presence.1["count"], &presence.1["connections"]),
        (&json!(2), &json!(2))
    );
    let users = presence.1["users"].as_array().expect("users");
    for id in [alice, bob] {
        assert!(users.iter().any(|user| user["sub"] == *id), "{users:?}");
    }
    assert_eq!(history.0, "GET /v1/rooms/lobby/history");
    let said = &history.1["messages"][0];
    assert_eq!(said["data"], json!({"text": "the shop is open"}));
    assert_eq!(said["meta"]["id"], published.1["id"]);
    assert_eq!(disconnected.0, "POST /v1/disconnect");
    assert_eq!(disconnected.1, json!({"disconnected": 1}));
}

/// Waits for the news and for the question, answers "yes", and returns the connection.
async fn answer_yes(mut socket: WebSocket) -> WebSocket {
    assert_eq!(socket.event().await[0], "news");
    let packet = socket.packet().await;
    let (number, _) = packet[2..].split_once('[').expect("an event");
    socket.send(format!("43{number}[\"yes\"]")).await;
    socket
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn the_documented_back_end_does_what_the_page_says() {
    let api = WithApi::start().await;
    let scope = "rt.publish rt.read rt.kick";
    let secret = api.stack.add_client("worker", scope).await;
    let ((alice, socket), (bob, mut bobs)) = tokio::join!(guest(&api, "alice"), guest(&api, "bob"));
    let replying = tokio::spawn(reply(socket, "no"));
    let printed = run_documented_program(&api, &secret, &alice).await;
    assert_documented_answers(&printed, &alice, &bob);

    let (question, rest) = replying.await.expect("no panic");
    assert_eq!(
        (&question[0], &question[1]["text"]),
        (&json!("question"), &json!("stay?"))
    );
    assert_eq!(question[2]["from"]["sub"], "client:worker");
    assert_eq!(rest, ["41"]);

    // Who was not asked has heard the news, and stays; so does who answers otherwise.
    assert_eq!(bobs.event().await[1], json!({"text": "the shop is open"}));
    bobs.publish("lobby", json!("still here")).await;
    assert_eq!(bobs.event().await[1], "still here");
    let staying = tokio::spawn(answer_yes(bobs));
    let printed = run_documented_program(&api, &secret, &bob).await;
    assert!(printed.contains(r#""answer":["yes"]"#), "{printed}");
    assert!(!printed.contains("/v1/disconnect"), "{printed}");
    let mut bobs = staying.await.expect("no panic");
    bobs.publish("lobby", json!("here still")).await;
    assert_eq!(bobs.event().await[1], "here still");
}
