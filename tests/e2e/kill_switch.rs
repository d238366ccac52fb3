//! Ending a session ends whatever serves it: polls, a WebSocket, or the WebSocket that polls were
//! upgraded to. The end of the token is what throws the switch.

use std::time::{Duration, Instant};

use harness::{Opening, Polling, Stack, WebSocket};
use reqwest::StatusCode;
use serde_json::json;

/// The notice that the end is near, and the one packet that comes with the end.
fn assert_told(packets: &[String]) {
    let told = packets
        .iter()
        .filter(|packet| !packet.contains("rt:expiring"));
    let told: Vec<&String> = told.collect();
    let [packet] = told[..] else {
        panic!("not one packet: {packets:?}")
    };
    assert!(
        packet.starts_with("42[\"unauthorized\",") && packet.contains("token_expired"),
        "{packet}"
    );
}

/// The session is nobody's any more, by either method and by upgrade.
async fn assert_gone(stack: &Stack, session: &Polling) {
    let (status, body) = session.get().await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let (status, body) = session.post("3").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let upgrade = Opening::of(stack).query("sid", &session.sid).open().await;
    assert_eq!(upgrade.err(), Some(400));
}

/// Upgrades a session that polls, as a stock client does it.
async fn upgrade(stack: &Stack, session: &Polling) -> WebSocket {
    let mut socket = Opening::of(stack)
        .query("sid", &session.sid)
        .open()
        .await
        .expect("an upgrade");
    socket.send("2probe").await;
    assert_eq!(socket.packet().await, "3probe");
    socket.send("5").await;
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_polls_is_ended() {
    let stack = Stack::start().await;
    let mut lasting = Polling::of(&stack).admitted(&stack.forge().token()).await;
    let forge = stack.forge().expires_in(3);
    let mut session = Polling::of(&stack).admitted(&forge.token()).await;
    let answer = session.call("rt:subscribe", json!({"room": "lobby"})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_told(&session.closed().await);
    assert_gone(&stack, &session).await;
    let answer = lasting.call("rt:subscribe", json!({"room": "lobby"})).await;
    assert_eq!(answer["ok"], true, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_even_poll_is_ended() {
    let stack = Stack::start().await;
    let forge = || stack.forge();
    let (brief, longer) = (forge().expires_in(3), forge().expires_in(4));
    let mut watcher = Opening::of(&stack).admitted(&longer.token()).await;
    let session = Polling::of(&stack).admitted(&brief.token()).await;
    // The other one ends later, so when it has this one has.
    assert_told(&watcher.closed().await);
    assert_gone(&stack, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_ended() {
    let stack = Stack::start().await;
    let mut lasting = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let forge = stack.forge().expires_in(3);
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    socket.subscribe("lobby").await;
    assert_told(&socket.closed().await);
    lasting.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_upgraded_is_ended() {
    let stack = Stack::start().await;
    let lasting = Polling::of(&stack).admitted(&stack.forge().token()).await;
    let mut lasting = upgrade(&stack, &lasting).await;
    let session = Polling::of(&stack)
        .admitted(&stack.forge().expires_in(3).token())
        .await;
    let mut socket = upgrade(&stack, &session).await;
    socket.subscribe("lobby").await;
    assert_told(&socket.closed().await);
    assert_gone(&stack, &session).await;
    lasting.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_came_to_nothing_protects_nobody() {
    let stack = Stack::start().await;
    let mut lasting = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let forge = stack.forge().expires_in(3);
    let mut session = Polling::of(&stack).admitted(&forge.token()).await;
    let opening = Opening::of(&stack).query("sid", &session.sid);
    let mut socket = opening.open().await.expect("an upgrade");
    socket.send("2probe").await;
    assert_eq!(socket.packet().await, "3probe");
    drop(socket);
    // Whether it goes on polling until its token ends, or ends with its upgrade, it ends.
    session.closed().await;
    assert_gone(&stack, &session).await;
    lasting.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_never_finished_protects_nobody() {
    let stack = Stack::start().await;
    let session = Polling::of(&stack)
        .admitted(&stack.forge().expires_in(2).token())
        .await;
    let opening = Opening::of(&stack).query("sid", &session.sid);
    let mut socket = opening.open().await.expect("an upgrade");
    socket.send("2probe").await;
    assert_eq!(socket.packet().await, "3probe");
    let started = Instant::now();
    socket.closed().await;
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert_gone(&stack, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_the_end_of_the_token_is_not_handed_out_after_it() {
    let stack = Stack::start().await;
    let mut watcher = Opening::of(&stack)
        .admitted(&stack.forge().expires_in(4).token())
        .await;
    let mut session = Polling::of(&stack)
        .admitted(&stack.forge().expires_in(3).token())
        .await;
    let mut lasting = Polling::of(&stack).admitted(&stack.forge().token()).await;
    for session in [&mut session, &mut lasting] {
        let answer = session.call("rt:subscribe", json!({"room": "lobby"})).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let mut publisher = Opening::of(&stack).admitted(&stack.forge().token()).await;
    publisher.publish("lobby", json!("too late for one")).await;
    watcher.closed().await;
    assert_gone(&stack, &session).await;
    let (status, body) = lasting.get().await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("too late for one"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_the_engine_reads_otherwise_than_the_gate_opens_nothing() {
    let stack = Stack::start().await;
    let open = async |query: &str| {
        let url = format!("{}/socket.io/?{query}", stack.gateway_url);
        let request = stack.http().get(url).header("connection", "Upgrade");
        let request = request
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        request.send().await.expect("an answer").status()
    };
    let upgraded = StatusCode::SWITCHING_PROTOCOLS;
    assert_eq!(open("EIO=4&transport=websocket").await, upgraded);
    for query in [
        "EIO=4&transport=websocket=x",
        "EIO=4=x&transport=websocket",
        "EIO=4&transport=polling&transport=websocket",
        "EIO=4&transport=websocket&transport=polling",
        "EIO=4&transport=websocket&sid=x&sid=y",
    ] {
        assert_eq!(open(query).await, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_with_several_sessions_loses_the_one_whose_token_ends() {
    let stack = Stack::start().await;
    let forge = stack.forge();
    let mut long = Opening::of(&stack).admitted(&forge.token()).await;
    let short = forge.clone().claim("jti", "another").expires_in(2);
    let mut short = Opening::of(&stack).admitted(&short.token()).await;
    let room = format!("user:{}", forge.text_of("sub"));
    long.subscribe(&room).await;
    short.subscribe(&room).await;
    assert_told(&short.closed().await);
    long.publish(&room, json!("still here")).await;
    assert_eq!(long.event().await[1], "still here");
}
