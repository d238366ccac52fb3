//! `authenticate`: a token for a session that is there already, and clients that have none at first.

use std::time::{Duration, Instant};

use harness::{Forge, Opening, Options, Polling, Stack, WebSocket};
use serde_json::{Value, json};

/// The same person in the same session, a moment later.
fn next(forge: &Forge) -> Forge {
    forge.clone().claim("jti", "next").expires_in(900)
}

async fn authenticate(socket: &mut WebSocket, token: &str) -> Value {
    socket.call("authenticate", json!({ "token": token })).await
}

/// Presents a token as `socketio-jwt`'s clients do, which want no acknowledgement.
async fn present(socket: &mut WebSocket, token: &str) {
    let event = json!(["authenticate", { "token": token }]);
    socket.send(format!("42{event}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_with_the_next_token_of_the_same_person() {
    let stack = Stack::start().await;
    let forge = stack.forge().expires_in(3);
    let mut renewed = Opening::of(&stack).admitted(&forge.token()).await;
    let mut other = Opening::of(&stack).admitted(&forge.token()).await;
    assert_eq!(renewed.event().await[0], "rt:expiring");
    let longer = next(&forge);
    let answer = authenticate(&mut renewed, &longer.token()).await;
    assert_eq!(
        answer,
        json!({"ok": true, "expires_at": longer.exp(), "added": [], "dropped": []})
    );
    // The other one ends with the token that both came with, and this one stays.
    other.closed().await;
    renewed.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_somebody_else_changes_nothing() {
    let stack = Stack::start().await;
    let forge = stack.forge().expires_in(4);
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    assert_eq!(socket.event().await[0], "rt:expiring");
    let room = format!("user:{}", forge.text_of("sub"));
    let foreign = next(&forge).claim("iss", "https://other.example");
    for (token, reason) in [
        (
            next(&forge).claim("sub", "mallory").token(),
            "identity_mismatch",
        ),
        (
            next(&forge).claim("sid", "another").token(),
            "identity_mismatch",
        ),
        (foreign.token(), "issuer_invalid"),
        (next(&forge).expires_in(0).token(), "token_expired"),
        (
            next(&forge).claim("aud", "latchkey-api").token(),
            "audience_invalid",
        ),
        (
            next(&forge).header("typ", "logout+jwt").token(),
            "type_invalid",
        ),
        ("x".to_owned(), "token_malformed"),
        (String::new(), "token_malformed"),
    ] {
        let answer = authenticate(&mut socket, &token).await;
        assert_eq!(answer["ok"], false, "{answer}");
        assert_eq!(answer["error"]["reason"], reason, "{answer}");
    }
    for payload in [
        json!({}),
        json!({"token": null}),
        json!({"token": [1]}),
        json!("x"),
        json!(7),
    ] {
        let answer = socket.call("authenticate", payload.clone()).await;
        assert_eq!(answer["ok"], false, "{payload}: {answer}");
    }
    socket.subscribe(&room).await;
    let answer = socket
        .call("rt:subscribe", json!({"room": "user:mallory"}))
        .await;
    assert_eq!(answer["error"]["code"], "forbidden", "{answer}");
    // It ends with its own token, as if nobody had asked.
    let packets = socket.closed().await;
    assert!(packets[0].contains("token_expired"), "{packets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_those_of_the_last_token() {
    let stack = Stack::start().await;
    let detail = |room: &str| json!([{"type": "realtime", "actions": ["sub"], "rooms": [room]}]);
    let forge = stack
        .forge()
        .claim("authorization_details", detail("chat:*"));
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    socket.subscribe("chat:1").await;
    socket.subscribe("lobby").await;
    let other = next(&forge).claim("authorization_details", detail("news"));
    let answer = authenticate(&mut socket, &other.token()).await;
    assert_eq!(answer["added"], json!(["news"]));
    assert_eq!(answer["dropped"], json!(["chat:*"]));
    let left = socket.event().await;
    assert_eq!(
        left,
        json!(["rt:unsubscribed", {"room": "chat:1", "code": "forbidden"}])
    );
    socket.subscribe("news").await;
    let answer = socket.call("rt:subscribe", json!({"room": "chat:1"})).await;
    assert_eq!(answer["error"]["code"], "forbidden");
    // In what it may still hear it has stayed.
    socket.publish("lobby", json!("here")).await;
    assert_eq!(socket.event().await[1], "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connect_swaps_nobody_where_socketioxide_ignores_it() {
    // The engine closes the transport: see `abuse`.
    let options = Options::default().gateway("carrier", "socketioxide");
    let stack = Stack::start_with(options).await;
    let (alice, bob) = (stack.forge(), stack.forge());
    let mut socket = Opening::of(&stack).admitted(&alice.token()).await;
    socket
        .send(format!("40{}", json!({"token": bob.token()})))
        .await;
    socket
        .subscribe(&format!("user:{}", alice.text_of("sub")))
        .await;
    let room = format!("user:{}", bob.text_of("sub"));
    let answer = socket.call("rt:subscribe", json!({ "room": room })).await;
    assert_eq!(answer["error"]["code"], "forbidden", "{answer}");
    let mut honest = Opening::of(&stack).admitted(&bob.token()).await;
    honest.subscribe(&room).await;
}

fn deferred() -> Options {
    Options::default().gateway("auth.deferred", true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_present_its_token_afterwards_where_that_is_allowed() {
    let stack = Stack::start_with(deferred()).await;
    let mut socket = Opening::of(&stack).session().await;
    socket.connect(&json!({})).await.expect("let in for now");
    let answer = socket.call("rt:subscribe", json!({"room": "lobby"})).await;
    assert_eq!(answer["error"]["code"], "unauthenticated", "{answer}");
    // It is in no room, and hears nothing that is said in one.
    let mut speaker = Opening::of(&stack).admitted(&stack.forge().token()).await;
    speaker.publish("lobby", json!("not for you")).await;
    present(&mut socket, &stack.forge().token()).await;
    assert_eq!(socket.event().await, json!(["authenticated"]));
    socket.subscribe("lobby").await;
    speaker.publish("lobby", json!("for you")).await;
    assert_eq!(socket.event().await[1], "for you");

    let strict = Stack::start().await;
    let refused = Opening::of(&strict)
        .session()
        .await
        .connect(&json!({}))
        .await;
    assert_eq!(
        refused.expect_err("no token").message(),
        "no token provided"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_in_a_payload_that_is_no_object_is_none() {
    let stack = Stack::start_with(deferred()).await;
    let mut socket = Opening::of(&stack).session().await;
    socket.connect(&json!({})).await.expect("let in for now");
    let good = stack.forge().token();
    for payload in [json!([good]), json!(good)] {
        let answer = socket.call("authenticate", payload).await;
        assert_eq!(answer["error"]["reason"], "payload_malformed", "{answer}");
        assert_eq!(socket.event().await[0], "unauthorized");
    }
    let answer = authenticate(&mut socket, &good).await;
    assert_eq!(answer["ok"], true, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_told_in_the_shapes_of_socketio_jwt() {
    let stack = Stack::start_with(deferred()).await;
    let mut socket = Opening::of(&stack).session().await;
    socket.connect(&json!({})).await.expect("let in for now");
    present(&mut socket, "x").await;
    let data = json!({
        "message": "jwt malformed", "code": "invalid_token", "type": "UnauthorizedError",
        "reason": "token_malformed",
    });
    let told =
        json!({"message": "jwt malformed", "inner": {"message": "jwt malformed"}, "data": data});
    assert_eq!(socket.event().await, json!(["unauthorized", told]));
    let answer = socket.call("authenticate", json!({"token": 7})).await;
    assert_eq!(answer["error"]["message"], "invalid token datatype");
    assert_eq!(socket.event().await[0], "unauthorized");
    // With an acknowledgement it is told both ways.
    let answer = authenticate(&mut socket, &stack.forge().token()).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(socket.event().await, json!(["authenticated"]));
    // What is presented at CONNECT is refused there, in this mode too.
    let refused = Opening::of(&stack)
        .session()
        .await
        .connect(&json!({"token": "x"}))
        .await;
    assert_eq!(refused.expect_err("a bad token").message(), "jwt malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_who_guesses_is_let_go_at_the_third_token() {
    let stack = Stack::start_with(deferred()).await;
    let mut socket = Opening::of(&stack).session().await;
    socket.connect(&json!({})).await.expect("let in for now");
    for _ in 0..3 {
        present(&mut socket, "x").await;
        assert_eq!(socket.event().await[0], "unauthorized");
    }
    assert_eq!(socket.closed().await, ["41"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_bad_token_of_a_guest_is_answered_before_the_end() {
    let stack = Stack::start_with(deferred()).await;
    let mut socket = Opening::of(&stack).session().await;
    socket.connect(&json!({})).await.expect("let in for now");
    for _ in 0..3 {
        socket.send(r#"421["authenticate",{"token":"x"}]"#).await;
    }
    let packets = socket.closed().await;
    let count = |start: &str| {
        packets
            .iter()
            .filter(|packet| packet.starts_with(start))
            .count()
    };
    assert_eq!(count(r#"42["unauthorized","#), 3, "{packets:?}");
    assert_eq!(count(r#"431[{"error":"#), 3, "{packets:?}");
    assert_eq!(packets.last().map(String::as_str), Some("41"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_authenticates_is_let_go_on_every_version_and_transport() {
    let stack = Stack::start_with(deferred().gateway("auth.deferred_secs", 1)).await;
    let started = Instant::now();
    let mut socket = Opening::of(&stack).session().await;
    socket.connect(&json!({})).await.expect("let in for now");
    let mut polling = Polling::of(&stack).open().await.expect("a session");
    assert!(polling.connect(&json!({})).await.starts_with("40"));
    let mut old = Opening::of(&stack).version_3().session().await;
    let mut quick = Opening::of(&stack).session().await;
    quick.connect(&json!({})).await.expect("let in for now");
    present(&mut quick, &stack.forge().token()).await;
    assert_eq!(quick.event().await, json!(["authenticated"]));
    let (one, two, three) = tokio::join!(socket.closed(), polling.closed(), old.closed());
    for packets in [&one, &two, &three] {
        let told = packets
            .iter()
            .any(|packet| packet.contains("authentication_timed_out"));
        assert!(told, "{packets:?}");
    }
    assert_eq!(one.last().map(String::as_str), Some("41"));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    quick.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_stays_in_the_rooms_that_are_open_and_can_become_somebody() {
    let rules = json!([
        {"rooms": ["news"], "actions": ["sub"], "guests": true},
        {"rooms": ["lobby"], "actions": ["sub", "pub"]},
    ]);
    let options = Options::default()
        .gateway("auth.anonymous", true)
        .gateway("auth.deferred_secs", 1)
        .gateway("rooms", rules)
        .mode(harness::Mode::InProcess);
    let stack = Stack::start_with(options).await;
    let mut guest = Opening::of(&stack).session().await;
    guest.connect(&json!({})).await.expect("a guest");
    guest.subscribe("news").await;
    for (event, payload) in [
        ("rt:subscribe", json!({"room": "lobby"})),
        (
            "rt:publish",
            json!({"room": "news", "event": "x", "data": 1}),
        ),
    ] {
        let answer = guest.call(event, payload).await;
        assert_eq!(answer["error"]["code"], "forbidden", "{event}: {answer}");
    }
    // There is no deadline: another one's has passed when its token, which lasts longer, has ended.
    let mut watch = Opening::of(&stack)
        .admitted(&stack.forge().expires_in(3).token())
        .await;
    watch.closed().await;
    assert_eq!(
        authenticate(&mut guest, &stack.forge().token()).await["ok"],
        true
    );
    assert_eq!(guest.event().await, json!(["authenticated"]));
    guest.subscribe("lobby").await;
    // Once somebody, always the same.
    let answer = authenticate(&mut guest, &stack.forge().token()).await;
    assert_eq!(answer["error"]["reason"], "identity_mismatch", "{answer}");
}
