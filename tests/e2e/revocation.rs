//! The end of a session at the issuer is its end at the gateway: at once, for stalled peers too,
//! and after a restart.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::{StreamExt, stream};
use harness::{Forge, Opening, Options, Polling, Stack, forge::now_secs, soon};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use shared_claims::revocation::LOGOUT_EVENT;

/// The logout token of the session that `forge` is of.
pub(crate) fn logout_of(forge: &Forge) -> Forge {
    forge.clone().logout(&["sid"])
}

/// The logout token of everything of the subject of `forge`.
fn logout_of_subject(forge: &Forge) -> Forge {
    forge.clone().logout(&["sub"])
}

pub(crate) async fn post(stack: &Stack, token: &str) -> Response {
    post_by(stack.http(), stack, token).await
}

async fn post_by(http: &reqwest::Client, stack: &Stack, token: &str) -> Response {
    let url = format!("{}/oidc/backchannel-logout", stack.gateway_url);
    let request = http.post(url).form(&[("logout_token", token)]);
    soon("an answer", request.send()).await.expect("an answer")
}

pub(crate) async fn refusal_of(opening: &Opening, token: &str) -> Option<String> {
    let mut socket = opening.session().await;
    let refused = socket.connect(&json!({ "token": token })).await.err()?;
    Some(refused.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_revoked_is_gone_from_every_transport_and_does_not_come_back() {
    let stack = Stack::start().await;
    let (forge, other) = (stack.forge(), stack.forge());
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    let mut polling = Polling::of(&stack).admitted(&forge.token()).await;
    let mut bystander = Opening::of(&stack).admitted(&other.token()).await;
    let mut same_person = Opening::of(&stack)
        .admitted(&forge.clone().claim("sid", "another").token())
        .await;
    socket.subscribe("lobby").await;

    let logout = logout_of(&forge).token();
    let (answer, one, two) = tokio::join!(post(&stack, &logout), socket.closed(), polling.closed());
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    // The DISCONNECT packet comes first, so that stock clients do not come back by themselves.
    assert_eq!((one, two), (vec!["41".to_owned()], vec!["41".to_owned()]));
    let opening = Opening::of(&stack);
    assert_eq!(
        refusal_of(&opening, &forge.token()).await.as_deref(),
        Some("jwt revoked")
    );
    let again = forge
        .clone()
        .claim("jti", "younger")
        .claim("iat", now_secs() + 5);
    assert_eq!(
        refusal_of(&opening, &again.token()).await.as_deref(),
        Some("jwt revoked")
    );
    bystander.subscribe("lobby").await;
    same_person.subscribe("lobby").await;
    // A replay is acknowledged, and harmless.
    assert_eq!(post(&stack, &logout).await.status(), StatusCode::OK);
    bystander.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_revoked_loses_all_its_older_tokens_and_no_younger_ones() {
    let stack = Stack::start().await;
    let forge = stack.forge();
    let elsewhere = forge.clone().claim("sid", "another");
    let mut one = Opening::of(&stack).admitted(&forge.token()).await;
    let mut two = Opening::of(&stack).admitted(&elsewhere.token()).await;
    let younger = elsewhere.claim("iat", now_secs() + 20);
    let mut three = Opening::of(&stack).admitted(&younger.token()).await;
    let logout = logout_of_subject(&forge).claim("iat", now_secs() + 10);
    let answer = post(&stack, &logout.expires_in(120).token()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(one.closed().await, ["41"]);
    assert_eq!(two.closed().await, ["41"]);
    three.subscribe("lobby").await;
    let opening = Opening::of(&stack);
    assert_eq!(
        refusal_of(&opening, &forge.token()).await.as_deref(),
        Some("jwt revoked")
    );
    assert_eq!(refusal_of(&opening, &younger.token()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_client_goes_with_the_others() {
    const MESSAGES: usize = 200;
    let options = Options::default().gateway("limits.outbound_bytes", 64 * 1024 * 1024);
    let stack = Stack::start_with(options).await;
    let forge = stack.forge();
    let mut stalled = Opening::of(&stack)
        .receive_buffer_bytes(4096)
        .admitted(&forge.token())
        .await;
    stalled.subscribe("lobby").await;
    let mut speaker = Opening::of(&stack).admitted(&stack.forge().token()).await;
    // More than the systems between the two take, and less than it is let go for.
    for _ in 0..MESSAGES {
        speaker.publish("lobby", json!("x".repeat(100_000))).await;
    }
    assert_eq!(
        post(&stack, &logout_of(&forge).token()).await.status(),
        StatusCode::OK
    );
    let last = stalled.closed().await;
    // What the gateway had for it is gone, and what the system had too.
    let bytes: usize = last.iter().map(String::len).sum();
    assert!(bytes < 1_000_000, "{bytes} bytes were kept for it");
    speaker.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_became_no_websocket_at_first_serves_the_next_session_as_any_other() {
    let stack = Stack::start().await;
    let without_key = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";
    for earlier in [None, Some(without_key)] {
        let forge = stack.forge();
        let opening = Opening::of(&stack).after(earlier.map(|request| (request, 400)));
        let mut socket = opening.admitted(&forge.token()).await;
        socket.subscribe("lobby").await;
        socket.publish("lobby", json!("x".repeat(100_000))).await;
        assert_eq!(socket.event().await[0], "message");
        post(&stack, &logout_of(&forge).token()).await;
        // Did anything seem to wait for it, it would be told nothing.
        assert_eq!(socket.closed().await, ["41"], "{earlier:?}");
    }
}

/// Texts that are no logout token of the session of `forge`, each with a description.
fn bad_logout_tokens(forge: &Forge) -> [(&'static str, String); 10] {
    let good = || logout_of(forge);
    let with = |name: &str, value: &str| good().claim(name, value).token();
    [
        ("an access token", forge.token()),
        ("no events", good().without_claim("events").token()),
        ("events that is a text", with("events", LOGOUT_EVENT)),
        ("a nonce", with("nonce", "n")),
        ("nobody", good().without_claim("sid").token()),
        ("another audience", with("aud", "latchkey-api")),
        ("expired", good().expires_in(0).token()),
        ("too long", good().expires_in(130).token()),
        ("another issuer", with("iss", "https://evil.example")),
        ("nothing", String::new()),
    ]
}

/// Requests that do not carry `token` as the protocol says, each with the status of its answer.
fn bad_logout_requests(stack: &Stack, token: &str) -> [(&'static str, RequestBuilder, u16); 6] {
    let url = format!("{}/oidc/backchannel-logout", stack.gateway_url);
    let post = || stack.http().post(&url);
    let in_query = format!("{url}?logout_token={token}");
    let twice = [("logout_token", token), ("logout_token", token)];
    let long = [("logout_token", "x".repeat(20_000))];
    [
        ("no form", post(), 400),
        ("JSON", post().json(&json!({ "logout_token": token })), 400),
        ("two", post().form(&twice), 400),
        ("in the query", stack.http().post(in_query), 400),
        ("GET", stack.http().get(&url), 405),
        ("long", post().form(&long), 413),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_logout_token_ends_nothing() {
    let stack = Stack::start().await;
    let forge = stack.forge();
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    for (what, token) in bad_logout_tokens(&forge) {
        let answer = post(&stack, &token).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{what}");
        let body: Value = soon("a body", answer.json()).await.expect("JSON");
        assert_eq!(body["error"], "invalid_request", "{what}");
    }
    let token = logout_of(&forge).token();
    for (what, request, status) in bad_logout_requests(&stack, &token) {
        let answer = soon("an answer", request.send()).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{what}");
    }
    socket.subscribe("lobby").await;
    assert_eq!(post(&stack, &token).await.status(), StatusCode::OK);
    assert_eq!(socket.closed().await, ["41"]);
    // And a logout token connects nobody.
    let unconnected = logout_of(&forge).claim("sub", "x").token();
    let refused = refusal_of(&Opening::of(&stack), &unconnected).await;
    assert_eq!(refused.as_deref(), Some("jwt type invalid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_floods_with_bad_logout_tokens_is_turned_away_and_the_issuer_is_not() {
    const BAD: usize = 1_000;
    const AT_ONCE: usize = 16;
    let limit = 4;
    let options = Options::default().gateway("limits.logout_refusals_per_address", limit);
    let stack = Stack::start_with(options).await;
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let stranger = reqwest::Client::builder().local_address(elsewhere);
    let stranger = stranger.build().expect("a client");
    let (first, second) = (stack.forge(), stack.forge());
    let mut one = Opening::of(&stack).admitted(&first.token()).await;
    let mut two = Opening::of(&stack).admitted(&second.token()).await;
    // As long as there were not too many, a good one of the same address counts.
    for _ in 1..limit {
        let status = post_by(&stranger, &stack, "x").await.status();
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    let good = logout_of(&first).token();
    assert_eq!(
        post_by(&stranger, &stack, &good).await.status(),
        StatusCode::OK
    );
    assert_eq!(one.closed().await, ["41"]);

    let flood = stream::iter(0..BAD).map(|_| post_by(&stranger, &stack, "x"));
    let mut flood = flood.buffer_unordered(AT_ONCE);
    let mut looked_at = 0;
    while let Some(answer) = flood.next().await {
        if answer.status() == StatusCode::BAD_REQUEST {
            looked_at += 1;
        } else {
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
            let secs = answer.headers()[header::RETRY_AFTER].to_str();
            let secs: u64 = secs.expect("a text").parse().expect("a number");
            assert!((1..=16).contains(&secs), "{secs}");
        }
    }
    drop(flood);
    // Those that were under way together, and one for each quarter of a minute.
    assert!(looked_at < 2 * AT_ONCE, "{looked_at} were looked at");
    let good = logout_of(&second).token();
    let status = post_by(&stranger, &stack, &good).await.status();
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    two.subscribe("lobby").await;
    // Its sockets are another matter, and the issuer is served.
    let admitted = Opening::of(&stack).from(elsewhere);
    admitted.admitted(&stack.forge().token()).await;
    assert_eq!(post(&stack, &good).await.status(), StatusCode::OK);
    assert_eq!(two.closed().await, ["41"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_handshake_outlives_a_revocation_at_the_same_time() {
    const RACES: usize = 1_000;
    let stack =
        Stack::start_with(Options::default().gateway("limits.sessions_per_address", 20_000)).await;
    let stack = std::sync::Arc::new(stack);
    let mut racing = tokio::task::JoinSet::new();
    let mut survivors = 0;
    for _ in 0..RACES {
        if racing.len() >= 16 && race_lost(racing.join_next().await) {
            survivors += 1;
        }
        let stack = stack.clone();
        racing.spawn(async move {
            let forge = stack.forge();
            let mut socket = Opening::of(&stack).session().await;
            let connecting = async {
                socket
                    .send(format!("40{}", json!({"token": forge.token()})))
                    .await;
            };
            let logout = logout_of(&forge).token();
            let (answer, ()) = tokio::join!(post(&stack, &logout), connecting);
            assert_eq!(answer.status(), StatusCode::OK);
            // Refused, or admitted and dismissed: either way nothing can be done any more.
            socket
                .try_send(format!("421{}", json!(["rt:subscribe", {"room": "lobby"}])))
                .await;
            socket
                .closed()
                .await
                .iter()
                .any(|packet| packet.starts_with("431"))
        });
    }
    while let Some(ended) = racing.join_next().await {
        survivors += usize::from(race_lost(Some(ended)));
    }
    assert_eq!(survivors, 0);
}

fn race_lost(ended: Option<Result<bool, tokio::task::JoinError>>) -> bool {
    ended.expect("a race").expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_told_of_a_logout_and_its_sockets_go() {
    let stack = Stack::start().await;
    let token = stack.login("alice").await;
    let mut socket = Opening::of(&stack).admitted(&token).await;
    let mut other = Opening::of(&stack)
        .admitted(&stack.login("alice").await)
        .await;
    socket.subscribe("lobby").await;
    let logout = stack
        .http()
        .post(format!("{}/logout", stack.issuer_url))
        .bearer_auth(&token);
    let answer = soon("an answer", logout.send()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(socket.closed().await, ["41"]);
    let refused = refusal_of(&Opening::of(&stack), &token).await;
    assert_eq!(refused.as_deref(), Some("jwt revoked"));
    other.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_survives_a_restart() {
    let mut stack = Stack::start().await;
    let (forge, other) = (stack.forge(), stack.forge());
    assert_eq!(
        post(&stack, &logout_of(&forge).token()).await.status(),
        StatusCode::OK
    );
    let subject = stack.forge();
    let logout = logout_of_subject(&subject).token();
    assert_eq!(post(&stack, &logout).await.status(), StatusCode::OK);
    stack.restart_gateway().await;
    let opening = Opening::of(&stack);
    for revoked in [&forge, &subject] {
        let refused = refusal_of(&opening, &revoked.token()).await;
        assert_eq!(refused.as_deref(), Some("jwt revoked"));
    }
    assert_eq!(refusal_of(&opening, &other.token()).await, None);
}
