//! An Engine.IO `sid` is a secret, and worth nothing in other hands than those that got it.

use std::net::{IpAddr, Ipv4Addr};

use harness::{Opening, Options, Polling, Stack, WebSocket};
use reqwest::StatusCode;
use serde_json::json;

/// Another address of this machine.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What a thief would have the owner say.
fn forged_event() -> String {
    let payload = json!({"room": "lobby", "event": "message", "data": "stolen"});
    format!("42{}", json!(["rt:publish", payload]))
}

/// Another client's use of the session is answered like that of a session which does not exist.
async fn assert_worthless(what: &str, thief: &Polling) {
    let mut unknown = thief.clone();
    unknown.sid = "AAAAAAAAAAAAAAAA".to_owned();
    for (real, none) in [
        (thief.get().await, unknown.get().await),
        (
            thief.post(forged_event()).await,
            unknown.post(forged_event()).await,
        ),
    ] {
        assert_eq!(real.0, StatusCode::BAD_REQUEST, "{what}");
        assert_eq!(real, none, "{what}");
    }
}

async fn listener(stack: &Stack) -> WebSocket {
    let mut listener = Opening::of(stack).admitted(&stack.forge().token()).await;
    listener.subscribe("lobby").await;
    listener
}

/// The owner is served as ever, and nothing was said in its name before.
async fn assert_owner_goes_on(owner: &mut Polling, listener: &mut WebSocket) {
    let payload = json!({"room": "lobby", "event": "message", "data": "owner"});
    let answer = owner.call("rt:publish", payload).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(listener.event().await[1], "owner");
}

/// A stack whose sessions are bound to the address of their opener.
async fn bound_to_addresses() -> Stack {
    Stack::start_with(Options::default().gateway("auth.session_binding", "address")).await
}

fn with_sid(mut client: Polling, sid: &str) -> Polling {
    sid.clone_into(&mut client.sid);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sid_in_the_hands_of_another_client_is_unknown() {
    const PAGES: [&str; 2] = ["https://app.example.org", "https://other.example.org"];
    let options = Options::default().gateway("origins", json!(PAGES));
    let stack = Stack::start_with(options).await;
    let mut listener = listener(&stack).await;
    let mut owner = Polling::of(&stack)
        .header("origin", PAGES[0])
        .admitted(&stack.forge().token())
        .await;
    let other = stack.forge().token();
    let bearer = format!("Bearer {other}");
    for (what, thief) in [
        ("another page", owner.clone().header("origin", PAGES[1])),
        ("a token in the query", owner.clone().query("token", &other)),
        (
            "a token in the header",
            owner.clone().header("authorization", &bearer),
        ),
    ] {
        assert_worthless(what, &thief).await;
        assert_owner_goes_on(&mut owner, &mut listener).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sid_at_another_address_is_unknown_where_the_setting_says_so() {
    let stack = bound_to_addresses().await;
    let mut listener = listener(&stack).await;
    let mut owner = Polling::of(&stack).admitted(&stack.forge().token()).await;
    for (what, thief) in [
        (
            "another agent",
            owner.clone().header("user-agent", "other/1"),
        ),
        ("no agent", owner.clone().header("user-agent", "")),
        ("another address", owner.clone().from(ELSEWHERE)),
    ] {
        assert_worthless(what, &thief).await;
        assert_owner_goes_on(&mut owner, &mut listener).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_when_its_client_changes_its_network() {
    let stack = Stack::start().await;
    let mut listener = listener(&stack).await;
    let token = stack.forge().token();
    // Each of them presents its token in another way, and changes what it can.
    let by_payload = Polling::of(&stack).admitted(&token).await;
    let by_query = Polling::of(&stack).query("token", &token);
    let by_query = by_query.admitted(&token).await;
    let by_header = Polling::of(&stack).header("authorization", &format!("Bearer {token}"));
    let by_header = by_header.admitted(&token).await;
    let without_header = with_sid(Polling::of(&stack), &by_header.sid);
    for client in [by_payload, by_query, by_header, without_header] {
        let mut elsewhere = client
            .clone()
            .from(ELSEWHERE)
            .header("user-agent", "other/1");
        let mut back = client;
        for _ in 0..2 {
            assert_owner_goes_on(&mut elsewhere, &mut listener).await;
            assert_owner_goes_on(&mut back, &mut listener).await;
        }
    }
    let owner = Polling::of(&stack).admitted(&token).await;
    let upgrade = Opening::of(&stack).query("sid", &owner.sid).from(ELSEWHERE);
    let mut socket = upgrade
        .open()
        .await
        .expect("an upgrade from another address");
    socket.send("2probe").await;
    assert_eq!(socket.packet().await, "3probe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sid_goes_with_the_token_that_opened_it() {
    let by_credentials = Stack::start().await;
    let by_address = bound_to_addresses().await;
    // Some clients send the header with the first request alone.
    for (stack, opened_by) in [
        (&by_credentials, "query"),
        (&by_address, "query"),
        (&by_address, "header"),
    ] {
        let mut listener = listener(stack).await;
        let token = stack.forge().token();
        let bearer = |token: &str| format!("Bearer {token}");
        let opener = match opened_by {
            "query" => Polling::of(stack).query("token", &token),
            _ => Polling::of(stack).header("authorization", &bearer(&token)),
        };
        let mut owner = opener.open().await.expect("a session");
        let packet = owner.connect(&json!({})).await;
        assert!(packet.starts_with("40"), "{packet}");
        let other = stack.forge().token();
        for (what, thief) in [
            ("no token", Polling::of(stack)),
            (
                "another in the query",
                Polling::of(stack).query("token", &other),
            ),
            (
                "another in the header",
                Polling::of(stack).header("authorization", &bearer(&other)),
            ),
        ] {
            assert_worthless(what, &with_sid(thief, &owner.sid)).await;
            assert_owner_goes_on(&mut owner, &mut listener).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_cannot_upgrade_a_session_to_itself() {
    let stack = bound_to_addresses().await;
    let mut listener = listener(&stack).await;
    let token = stack.forge().token();
    let mut owner = Polling::of(&stack)
        .query("token", &token)
        .open()
        .await
        .expect("a session");
    owner.connect(&json!({})).await;
    let upgrade = Opening::of(&stack).query("sid", &owner.sid);
    let own = upgrade.clone().query("token", &token);
    let other = stack.forge().token();
    for (what, thief) in [
        ("another address", own.clone().from(ELSEWHERE)),
        ("no token", upgrade.clone()),
        ("another token", upgrade.clone().query("token", &other)),
        (
            "a token in the header",
            own.clone()
                .header("authorization", &format!("Bearer {other}")),
        ),
    ] {
        assert_eq!(thief.open().await.err(), Some(400), "{what}");
        assert_owner_goes_on(&mut owner, &mut listener).await;
    }
    let mut socket = own.open().await.expect("the owner's own upgrade");
    socket.send("2probe").await;
    assert_eq!(socket.packet().await, "3probe");
    socket.send("5").await;
    socket.publish("lobby", json!("upgraded")).await;
    assert_eq!(listener.event().await[1], "upgraded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_session_takes_no_polls() {
    let stack = Stack::start().await;
    let mut listener = listener(&stack).await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut thief = Polling::of(&stack);
    thief.sid.clone_from(&socket.sid);
    assert_worthless("polls", &thief).await;
    let upgrade = Opening::of(&stack).query("sid", &socket.sid).open().await;
    assert_eq!(upgrade.err(), Some(400));
    socket.publish("lobby", json!("owner")).await;
    assert_eq!(listener.event().await[1], "owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_receives_has_the_sid_of_another() {
    let stack = Stack::start().await;
    let alice = Opening::of(&stack).session().await;
    let bob = Opening::of(&stack).session().await;
    let mut sockets = [alice, bob];
    let mut ids = Vec::new();
    for socket in &mut sockets {
        let token = stack.forge().token();
        let socket_id = socket
            .connect(&json!({ "token": token }))
            .await
            .expect("a good token");
        ids.push([socket.sid.clone(), socket_id]);
    }
    let mut received = [Vec::new(), Vec::new()];
    for (socket, received) in sockets.iter_mut().zip(&mut received) {
        received.push(socket.subscribe("lobby").await.to_string());
    }
    for (socket, received) in sockets.iter_mut().zip(&mut received) {
        received.push(socket.publish("lobby", json!("hello")).await.to_string());
        let denied = socket
            .call(
                "rt:publish",
                json!({"room": "secret", "event": "a", "data": 1}),
            )
            .await;
        received.push(denied.to_string());
    }
    for (socket, received) in sockets.iter_mut().zip(&mut received) {
        for _ in 0..2 {
            received.push(socket.event().await.to_string());
        }
    }
    for (own, received) in received.iter().enumerate() {
        for id in &ids[1 - own] {
            assert!(
                !received.iter().any(|text| text.contains(id)),
                "{id} in {received:?}"
            );
        }
    }
    // What stands for a connection in public is something else, and differs from one to the other.
    let from: Vec<_> = received[0]
        .iter()
        .filter_map(|text| {
            let event: serde_json::Value = serde_json::from_str(text).ok()?;
            event[2]["from"]["connection"].as_str().map(str::to_owned)
        })
        .collect();
    assert!(from.len() == 2 && from[0] != from[1], "{from:?}");
    assert!(!ids.as_flattened().iter().any(|id| from.contains(id)));
}
