//! A session lives as long as its token, and not a second longer.

use std::{
    collections::HashMap,
    ffi::OsString,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream};
use harness::{Mode, Opening, Options, SocketClient, Stack, WebSocket, client::Credential};
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
    let stack = Stack::start_with(Options::default().token_lifetime_secs(3)).await;
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

/// How long the threads of this process, the gateway's among them, were ready to run and had no
/// processor, each by its id (proc(5), schedstat). What other programs take is not the gateway's time.
fn waited_for_a_processor() -> HashMap<OsString, Duration> {
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let waited = threads.filter_map(|thread| {
        let thread = thread.expect("a thread");
        // A thread may end meanwhile.
        let statistics = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos = statistics.split(' ').nth(1)?.parse().ok()?;
        Some((thread.file_name(), Duration::from_nanos(nanos)))
    });
    waited.collect()
}

/// The longest that one of the threads has waited for a processor since `before`.
fn longest_wait_since(before: &HashMap<OsString, Duration>) -> Duration {
    let now = waited_for_a_processor();
    let waits = now.into_iter().map(|(thread, waited)| {
        let before = before.get(&thread).copied().unwrap_or_default();
        waited.saturating_sub(before)
    });
    waits.max().unwrap_or_default()
}

/// Reads to the end of the connection, which comes after that of the token. On a machine that is
/// busy it may come before the client has been told why.
async fn assert_ends_after(end: Duration, mut socket: WebSocket) {
    while let Some(_packet) = socket.next_within(PATIENCE).await.expect("the end") {}
    assert!(since_epoch() >= end, "too early");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sockets_with_the_same_exp_are_gone_within_a_second_after_it() {
    const SOCKETS: usize = 1_000;
    const AT_ONCE: usize = 32;
    let options = Options::default()
        .mode(Mode::InProcess)
        // Who does not read answers no ping.
        .gateway("heartbeat.timeout_secs", 120)
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

    // They share its processors with the gateway, so all but one read when it is over: what counts is
    // when the gateway is done.
    let before = waited_for_a_processor();
    let mut sockets = sockets.into_iter();
    assert_ends_after(end, sockets.next().expect("a socket")).await;
    let all = format!(r#"sessions_closed_total{{cause="expired"}} {SOCKETS}"#);
    shown(&stack, &admin, &[&all]).await;
    let late = since_epoch() - end;
    let waited = longest_wait_since(&before);
    assert!(
        late < Duration::from_secs(1) + waited,
        "the last one ended {late:?} late, {waited:?} of it without a processor"
    );
    for socket in sockets {
        assert_ends_after(end, socket).await;
    }
    lasting.subscribe("lobby").await;
}
