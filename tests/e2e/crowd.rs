//! Presence in a crowded room: announcements come in batches, in order, and the counts end right.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use harness::{Opening, Options, Stack, WebSocket};
use serde_json::{Value, json};

/// Connections of the crowd, the watcher's included: rooms of more than 50 announce in batches.
const CROWD: usize = 80;

async fn start() -> Stack {
    Stack::start_with(Options::default().gateway("presence.leave_delay_secs", 0)).await
}

async fn member(stack: &Stack, sub: &str) -> WebSocket {
    let token = stack.forge().claim("sub", sub).token();
    let mut socket = Opening::of(stack).admitted(&token).await;
    socket.subscribe("lobby").await;
    socket
}

/// A watcher with full presence, and a crowd around it.
async fn crowd(stack: &Stack) -> (WebSocket, Vec<WebSocket>, Vec<Value>) {
    let token = stack.forge().claim("sub", "watcher").token();
    let mut watcher = Opening::of(stack).admitted(&token).await;
    let payload = json!({"room": "lobby", "presence": "full"});
    let answer = watcher.call("rt:subscribe", payload).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let names: Vec<_> = (1..CROWD).map(|number| format!("user-{number}")).collect();
    let members = join_all(names.iter().map(|name| member(stack, name))).await;
    let events = until_count(&mut watcher, CROWD).await;
    (watcher, members, events)
}

/// Reads events until so many users are there.
async fn until_count(watcher: &mut WebSocket, count: usize) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    while events.last().is_none_or(|event| event[1]["count"] != count) {
        events.push(watcher.event().await);
    }
    events
}

/// The changes of these events, one user each, in their order.
fn changes(events: &[Value]) -> Vec<(String, String)> {
    let mut changes = Vec::new();
    for event in events {
        let kind = event[0].as_str().expect("a name");
        let users = match event[1].get("users") {
            Some(users) => users.as_array().expect("users").clone(),
            None => vec![event[1]["user"].clone()],
        };
        let subs = users
            .iter()
            .map(|user| user["sub"].as_str().expect("a sub"));
        changes.extend(subs.map(|sub| (kind.to_owned(), sub.to_owned())));
    }
    changes
}

fn users_in(event: &Value) -> usize {
    event[1]["users"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_announced_in_batches_that_name_everybody_once() {
    let stack = start().await;
    let (mut watcher, mut members, events) = crowd(&stack).await;
    let joined = changes(&events);
    assert!(joined.iter().all(|(kind, _)| kind == "rt:join"));
    let names: BTreeSet<_> = joined.iter().map(|(_, sub)| sub).collect();
    assert_eq!((names.len(), joined.len()), (CROWD - 1, CROWD - 1));
    assert!(events.len() < CROWD - 1, "{} announcements", events.len());
    assert!(events.iter().any(|event| users_in(event) > 1), "no batch");
    // The first ones were not yet a crowd, and were announced at once.
    assert!(
        events[..20]
            .iter()
            .all(|event| event[1]["user"].is_object())
    );
    assert_eq!(events.last().expect("events")[1]["connections"], CROWD);

    // So it is with the leaves.
    members.truncate(CROWD - 1 - 25);
    let events = until_count(&mut watcher, CROWD - 25).await;
    let left = changes(&events);
    assert_eq!(left.len(), 25);
    assert!(left.iter().all(|(kind, _)| kind == "rt:leave"));
    assert_eq!(events.last().expect("events")[1]["connections"], CROWD - 25);
    // A room that is no crowd any more announces at once, one by one.
    members.truncate(20);
    until_count(&mut watcher, 21).await;
    let _late = member(&stack, "late").await;
    let event = watcher.event().await;
    assert_eq!(
        event,
        json!(["rt:join", {"room": "lobby", "user": {"sub": "late"}, "count": 22, "connections": 22}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_and_a_leave_of_one_user_in_a_batch_keep_their_order() {
    const TURNS: usize = 5;
    let stack = start().await;
    let (mut watcher, members, _) = crowd(&stack).await;
    let token = stack.forge().claim("sub", "restless").token();
    let mut restless = Opening::of(&stack).admitted(&token).await;
    for _ in 0..TURNS {
        restless.subscribe("lobby").await;
        let gone = json!({"room": "lobby"});
        restless.call("rt:unsubscribe", gone).await;
    }
    // Its last word is a join, behind all others.
    restless.subscribe("lobby").await;
    let _last = member(&stack, "last").await;
    let mut seen = Vec::new();
    while seen.iter().all(|(_, sub)| sub != "last") {
        seen.extend(changes(&[watcher.event().await]));
    }
    seen.retain(|(_, sub)| sub == "restless");
    // A user who is back before the leave was told has not left, so turns may be missing.
    assert!(seen.len() % 2 == 1, "{seen:?}");
    for (number, (kind, _)) in seen.iter().enumerate() {
        let expected = ["rt:join", "rt:leave"][number % 2];
        assert_eq!(kind, expected, "{seen:?}");
    }
    assert_eq!(members.len(), CROWD - 1);
}
