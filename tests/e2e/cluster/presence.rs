//! Presence in a room, on whichever gateway, and while Redis is away.

use harness::{Gateway, Opening, Options, Redis, Stack, WebSocket, api::WithApi, eventually};
use serde_json::{Value, json};

use super::{options, ready};

/// The shortest lease, so that a test can wait for its end.
fn with_short_leases(redis: &Redis) -> Options {
    options(redis)
        .gateway("cluster.lease_secs", 3)
        .gateway("presence.leave_delay_secs", 0)
}

async fn user(stack: &Stack, gateway: Option<&Gateway>, sub: &str) -> WebSocket {
    let token = stack.forge().claim("sub", sub).token();
    let opening = Opening::of(stack);
    match gateway {
        Some(gateway) => opening.at(gateway.address).admitted(&token).await,
        None => opening.admitted(&token).await,
    }
}

async fn watch(socket: &mut WebSocket) -> Value {
    let payload = json!({"room": "lobby", "presence": "full"});
    let answer = socket.call("rt:subscribe", payload).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["presence"].clone()
}

async fn ask(socket: &mut WebSocket) -> Value {
    socket.call("rt:presence", json!({"room": "lobby"})).await
}

/// The subjects that an answer names, in order, and whether it says that some may be missing.
fn users(presence: &Value) -> (Vec<String>, bool) {
    let users = presence["users"].as_array().expect("users");
    let mut users: Vec<_> = users
        .iter()
        .map(|user| user["sub"].as_str().expect("a sub").to_owned())
        .collect();
    users.sort();
    assert_eq!(presence["count"], users.len(), "{presence}");
    (users, presence["partial"] == true)
}

fn named(subs: &[&str]) -> (Vec<String>, bool) {
    (subs.iter().map(|sub| (*sub).to_owned()).collect(), false)
}

/// The kind of the next announcement, and the user that it is about.
async fn announced(socket: &mut WebSocket) -> (String, String) {
    loop {
        let event = socket.event().await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        if event[0] != "rt:gap" {
            return (text(&event[0]), text(&event[1]["user"]["sub"]));
        }
    }
}

fn change(kind: &str, sub: &str) -> (String, String) {
    (kind.to_owned(), sub.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn who_is_in_a_room_is_the_same_on_every_gateway() {
    let redis = Redis::start().await;
    let api = WithApi::start_with(with_short_leases(&redis)).await;
    let stack = &api.stack;
    let other = stack.start_gateway().await;
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    let mut alice = user(stack, Some(&other), "alice").await;
    watch(&mut alice).await;
    let mut bob = user(stack, None, "bob").await;
    eventually("alice on the other gateway", async || {
        users(&ask(&mut bob).await) == named(&["alice"])
    })
    .await;
    assert_eq!(users(&watch(&mut bob).await), named(&["alice", "bob"]));
    assert_eq!(announced(&mut alice).await, change("rt:join", "bob"));
    // Bob is there already: a second connection is no second user.
    let mut again = user(stack, Some(&other), "bob").await;
    again.subscribe("lobby").await;
    eventually("three connections", async || {
        api.get("/v1/rooms/lobby/presence").await.ok()["connections"] == 3
    })
    .await;
    let presence = api.get("/v1/rooms/lobby/presence").await.ok();
    assert_eq!(users(&presence), named(&["alice", "bob"]));
    let rooms = api.get("/v1/rooms").await.ok();
    let expected = json!({"rooms": [{"room": "lobby", "connections": 3}]});
    assert_eq!(rooms, expected);

    drop(bob);
    drop(again);
    assert_eq!(announced(&mut alice).await, change("rt:leave", "bob"));
    eventually("alice alone", async || {
        let counted = api.get("/v1/rooms/lobby/presence?mode=count").await.ok();
        counted == json!({"count": 1, "connections": 1})
    })
    .await;
    // A gateway that ends takes its users along.
    let mut carol = user(stack, None, "carol").await;
    assert_eq!(users(&watch(&mut carol).await), named(&["alice", "carol"]));
    drop(alice);
    other.stop().await;
    assert_eq!(announced(&mut carol).await, change("rt:leave", "alice"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn while_redis_is_away_presence_says_so_and_the_others_leave_with_their_leases() {
    let redis = Redis::start().await;
    let (stack, other) = super::pair(with_short_leases(&redis)).await;
    let mut alice = user(&stack, Some(&other), "alice").await;
    watch(&mut alice).await;
    let mut bob = user(&stack, None, "bob").await;
    watch(&mut bob).await;
    eventually("both", async || {
        users(&ask(&mut bob).await) == named(&["alice", "bob"])
    })
    .await;

    redis.pause();
    super::away::degraded(&stack.gateway_url).await;
    assert!(users(&ask(&mut bob).await).1, "it may be old");
    let mut carol = user(&stack, None, "carol").await;
    let presence = watch(&mut carol).await;
    assert!(users(&presence).1, "{presence}");
    // An announcement agrees with the answer of that moment.
    let mut told = Vec::new();
    while told.len() < 3 {
        let (kind, sub) = announced(&mut bob).await;
        if sub != "bob" {
            told.push((kind, sub));
        }
        if told.last() == Some(&change("rt:leave", "alice")) {
            break;
        }
    }
    assert!(told.contains(&change("rt:join", "carol")), "{told:?}");
    let (present, is_partial) = users(&ask(&mut bob).await);
    assert_eq!((present, is_partial), (named(&["bob", "carol"]).0, true));

    redis.go_on();
    ready(&stack.gateway_url).await;
    loop {
        if announced(&mut bob).await == change("rt:join", "alice") {
            break;
        }
    }
    for socket in [&mut alice, &mut bob] {
        eventually("the same three", async || {
            users(&ask(socket).await) == named(&["alice", "bob", "carol"])
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_redis_that_lost_everything_is_told_again_who_is_there() {
    let mut redis = Redis::start().await;
    let (stack, other) = super::pair(with_short_leases(&redis)).await;
    let mut alice = user(&stack, Some(&other), "alice").await;
    watch(&mut alice).await;
    let mut bob = user(&stack, None, "bob").await;
    watch(&mut bob).await;
    assert_eq!(announced(&mut alice).await, change("rt:join", "bob"));
    redis.kill().await;
    redis.restart().await;
    redis.command("FLUSHALL").await;
    let third = stack.start_gateway().await;
    let mut carol = user(&stack, Some(&third), "carol").await;
    watch(&mut carol).await;
    for socket in [&mut alice, &mut bob, &mut carol] {
        eventually("all three", async || {
            users(&ask(socket).await) == named(&["alice", "bob", "carol"])
        })
        .await;
    }
}
