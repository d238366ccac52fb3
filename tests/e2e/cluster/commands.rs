//! The API for back ends concerns the clients of all gateways.

use harness::{Gateway, Opening, Redis, WebSocket, api::WithApi, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{options, ready};

/// A gateway that listens for back ends, and another one.
async fn pair(redis: &Redis) -> (WithApi, Gateway) {
    let api = WithApi::start_with(options(redis)).await;
    let other = api.stack.start_gateway().await;
    ready(&api.stack.gateway_url).await;
    ready(&other.url).await;
    // Each has a lease, and listens.
    eventually("an answer of both", async || {
        let answer = api.get("/v1/connections").await.ok();
        let register = redis.command("ZCARD latchkey:gateways").await;
        register == ":2" && answer.get("partial").is_none()
    })
    .await;
    (api, other)
}

async fn user_of(api: &WithApi, gateway: &Gateway, sub: &str) -> WebSocket {
    let token = api.stack.forge().claim("sub", sub).token();
    let opening = Opening::of(&api.stack).at(gateway.address);
    opening.admitted(&token).await
}

/// Acknowledges the next event with its name.
async fn acknowledge(socket: &mut WebSocket) {
    let packet = socket.packet().await;
    let digits = packet.strip_prefix("42").expect("an event");
    let end = digits.find('[').expect("arguments");
    let id = &digits[..end];
    socket.send(format!("43{id}[\"heard\"]")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_user_is_reached_and_disconnected_on_whichever_gateway() {
    let redis = Redis::start().await;
    let (api, other) = pair(&redis).await;
    let (mut here, mut there) = (
        api.user("alice").await,
        user_of(&api, &other, "alice").await,
    );
    let mut bob = user_of(&api, &other, "bob").await;

    let message = json!({"event": "news", "data": {"n": 1}});
    let answer = api.post("/v1/users/alice/emit", message).await.ok();
    assert_eq!(
        answer,
        json!({"id": answer["id"], "sockets": 2}),
        "no gateway is missing"
    );
    let (one, two) = (here.event().await, there.event().await);
    assert_eq!(one, two);
    assert_eq!(one[2]["id"], answer["id"]);

    let message = json!({"event": "question", "ack": true, "timeout_ms": 10_000});
    let asking = api.post("/v1/users/alice/emit", message);
    let (answer, (), ()) = tokio::join!(asking, acknowledge(&mut here), acknowledge(&mut there));
    let answer = answer.ok();
    assert_eq!(answer["sockets"], 2);
    let acks = answer["acks"].as_array().expect("acks");
    let heard: Vec<_> = acks.iter().map(|ack| &ack["answer"]).collect();
    assert_eq!(heard, [&json!(["heard"]), &json!(["heard"])]);
    assert_ne!(acks[0]["connection"], acks[1]["connection"]);

    let message = json!({"event": "everybody"});
    let answer = api.post("/v1/broadcast", message).await.ok();
    assert_eq!(answer["sockets"], 3, "{answer}");
    for socket in [&mut here, &mut there, &mut bob] {
        assert_eq!(socket.event().await[0], "everybody");
    }

    let whom = json!({"sub": "alice"});
    let answer = api.post("/v1/disconnect", whom.clone()).await.ok();
    assert_eq!(answer, json!({"disconnected": 2}));
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.closed().await, ["41"]);
    }
    let answer = api.post("/v1/disconnect", whom).await.ok();
    assert_eq!(answer, json!({"disconnected": 0}));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn connections_and_rooms_of_all_gateways_are_one_list() {
    let redis = Redis::start().await;
    let (api, other) = pair(&redis).await;
    let mut sockets = Vec::new();
    for number in 0..3 {
        let sub = format!("user-{number}");
        let details = json!([{"type": "realtime", "actions": ["sub"], "rooms": ["room:*"]}]);
        let token = api.stack.forge().claim("sub", sub);
        let token = token.claim("authorization_details", details).token();
        let opening = Opening::of(&api.stack);
        let mut here = opening.admitted(&token).await;
        here.subscribe(&format!("room:{number}")).await;
        let mut there = opening.at(other.address).admitted(&token).await;
        there.subscribe(&format!("room:{}", number + 1)).await;
        sockets.extend([here, there]);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/connections?limit=4".to_owned();
    loop {
        let answer = api.get(&path).await.ok();
        assert_eq!(answer["count"], 6, "{answer}");
        seen.extend(answer["connections"].as_array().expect("a list").clone());
        let Some(next) = answer["next"].as_str() else {
            break;
        };
        path = format!("/v1/connections?limit=4&after={next}");
    }
    let mut ids: Vec<_> = seen
        .iter()
        .map(|one| one["connection"].to_string())
        .collect();
    let in_order = ids.is_sorted();
    ids.dedup();
    assert!(in_order && ids.len() == 6, "{ids:?}");
    let mut gateways: Vec<_> = seen.iter().map(|one| one["gateway"].to_string()).collect();
    gateways.sort();
    gateways.dedup();
    assert_eq!(gateways.len(), 2, "{gateways:?}");
    let answer = api.get("/v1/connections?sub=user-1").await.ok();
    assert_eq!(answer["count"], 2);

    let counts = |from: usize, counts: &[usize]| {
        let rooms = counts.iter().zip(from..);
        let rooms = rooms
            .map(|(count, number)| json!({"room": format!("room:{number}"), "connections": count}));
        Value::Array(rooms.collect())
    };
    let answer = api.get("/v1/rooms?prefix=room").await.ok();
    assert_eq!(answer, json!({"rooms": counts(0, &[1, 2, 2, 1])}));
    let answer = api.get("/v1/rooms?prefix=room&limit=3").await.ok();
    let expected = json!({"rooms": counts(0, &[1, 2, 2]), "next": "room:2"});
    assert_eq!(answer, expected);
    let answer = api.get("/v1/rooms?prefix=room&after=room:2").await.ok();
    assert_eq!(answer, json!({"rooms": counts(3, &[1])}));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_gateway_that_does_not_answer_is_named_and_the_others_do_what_they_are_asked_for() {
    let redis = Redis::start().await;
    let (api, other) = pair(&redis).await;
    let mut there = user_of(&api, &other, "alice").await;
    // A gateway with a lease, whose process has gone.
    let lease = redis.command("ZADD latchkey:gateways 99999999999999 gone-x.1");
    assert_eq!(lease.await, ":1");
    let expected = json!({"disconnected": 1, "partial": true, "missing": ["gone-x"]});
    let answer = api.post("/v1/disconnect", json!({"sub": "alice"})).await;
    assert_eq!(answer.ok(), expected);
    assert_eq!(there.closed().await, ["41"]);
    let answer = api.get("/v1/connections").await.ok();
    assert_eq!(answer["missing"], json!(["gone-x"]), "{answer}");
    let drained = api.post("/v1/drain", json!({"gateway": "gone-x"})).await;
    assert_eq!(drained.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(drained.code(), "unavailable");

    // Without Redis, the gateway that is asked does what it can.
    let mut here = api.user("alice").await;
    redis.pause();
    super::away::degraded(&api.stack.gateway_url).await;
    let answer = api
        .post("/v1/disconnect", json!({"sub": "alice"}))
        .await
        .ok();
    assert_eq!(
        (&answer["disconnected"], &answer["partial"]),
        (&json!(1), &json!(true))
    );
    let missing = answer["missing"].as_array().expect("names");
    assert!(!missing.is_empty(), "{answer}");
    assert_eq!(here.closed().await, ["41"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_gateway_is_drained_by_its_name() {
    let redis = Redis::start().await;
    let (api, other) = pair(&redis).await;
    let (mut here, mut there) = (api.user("alice").await, user_of(&api, &other, "bob").await);
    let answer = api.get("/v1/connections?sub=bob").await.ok();
    let name = answer["connections"][0]["gateway"].clone();
    let body = json!({"gateway": "nobody", "window_secs": 0});
    let refused = api.post("/v1/drain", body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.code(), "invalid_request");

    let body = json!({"gateway": name, "window_secs": 0});
    let answer = api.post("/v1/drain", body).await.ok();
    let expected = json!({"sockets": 1, "window_secs": 0, "gateway": name});
    assert_eq!(answer, expected);
    assert_eq!(there.event().await[0], "rt:drain");
    // The clients of the gateway that was asked stay.
    let pinged = here.call("rt:presence", json!({"room": "lobby"})).await;
    assert_eq!(pinged["ok"], true);
}
