//! Who is in a room: each user once, however many connections, and no noise when one reconnects.

use harness::{Opening, Options, Stack, WebSocket, forge::Forge};
use serde_json::{Value, json};

/// So that a leave is told at once.
fn at_once() -> Options {
    Options::default().gateway("presence.leave_delay_secs", 0)
}

fn user(stack: &Stack, sub: &str) -> Forge {
    stack.forge().claim("sub", sub)
}

async fn connected(stack: &Stack, sub: &str) -> WebSocket {
    Opening::of(stack).admitted(&user(stack, sub).token()).await
}

async fn enter(socket: &mut WebSocket, mode: &str) -> Value {
    let payload = json!({"room": "lobby", "presence": mode});
    let answer = socket.call("rt:subscribe", payload).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["presence"].clone()
}

async fn ask(socket: &mut WebSocket, mode: &str) -> Value {
    let payload = json!({"room": "lobby", "mode": mode});
    socket.call("rt:presence", payload).await
}

/// The users of an answer, by subject, each with the number of its connections.
fn users(presence: &Value) -> Vec<(String, u64)> {
    let users = presence["users"].as_array().expect("users");
    let mut users: Vec<_> = users
        .iter()
        .map(|user| {
            let connections = user["connections"].as_u64().expect("a number");
            (user["sub"].as_str().expect("a sub").to_owned(), connections)
        })
        .collect();
    users.sort();
    users
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_connection_of_a_user_is_a_join_and_only_the_last_a_leave() {
    let stack = Stack::start_with(at_once()).await;
    let mut watcher = connected(&stack, "watcher").await;
    let seen = enter(&mut watcher, "full").await;
    assert_eq!(users(&seen), [("watcher".to_owned(), 1)]);

    let (mut first, mut second) = (
        connected(&stack, "alice").await,
        connected(&stack, "alice").await,
    );
    first.subscribe("lobby").await;
    let joined = watcher.event().await;
    assert_eq!(joined[0], "rt:join");
    assert_eq!(
        joined[1],
        json!({"room": "lobby", "user": {"sub": "alice"}, "count": 2, "connections": 2})
    );
    second.subscribe("lobby").await;
    let seen = ask(&mut watcher, "full").await;
    assert_eq!(
        users(&seen),
        [("alice".to_owned(), 2), ("watcher".to_owned(), 1)]
    );
    assert_eq!(
        (&seen["count"], &seen["connections"]),
        (&json!(2), &json!(3))
    );

    let gone = json!({"room": "lobby"});
    first.call("rt:unsubscribe", gone).await;
    drop(second);
    let left = watcher.event().await;
    assert_eq!(left[0], "rt:leave");
    assert_eq!(
        left[1],
        json!({"room": "lobby", "user": {"sub": "alice"}, "count": 1, "connections": 1})
    );
    assert_eq!(
        users(&ask(&mut watcher, "full").await),
        [("watcher".to_owned(), 1)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnection_makes_no_noise() {
    let options = Options::default().gateway("presence.leave_delay_secs", 60);
    let stack = Stack::start_with(options).await;
    let mut watcher = connected(&stack, "watcher").await;
    enter(&mut watcher, "full").await;
    let mut alice = connected(&stack, "alice").await;
    alice.subscribe("lobby").await;
    assert_eq!(watcher.event().await[0], "rt:join");

    drop(alice);
    // She is still counted while she may come back.
    harness::eventually("the connection to be gone", async || {
        ask(&mut watcher, "count").await["connections"] == 1
    })
    .await;
    let seen = ask(&mut watcher, "full").await;
    assert_eq!(
        users(&seen),
        [("alice".to_owned(), 0), ("watcher".to_owned(), 1)]
    );
    let mut alice = connected(&stack, "alice").await;
    alice.subscribe("lobby").await;
    // Nothing was told of it: the next event is of somebody else.
    let mut bob = connected(&stack, "bob").await;
    bob.subscribe("lobby").await;
    let joined = watcher.event().await;
    assert_eq!(
        (&joined[0], &joined[1]["user"]["sub"]),
        (&json!("rt:join"), &json!("bob"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_told_as_much_as_it_asked_for() {
    let stack = Stack::start_with(at_once()).await;
    let mut full = connected(&stack, "full").await;
    enter(&mut full, "full").await;
    let mut count = connected(&stack, "count").await;
    let seen = enter(&mut count, "count").await;
    assert_eq!(seen, json!({"count": 2, "connections": 2}));
    assert_eq!(full.event().await[1]["user"]["sub"], "count");
    let mut off = connected(&stack, "off").await;
    assert_eq!(enter(&mut off, "off").await, Value::Null);
    assert_eq!(full.event().await[1]["user"]["sub"], "off");
    assert_eq!(
        count.event().await,
        json!(["rt:join", {"room": "lobby", "count": 3, "connections": 3}])
    );

    // Whoever turned it off hears the room and nothing of who comes.
    let answer = ask(&mut full, "off").await;
    assert_eq!(answer, json!({"ok": true, "count": 3, "connections": 3}));
    connected(&stack, "another").await.subscribe("lobby").await;
    for socket in [&mut full, &mut off] {
        socket.publish("lobby", json!("hello")).await;
    }
    assert_eq!(full.event().await[1], "hello");
    assert_eq!(off.event().await[1], "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_for_those_who_may_see_it() {
    let stack = Stack::start().await;
    let granted = |actions: &[&str]| {
        let detail = json!([{"type": "realtime", "actions": actions, "rooms": ["news"]}]);
        stack.forge().claim("authorization_details", detail).token()
    };
    let mut seeing = Opening::of(&stack)
        .admitted(&granted(&["sub", "prs"]))
        .await;
    let mut hearing = Opening::of(&stack).admitted(&granted(&["sub"])).await;
    let subscribe = json!({"room": "news", "presence": "count"});
    let presence = json!({"room": "news", "mode": "count"});
    for (event, payload) in [("rt:subscribe", subscribe), ("rt:presence", presence)] {
        let answer = hearing.call(event, payload.clone()).await;
        assert_eq!(answer["error"]["code"], "forbidden", "{event}");
        let answer = seeing.call(event, payload).await;
        assert_eq!(answer["ok"], true, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_named_up_to_the_limit_and_counted_whole() {
    let stack = Stack::start_with(at_once().gateway("presence.users", 2)).await;
    let mut sockets = Vec::new();
    for number in 0..3 {
        let mut socket = connected(&stack, &format!("user-{number}")).await;
        socket.subscribe("lobby").await;
        sockets.push(socket);
    }
    let seen = ask(&mut sockets[0], "full").await;
    assert_eq!(users(&seen).len(), 2);
    assert_eq!(
        (&seen["truncated"], &seen["count"]),
        (&json!(true), &json!(3))
    );
    drop(sockets.pop());
    harness::eventually("one to be gone", async || {
        let seen = ask(&mut sockets[0], "full").await;
        users(&seen).len() == 2 && seen.get("truncated").is_none() && seen["count"] == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_too_slow_to_hear_of_a_crowd_is_not_closed_but_told_so() {
    const MESSAGES: usize = 80;
    let options = at_once()
        .gateway("limits.outbound_bytes", 64 << 20)
        .gateway("limits.write_stall_secs", 60);
    let stack = Stack::start_with(options).await;
    let slow = Opening::of(&stack).receive_buffer_bytes(16 * 1024);
    let mut slow = slow.admitted(&user(&stack, "slow").token()).await;
    enter(&mut slow, "full").await;
    let mut busy = connected(&stack, "busy").await;
    busy.subscribe("lobby").await;
    assert_eq!(slow.event().await[1]["user"]["sub"], "busy");
    // More than half of what may wait for it, so that there is room for messages alone.
    let data = json!("x".repeat(1 << 19));
    for _ in 0..MESSAGES {
        busy.publish("lobby", data.clone()).await;
        busy.event().await;
    }
    let mut unseen = connected(&stack, "unseen").await;
    unseen.subscribe("lobby").await;
    for _ in 0..MESSAGES {
        assert_eq!(slow.event().await[1], data);
    }
    connected(&stack, "seen").await.subscribe("lobby").await;
    let joined = slow.event().await;
    assert_eq!(
        (&joined[0], &joined[1]["user"]["sub"], &joined[1]["missed"]),
        (&json!("rt:join"), &json!("seen"), &json!(true))
    );
    drop(unseen);
    // From then on nothing is missing.
    let left = slow.event().await;
    assert_eq!(
        (&left[0], left[1].get("missed")),
        (&json!("rt:leave"), None)
    );
}
