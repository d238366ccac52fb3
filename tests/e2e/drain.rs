//! Gateways that hand their clients over to others: at a shutdown, and at the request of a back end.

use std::time::{Duration, Instant};

use harness::{
    Mode, Opening, Options, WebSocket,
    api::{ALL_SCOPES, WithApi},
    eventually, soon,
    websocket::parse,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

const SOCKETS: usize = 200;

/// Time over which the sockets are told, in seconds.
const WINDOW_SECS: usize = 5;

/// The most that may be told in one second: 1.5 of an even share.
const MOST_A_SECOND: usize = SOCKETS * 3 / (WINDOW_SECS * 2);

/// What a client heard until its connection ended.
struct Heard {
    user: usize,
    told_at: Instant,
    messages: Vec<Value>,
}

/// Listens until the end of the connection. `told` hears when `rt:drain` comes.
async fn listen(user: usize, mut socket: WebSocket, told: mpsc::UnboundedSender<()>) -> Heard {
    let mut heard = Heard {
        user,
        told_at: Instant::now(),
        messages: Vec::new(),
    };
    let mut is_told = false;
    loop {
        // The window is longer than other waits may be.
        let within = Duration::from_secs(60);
        let packet = socket
            .next_within(within)
            .await
            .expect("a packet, or the end");
        let Some(packet) = packet else {
            assert!(is_told, "closed without a word");
            return heard;
        };
        let event = parse(packet.strip_prefix("42").expect("an event"));
        if event[0] == "rt:drain" {
            assert_eq!(event[1], json!({"reconnect_in_ms": 1000}));
            assert!(!is_told, "told twice");
            is_told = true;
            heard.told_at = Instant::now();
            // The test may have heard enough.
            let _ = told.send(());
        } else {
            heard.messages.push(event);
        }
    }
}

/// The status of `GET path` at the gateway of clients.
async fn status(api: &WithApi, path: &str) -> StatusCode {
    let url = format!("{}{path}", api.stack.gateway_url);
    let answer = api.stack.http().get(url).send().await;
    answer.expect("an answer").status()
}

const OPENING: &str = "/socket.io/?EIO=4&transport=polling";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_gateway_that_shuts_down_hands_its_clients_over_evenly_and_serves_the_others() {
    let options = Options::default()
        .mode(Mode::Binaries)
        .log("info")
        .gateway("drain.window_secs", WINDOW_SECS);
    let api = WithApi::start_with(options).await;
    let other = api.stack.start_gateway().await;
    let (told, mut tellings) = mpsc::unbounded_channel();
    let mut clients = JoinSet::new();
    for user in 0..SOCKETS {
        let mut socket = api.user(&format!("user-{user}")).await;
        socket.subscribe("lobby").await;
        clients.spawn(listen(user, socket, told.clone()));
    }
    assert_eq!(status(&api, "/health/ready").await, StatusCode::OK);
    assert_eq!(status(&api, OPENING).await, StatusCode::OK);

    let begun = Instant::now();
    api.stack.terminate_gateway();
    for _ in 0..SOCKETS / 2 {
        soon("a client that is told", tellings.recv()).await;
    }
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(status(&api, "/health/ready").await, unavailable);
    assert_eq!(status(&api, "/health/live").await, StatusCode::OK);
    assert_eq!(status(&api, OPENING).await, unavailable);
    let message = json!({"room": "lobby", "event": "news"});
    api.post("/v1/publish", message).await.ok();
    let published = Instant::now();

    let mut per_second = vec![0; WINDOW_SECS + 1];
    let mut reached = 0;
    while let Some(heard) = soon("the end of a client", clients.join_next()).await {
        let heard = heard.expect("no panic");
        let second = (heard.told_at - begun).as_secs();
        per_second[usize::try_from(second).expect("a few seconds")] += 1;
        let has_it = heard.messages.iter().any(|event| event[0] == "news");
        assert!(has_it || heard.told_at < published, "it missed a message");
        reached += usize::from(has_it);
        // Nobody signs in again: the same token is good for the other gateway.
        let sub = format!("user-{}", heard.user);
        let token = api.stack.forge().claim("sub", sub).token();
        let opening = Opening::of(&api.stack).at(other.address);
        opening.admitted(&token).await;
    }
    assert!(reached >= SOCKETS / 3, "only {reached} were still there");
    assert!(
        per_second.iter().all(|count| *count <= MOST_A_SECOND),
        "{per_second:?}"
    );
    let ended = api.stack.gateway_ended().await;
    assert!(ended.status.success(), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_by_a_back_end_leaves_the_gateway_serving_and_clients_miss_nothing() {
    let api = WithApi::start().await;
    let mut alice = api.user("alice").await;
    let place = alice.subscribe("lobby").await;
    let bearer = format!("Bearer {}", api.back_end(ALL_SCOPES).token());
    let headers = [("authorization", &*bearer), ("idempotency-key", "once")];
    let drain = || {
        let body = json!({"window_secs": 2});
        api.call_with(Method::POST, "/v1/drain", &headers, Some(body))
    };
    let answer = drain().await.ok();
    assert_eq!(answer, json!({"sockets": 1, "window_secs": 2}));
    let event = alice.event().await;
    assert_eq!(event, json!(["rt:drain", {"reconnect_in_ms": 1000}]));
    assert_eq!(alice.close_code().await, 1001);
    // What is published while she is away waits for her.
    let message = json!({"room": "lobby", "event": "news", "data": 1});
    api.post("/v1/publish", message).await.ok();
    eventually("a gateway that is ready again", async || {
        status(&api, "/health/ready").await == StatusCode::OK
    })
    .await;
    let mut alice = api.user("alice").await;
    let since = json!({"epoch": place["epoch"], "offset": place["offset"]});
    let back = json!({"room": "lobby", "since": since});
    let back = alice.call("rt:subscribe", back).await;
    assert_eq!(
        (&back["ok"], &back["recovered"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(back["messages"][0]["event"], "news", "{back}");
    // The request that is sent again is answered as before, and nobody is told twice.
    assert_eq!(drain().await.ok(), answer);
    assert_eq!(alice.publish("lobby", json!(2)).await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_needs_rt_kick_and_a_window_of_an_hour_at_most() {
    let api = WithApi::start().await;
    let drain = async |scope: &str, body: Value| {
        let token = api.back_end(scope).token();
        api.call(Method::POST, "/v1/drain", &token, Some(body))
            .await
    };
    let refused = drain("rt.publish rt.read", json!({})).await;
    assert_eq!(
        (refused.status, refused.code()),
        (StatusCode::FORBIDDEN, "insufficient_scope")
    );
    let refused = drain("rt.kick", json!({"window_secs": 3601})).await;
    assert_eq!(refused.code(), "invalid_request");
    let answer = drain("rt.kick", json!({"window_secs": 3600})).await.ok();
    assert_eq!(answer, json!({"sockets": 0, "window_secs": 3600}));
    let held = api.back_end("rt.kick").claim(
        "authorization_details",
        json!([{"type": "realtime", "actions": ["pub"], "rooms": ["lobby"]}]),
    );
    let refused = api
        .call(Method::POST, "/v1/drain", &held.token(), Some(json!({})))
        .await;
    assert_eq!(refused.code(), "forbidden");
}
