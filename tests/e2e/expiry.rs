//! A session lives as long as its token, and not a second longer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use harness::{Opening, Options, SocketClient, Stack, WebSocket, client::Credential};
use serde_json::{Value, json};

use crate::metrics::{shown, stack_with_admin};

/// How long a socket may last whose token ends in less than half a minute.
const PATIENCE: Duration = Duration::from_secs(45);

/// What a client is told when its token ends.
fn token_expired() -> Value {
    let message = "jwt expired";
    json!({
        "message": message, "inner": {"message": message},
        "data": {
            "message": message, "code": "invalid_token", "type": "UnauthorizedError",
            "reason": "token_expired",
        },
    })
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
}

/// The notice that a token ends soon, which comes at once when it never had longer.
fn assert_announced(event: &Value, exp: u64) {
    assert_eq!(event[0], "rt:expiring");
    assert_eq!(event[1]["expires_at"], exp);
    assert!(event[1]["seconds_left"].as_u64() <= Some(60), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_while_connected_ends_the_session_within_a_second() {
    let stack = Stack::start().await;
    let forge = stack.forge().expires_in(3);
    let mut lasting = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    assert_announced(&socket.event().await, forge.exp());
    socket.subscribe("lobby").await;
    lasting.subscribe("lobby").await;
    lasting.publish("lobby", json!("before")).await;
    assert_eq!(socket.event().await[1], "before");

    let end = Duration::from_secs(forge.exp());
    let event = socket.event().await;
    let told = since_epoch();
    assert_eq!(event, json!(["unauthorized", token_expired()]));
    assert!(told >= end, "{:?} too early", end - told);
    assert!(
        told < end + Duration::from_secs(1),
        "{:?} too late",
        told - end
    );

    // The message of somebody else comes too late for it.
    lasting.publish("lobby", json!("after")).await;
    assert_eq!(socket.closed().await, [""; 0]);
    assert!(
        since_epoch() < end + Duration::from_secs(1),
        "closed too late"
    );
    assert_eq!(lasting.event().await[1], "before");
    assert_eq!(lasting.event().await[1], "after");

    let again = Opening::of(&stack)
        .session()
        .await
        .connect(&json!({"token": forge.token()}))
        .await;
    assert_eq!(again.expect_err("the same token").message(), "jwt expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_after_the_end_is_done() {
    let stack = Stack::start().await;
    let mut lasting = Opening::of(&stack).admitted(&stack.forge().token()).await;
    lasting.subscribe("lobby").await;
    let forge = stack.forge().expires_in(2);
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    let publish = |text: &str| {
        let payload = json!({"room": "lobby", "event": "message", "data": text});
        format!("42{}", json!(["rt:publish", payload]))
    };
    socket.send(publish("in time")).await;
    assert_eq!(lasting.event().await[1], "in time");
    assert_announced(&socket.event().await, forge.exp());
    assert_eq!(socket.event().await[0], "unauthorized");
    // The transport is there for a moment more, to bring the client the news.
    socket.try_send(publish("too late")).await;
    assert_eq!(socket.closed().await, [""; 0]);
    lasting.publish("lobby", json!("next")).await;
    assert_eq!(lasting.event().await[1], "next");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_a_short_login_is_told_and_let_go() {
    let stack = Stack::start_with(Options::default().token_lifetime_secs(2)).await;
    let token = stack.login("alice").await;
    let client = SocketClient::connect(&stack.gateway_url, Credential::Auth(json!(token))).await;
    let mut client = client.expect("a token that is accepted");
    assert_eq!(client.event().await.0, "rt:expiring");
    let (event, arguments) = client.event().await;
    assert_eq!(event, "unauthorized");
    assert_eq!(arguments, [token_expired()]);
    client.closed().await;
    let again = Credential::Auth(json!(stack.login("alice").await));
    let again = SocketClient::connect(&stack.gateway_url, again).await;
    again.expect("a fresh token").disconnect().await;
}

/// Reads to the end of the connection, which comes after that of the token and says why.
async fn assert_told_at_the_end(mut socket: WebSocket, end: Duration) {
    let mut heard = Vec::new();
    while let Some(packet) = socket.next_within(PATIENCE).await.expect("the end") {
        heard.push(packet);
    }
    assert!(since_epoch() >= end, "too early");
    let told = heard.iter().any(|packet| packet.contains("token_expired"));
    assert!(told, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sockets_with_the_same_exp_are_gone_within_a_second_after_it() {
    const SOCKETS: usize = 1_000;
    const AT_ONCE: usize = 32;
    let options = Options::default()
        .gateway("limits.sessions_per_address", 2 * SOCKETS)
        .gateway("limits.connections_per_address", 2 * SOCKETS)
        .gateway("limits.sockets_per_subject", SOCKETS);
    let (stack, admin) = stack_with_admin(options).await;
    let mut lasting = Opening::of(&stack).admitted(&stack.forge().token()).await;
    // Long enough for all of them to connect, on a machine that has other things to do.
    let forge = stack.forge().expires_in(20);
    let (opening, token) = (Opening::of(&stack), forge.token());
    let connecting = stream::iter(0..SOCKETS).map(|_| opening.admitted(&token));
    let sockets: Vec<_> = connecting.buffer_unordered(AT_ONCE).collect().await;
    let end = Duration::from_secs(forge.exp());
    shown(&stack, &admin, &[&format!("sockets {}", SOCKETS + 1)]).await;
    assert!(since_epoch() < end, "they took too long to connect");

    // They share this machine with the gateway, so all but one read when it is over: what counts is
    // when the gateway is done.
    let mut sockets = sockets.into_iter();
    assert_told_at_the_end(sockets.next().expect("a socket"), end).await;
    let all = format!(r#"sessions_closed_total{{cause="expired"}} {SOCKETS}"#);
    shown(&stack, &admin, &[&all]).await;
    let late = since_epoch() - end;
    assert!(
        late < Duration::from_secs(1),
        "the last one ended {late:?} late"
    );
    for socket in sockets {
        assert_told_at_the_end(socket, end).await;
    }
    lasting.subscribe("lobby").await;
}
