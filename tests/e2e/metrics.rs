//! What the operator sees, and nobody else does.

use harness::{Opening, Options, Stack, eventually, free_address};
use reqwest::{StatusCode, header};
use serde_json::json;

/// A stack with an admin listener on a port that is free now, and its URL.
pub(crate) async fn stack_with_admin(options: Options) -> (Stack, String) {
    let address = free_address();
    let stack = Stack::start_with(options.gateway("admin.listen", address.as_str())).await;
    let admin = format!("http://{address}");
    eventually("the operator's listener", || async {
        let answer = stack
            .http()
            .get(format!("{admin}/health/live"))
            .send()
            .await;
        answer.is_ok()
    })
    .await;
    (stack, admin)
}

async fn metrics(stack: &Stack, admin: &str) -> String {
    let answer = stack.http().get(format!("{admin}/metrics")).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.expect("a text")
}

/// Returns the value of a metric of the gateway that has no labels.
pub(crate) async fn value(stack: &Stack, admin: &str, name: &str) -> u64 {
    let text = metrics(stack, admin).await;
    let start = format!("latchkey_realtime_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    let value = value.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name}: {text}"))
}

/// Waits until each of `lines` stands in the metrics.
pub(crate) async fn shown(stack: &Stack, admin: &str, lines: &[&str]) {
    eventually(&format!("{lines:?} in the metrics"), || async {
        let text = metrics(stack, admin).await;
        let shows = |line: &&str| {
            let line = format!("latchkey_realtime_{line}");
            text.lines().any(|shown| shown == line)
        };
        lines.iter().all(shows)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_on_the_operators_listener_and_on_no_other() {
    let (stack, admin) = stack_with_admin(Options::default()).await;
    let get = async |url: String| stack.http().get(url).send().await.expect("an answer");
    let answer = get(format!("{admin}/metrics")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let media_type = answer.headers()[header::CONTENT_TYPE].to_str();
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(media_type.expect("a text"), openmetrics);
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(get(format!("{admin}{path}")).await.status(), StatusCode::OK);
    }
    for path in ["/metrics", "//metrics", "/metrics/", "/admin", "/docs"] {
        let status = get(format!("{}{path}", stack.gateway_url)).await.status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let engine = format!("{admin}/socket.io/?EIO=4&transport=polling");
    assert_eq!(get(engine).await.status(), StatusCode::NOT_FOUND);
    let post = stack.http().post(format!("{admin}/metrics")).send().await;
    assert_eq!(
        post.expect("an answer").status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted() {
    let (stack, admin) = stack_with_admin(Options::default()).await;
    let expiring = stack.forge().expires_in(3).token();
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut other = Opening::of(&stack).admitted(&expiring).await;
    socket.subscribe("lobby").await;
    other.subscribe("lobby").await;
    socket.publish("lobby", json!("one")).await;
    socket.call("rt:nothing", json!({})).await;
    let lines = ["connections 2", "sessions 2", "sockets 2"];
    shown(&stack, &admin, &lines).await;
    let mut refused = Opening::of(&stack).session().await;
    refused.connect(&json!({})).await.expect_err("no token");
    drop(refused);
    let mut twice_refused = Opening::of(&stack).session().await;
    for _ in 0..3 {
        let again = twice_refused.connect_again(&json!({"token": "x"})).await;
        again.expect_err("no token");
    }
    twice_refused.closed().await;
    other.closed().await;
    drop(socket);
    let lines = [
        "connections 0",
        "connections_accepted_total 4",
        "sessions 0",
        "sessions_opened_total 4",
        "sockets 0",
        "sockets_admitted_total 2",
        r#"sessions_closed_total{cause="expired"} 1"#,
        r#"sessions_closed_total{cause="client"} 2"#,
        r#"sessions_closed_total{cause="refused"} 1"#,
        r#"refusals_total{reason="token_missing"} 1"#,
        r#"refusals_total{reason="token_malformed"} 3"#,
        r#"events_total{event="rt:subscribe",outcome="ok"} 2"#,
        r#"events_total{event="rt:publish",outcome="ok"} 1"#,
        r#"events_total{event="unknown",outcome="unknown_event"} 1"#,
        "messages_published_total 1",
        "messages_delivered_total 2",
    ];
    shown(&stack, &admin, &lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_broken_has_a_close_code_and_is_counted() {
    const NOT_MASKED: &[u8] = b"\x81\x01\x33";
    const NOT_UTF8: &[u8] = b"\x81\x82\0\0\0\x004\xff";
    const TOO_LARGE: &[u8] = b"\x81\xff\0\0\0\0\0\x20\0\0\0\0\0\0";
    let (stack, admin) = stack_with_admin(Options::default().gateway("carrier", "engine")).await;
    let token = stack.forge().token();
    for (frame, code) in [(NOT_MASKED, 1002), (NOT_UTF8, 1007), (TOO_LARGE, 1009)] {
        let mut socket = Opening::of(&stack).admitted(&token).await;
        socket.send_raw(frame).await;
        assert_eq!(socket.close_code().await, code);
    }
    // The twin: a pong that is masked, in UTF-8 and short.
    let mut socket = Opening::of(&stack).admitted(&token).await;
    socket.send_raw(b"\x81\x81\0\0\0\x003").await;
    socket.subscribe("lobby").await;
    let lines = [
        r#"sessions_closed_total{cause="violated"} 1"#,
        r#"sessions_closed_total{cause="invalid_text"} 1"#,
        r#"sessions_closed_total{cause="too_large"} 1"#,
        "sessions 1",
    ];
    shown(&stack, &admin, &lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_fetched_are_counted() {
    let options = Options::default()
        .gateway("keys.mode", "asymmetric")
        .auth("keys.mode", "asymmetric");
    let (stack, admin) = stack_with_admin(options).await;
    let lines = [r#"key_fetches_total{outcome="fetched"} 1"#];
    shown(&stack, &admin, &lines).await;
}
