//! Gateways that hand their clients over to others: at a shutdown, and at the request of a back end.

use std::time::{Duration, Instant};

use harness::{
    Mode, Opening, Options, Redis, WebSocket,
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

/// A client, and the messages of the lobby that it has had.
struct Client {
    socket: WebSocket,
    epoch: Value,
    offsets: Vec<u64>,
}

impl Client {
    async fn admitted(opening: &Opening, token: &str) -> Self {
        let mut socket = opening.clone().admitted(token).await;
        let answer = socket.subscribe("lobby").await;
        assert_eq!(answer["offset"], 0, "{answer}");
        Self {
            socket,
            epoch: answer["epoch"].clone(),
            offsets: Vec::new(),
        }
    }

    /// Listens until the end of the connection, and returns when `rt:drain` came. `told` hears of it then.
    async fn drained(&mut self, told: mpsc::UnboundedSender<()>) -> Instant {
        let mut told_at = None;
        loop {
            // The window is longer than other waits may be.
            let within = Duration::from_secs(60);
            let packet = self.socket.next_within(within).await;
            let Some(packet) = packet.expect("a packet, or the end") else {
                return told_at.expect("a word before the end");
            };
            let event = parse(packet.strip_prefix("42").expect("an event"));
            if event[0] == "rt:drain" {
                assert_eq!(event[1], json!({"reconnect_in_ms": 1000}));
                assert_eq!(told_at, None, "told twice");
                told_at = Some(Instant::now());
                told.send(()).expect("a test that listens");
            } else {
                self.offsets
                    .push(event[2]["offset"].as_u64().expect("an offset"));
            }
        }
    }

    /// Comes back by `opening` with the same token, and gets what was published meanwhile.
    async fn comes_back(&mut self, opening: &Opening, token: &str) {
        self.socket = opening.clone().admitted(token).await;
        let offset = self.offsets.last().copied().unwrap_or_default();
        let since = json!({"epoch": self.epoch, "offset": offset});
        let payload = json!({"room": "lobby", "since": since});
        let answer = self.socket.call("rt:subscribe", payload).await;
        assert_eq!(answer["recovered"], true, "{answer}");
        let missed = answer["messages"].as_array().expect("messages").iter();
        let missed = missed.map(|entry| entry["meta"]["offset"].as_u64());
        self.offsets
            .extend(missed.map(|offset| offset.expect("an offset")));
        assert_eq!(
            self.offsets.last().copied().unwrap_or_default(),
            answer["offset"]
        );
    }
}

/// The status of `GET path` at the gateway of clients.
async fn status(api: &WithApi, path: &str) -> StatusCode {
    let url = format!("{}{path}", api.stack.gateway_url);
    let answer = api.stack.http().get(url).send().await;
    answer.expect("an answer").status()
}

const OPENING: &str = "/socket.io/?EIO=4&transport=polling";

/// Starts clients that come back to another gateway when theirs drains. Each returns when it was told.
async fn start_clients(
    api: &WithApi,
    other: &Opening,
    told: &mpsc::UnboundedSender<()>,
) -> JoinSet<Instant> {
    let opening = Opening::of(&api.stack);
    let mut clients = JoinSet::new();
    for user in 0..SOCKETS {
        // Nobody signs in again: the same token is good for the other gateway.
        let token = api
            .stack
            .forge()
            .claim("sub", format!("user-{user}"))
            .token();
        let mut client = Client::admitted(&opening, &token).await;
        let (other, told) = (other.clone(), told.clone());
        clients.spawn(async move {
            let told_at = client.drained(told).await;
            client.comes_back(&other, &token).await;
            let count = client.offsets.len() as u64;
            assert!(
                client.offsets.into_iter().eq(1..=count),
                "a message is missing"
            );
            told_at
        });
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server and the built binaries"]
async fn a_gateway_that_shuts_down_hands_its_clients_over_evenly_and_nobody_misses_a_message() {
    let redis = Redis::start().await;
    let options = Options::default()
        .mode(Mode::Binaries)
        .log("info")
        .gateway("cluster.url", redis.url())
        .gateway("history.messages", 2 * SOCKETS)
        .gateway("drain.window_secs", WINDOW_SECS);
    let api = WithApi::start_with(options).await;
    let gateway = api.stack.start_gateway().await;
    let other = Opening::of(&api.stack).at(gateway.address);
    let (told, mut tellings) = mpsc::unbounded_channel();
    let mut clients = start_clients(&api, &other, &told).await;
    let token = api.stack.forge().token();
    let mut publisher = other.clone().admitted(&token).await;
    assert_eq!(status(&api, "/health/ready").await, StatusCode::OK);
    assert_eq!(status(&api, OPENING).await, StatusCode::OK);

    let begun = Instant::now();
    api.stack.terminate_gateway();
    for count in 0..SOCKETS {
        soon("a client that is told", tellings.recv()).await;
        publisher.publish("lobby", json!(count)).await;
        if count == SOCKETS / 2 {
            let unavailable = StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(status(&api, "/health/ready").await, unavailable);
            assert_eq!(status(&api, "/health/live").await, StatusCode::OK);
            assert_eq!(status(&api, OPENING).await, unavailable);
            api.get("/v1/rooms").await.ok();
        }
    }
    let mut per_second = vec![0; WINDOW_SECS + 1];
    while let Some(told_at) = soon("a client that is back", clients.join_next()).await {
        let second = (told_at.expect("no panic") - begun).as_secs();
        per_second[usize::try_from(second).expect("a few seconds")] += 1;
    }
    assert!(
        per_second.iter().all(|count| *count <= MOST_A_SECOND),
        "{per_second:?}"
    );
    let ended = api.stack.gateway_ended().await;
    assert!(ended.status.success(), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_by_a_back_end_leaves_the_gateway_serving_and_clients_miss_nothing() {
    // socketioxide closes without a code.
    let options = Options::default().gateway("carrier", "engine");
    let api = WithApi::start_with(options).await;
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
