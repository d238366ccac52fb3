//! A client that was disconnected for good stays away, whether it could be told so or not.

use harness::{Opening, Options, api::WithApi, soon};
use serde_json::json;

/// Small, so that most of it waits in the gateway.
const RECEIVE_BUFFER_BYTES: u32 = 4 * 1024;
const MESSAGES: usize = 12_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_client_that_is_disconnected_is_refused_and_its_twin_that_reads_is_told() {
    let options = Options::default()
        .gateway("limits.outbound_packets", 1_000_000)
        .gateway("limits.outbound_bytes", 1_000_000_000)
        .gateway("limits.write_stall_secs", 60)
        .gateway("limits.events_per_sec", 1_000_000)
        .gateway("limits.events_burst", 1_000_000);
    let api = WithApi::start_with(options).await;
    let token = |session: &str| {
        let forge = api.stack.forge().claim("sub", "alice");
        forge.claim("jti", session).token()
    };
    let (stalled, reading) = (token("stalled"), token("reading"));
    let narrow = Opening::of(&api.stack).receive_buffer_bytes(RECEIVE_BUFFER_BYTES);
    let mut silent = narrow.admitted(&stalled).await;
    let mut twin = Opening::of(&api.stack).admitted(&reading).await;
    silent.subscribe("lobby").await;
    twin.subscribe("lobby").await;
    let reader = tokio::spawn(async move { twin.closed().await });
    let mut publisher = api.user("bob").await;
    for batch in 0..MESSAGES / 100 {
        let payload = json!({"room": "lobby", "event": "message", "data": "x".repeat(500)});
        let packet = format!("42{}", json!(["rt:publish", payload]));
        let mut packets = vec![packet; 100];
        packets[99].insert(2, '1');
        publisher.send_at_once(&packets).await;
        let answer = publisher.acknowledgement(1).await;
        assert_eq!(answer["ok"], true, "batch {batch}: {answer}");
    }
    let body = json!({"sub": "alice", "reconnect": false});
    let answer = api.post("/v1/disconnect", body).await.ok();
    assert_eq!(answer["disconnected"], 2);
    // The twin is told at the end, and its token is as good as before.
    let packets = soon("the end of the twin", reader).await.expect("a reader");
    assert_eq!(packets.last().map(String::as_str), Some("41"));
    Opening::of(&api.stack).admitted(&reading).await;
    // The stalled one finds its messages to an end, without the packet.
    let rest = silent.closed().await;
    assert!(rest.len() < MESSAGES, "everything was delivered");
    assert!(!rest.contains(&"41".to_owned()), "it was told");
    // A stock client comes back by itself now, and is refused.
    let mut back = Opening::of(&api.stack).session().await;
    let refused = back.connect(&json!({ "token": stalled })).await;
    let refused = refused.expect_err("a token that is suspended");
    assert_eq!(refused.0["data"]["reason"], "token_revoked");
    // The same user's other token is accepted.
    Opening::of(&api.stack).admitted(&token("new")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_token_is_refused_by_authenticate_too() {
    let options = Options::default()
        .gateway("auth.deferred", true)
        .gateway("limits.outbound_bytes", 1_000_000_000)
        .gateway("limits.write_stall_secs", 60);
    let api = WithApi::start_with(options).await;
    let token = api.stack.forge().claim("sub", "alice").token();
    let narrow = Opening::of(&api.stack).receive_buffer_bytes(RECEIVE_BUFFER_BYTES);
    let mut silent = narrow.admitted(&token).await;
    silent.subscribe("lobby").await;
    let mut publisher = api.user("bob").await;
    for _ in 0..10 {
        publisher.publish("lobby", json!("x".repeat(900_000))).await;
    }
    let body = json!({"sub": "alice"});
    api.post("/v1/disconnect", body).await.ok();
    silent.closed().await;
    let mut back = Opening::of(&api.stack).session().await;
    back.connect(&json!({})).await.expect("a guest");
    let answer = back.call("authenticate", json!({ "token": token })).await;
    assert_eq!(answer["ok"], false, "{answer}");
    let other = api.stack.forge().claim("sub", "alice").token();
    let mut twin = Opening::of(&api.stack).session().await;
    twin.connect(&json!({})).await.expect("a guest");
    let answer = twin.call("authenticate", json!({ "token": other })).await;
    assert_eq!(answer["ok"], true, "{answer}");
}
