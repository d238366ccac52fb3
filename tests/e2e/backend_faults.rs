//! Back ends that fail, are slow, or are where no request may go: their own callers are told, and
//! nobody else is affected.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::response::{IntoResponse as _, Response};
use harness::{CalledBackEnd, Opening, Options, Stack, WebSocket, called::answer, eventually};
use http::{StatusCode, header};
use serde_json::{Value, json};

async fn socket(stack: &Stack, name: &str) -> WebSocket {
    let token = stack.login(name).await;
    Opening::of(stack).admitted(&token).await
}

/// The error of an event, as far as the client decides by it.
async fn error_of(socket: &mut WebSocket, event: &str) -> (String, bool) {
    let answer = socket.call(event, json!(1)).await;
    let error = &answer["error"];
    assert_eq!(answer["ok"], json!(false), "{answer}");
    let code = error["code"].as_str().expect("a code").to_owned();
    let retryable = error["retryable"].as_bool().expect("a bool");
    assert_eq!(error["retry_after_ms"].is_u64(), retryable, "{answer}");
    (code, retryable)
}

/// A stack whose back end `shop` has further settings.
fn with_settings(shop: &CalledBackEnd, more: Value) -> Options {
    let mut settings = shop.settings("shop");
    let members = more.as_object().expect("members").clone();
    settings.as_object_mut().expect("an object").extend(members);
    shop.options().gateway("backends", json!([settings]))
}

fn status(code: StatusCode) -> Response {
    code.into_response()
}

async fn fine(_: Value) -> Response {
    answer(json!({ "ack": ["fine"] }))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_that_is_none_is_an_error_of_its_own() {
    let shop = CalledBackEnd::start(async |event: Value| {
        let name = event["event"].as_str().unwrap_or_default().to_owned();
        match &name[5..] {
            "redirect" => (
                StatusCode::TEMPORARY_REDIRECT,
                [(header::LOCATION, "/events?again")],
            )
                .into_response(),
            "refuse" => status(StatusCode::UNPROCESSABLE_ENTITY),
            "crash" => status(StatusCode::INTERNAL_SERVER_ERROR),
            "pause" => (
                StatusCode::SERVICE_UNAVAILABLE,
                [(header::RETRY_AFTER, "7")],
            )
                .into_response(),
            "text" => "fine".into_response(),
            "long" => answer(json!({ "ack": ["x".repeat(2_000_000)] })),
            _ => fine(event).await,
        }
    })
    .await;
    let stack = Stack::start_with(shop.options()).await;
    let mut alice = socket(&stack, "alice").await;
    for (event, code, retryable) in [
        ("shop:redirect", "backend_failed", false),
        ("shop:refuse", "backend_failed", false),
        ("shop:text", "backend_failed", false),
        ("shop:long", "backend_failed", false),
        ("shop:crash", "backend_failed", true),
        ("shop:pause", "backend_busy", true),
    ] {
        let requests = shop.requests().len();
        let expected = (code.to_owned(), retryable);
        assert_eq!(error_of(&mut alice, event).await, expected, "{event}");
        assert_eq!(shop.requests().len(), requests + 1, "{event}: sent once");
    }
    let paused = alice.call("shop:pause", json!(1)).await;
    assert_eq!(paused["error"]["retry_after_ms"], 7000);
    assert_eq!(alice.call("shop:fine", json!(1)).await, "fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_without_an_answer_costs_its_own_callers_an_error_and_no_others() {
    let (slow, fast) = (
        CalledBackEnd::start(async |_| pending::<Response>().await).await,
        CalledBackEnd::start(fine).await,
    );
    let mut settings = slow.settings("slow");
    settings["timeout_ms"] = json!(300);
    let route =
        |name: &str, backend| json!({ "events": [name], "backend": backend, "mode": "call" });
    let options = slow
        .options()
        .gateway("backends", json!([settings, fast.settings("fast")]))
        .gateway(
            "events",
            json!([route("slow:*", "slow"), route("fast:*", "fast")]),
        );
    let stack = Stack::start_with(options).await;
    let (mut alice, mut bob) = (socket(&stack, "alice").await, socket(&stack, "bob").await);
    alice.send(r#"427["slow:order"]"#).await;
    eventually("the call", async || slow.requests().len() == 1).await;
    assert_eq!(bob.call("fast:order", json!(1)).await, "fine");
    let answer = alice.acknowledgement(7).await;
    assert_eq!(answer["error"]["code"], "backend_timeout");
    assert_eq!(answer["error"]["retryable"], true);
    // The caller's own events go on.
    assert_eq!(alice.call("fast:order", json!(1)).await, "fine");
    alice.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_more_than_may_wait_is_busy() {
    let shop = CalledBackEnd::start(async |_| pending::<Response>().await).await;
    let options = with_settings(&shop, json!({ "concurrency": 1, "queue": 1 }));
    let stack = Stack::start_with(options).await;
    // One call of each: two of one user would be more than a share.
    let mut alice = socket(&stack, "alice").await;
    alice.send(r#"421["shop:order"]"#).await;
    eventually("the first call", async || shop.requests().len() == 1).await;
    let mut bob = socket(&stack, "bob").await;
    let token = stack.forge().claim("sub", "carol").token();
    let mut carol = Opening::of(&stack).admitted(&token).await;
    // Whichever comes first waits, and the other one is answered.
    let answer = tokio::select! {
        answer = error_of(&mut bob, "shop:order") => answer,
        answer = error_of(&mut carol, "shop:order") => answer,
    };
    assert_eq!(answer, ("backend_busy".to_owned(), true));
    assert_eq!(shop.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_the_bytes_of_the_back_end_is_never_sent() {
    let shop = CalledBackEnd::start(fine).await;
    let stack = Stack::start_with(with_settings(&shop, json!({ "bytes": 65_536 }))).await;
    let mut alice = socket(&stack, "alice").await;
    let large = json!("x".repeat(70_000));
    let answer = alice.call("shop:order", large).await;
    assert_eq!(answer["error"]["code"], "invalid_request");
    assert_eq!(answer["error"]["retryable"], false);
    assert!(shop.requests().is_empty());
    assert_eq!(
        alice.call("shop:order", json!("x".repeat(10_000))).await,
        "fine"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_leads_to_an_address_in_a_denied_network() {
    let shop = CalledBackEnd::start(fine).await;
    for (denied, is_called) in [
        (vec!["10.0.0.0/8"], true),
        (vec!["127.0.0.0/8", "::1/128"], false),
    ] {
        let options = shop
            .options()
            .gateway("backend_deny_networks", json!(denied));
        let stack = Stack::start_with(options).await;
        let mut alice = socket(&stack, "alice").await;
        match is_called {
            true => assert_eq!(alice.call("shop:order", json!(1)).await, "fine"),
            false => {
                let expected = ("backend_failed".to_owned(), true);
                assert_eq!(error_of(&mut alice, "shop:order").await, expected);
            }
        }
    }
    assert_eq!(shop.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_that_keeps_failing_is_left_alone_until_it_answers_again() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = is_well.clone();
    let shop = CalledBackEnd::start(move |event| {
        let is_well = well.clone();
        async move {
            match is_well.load(Ordering::Acquire) {
                true => fine(event).await,
                false => status(StatusCode::BAD_GATEWAY),
            }
        }
    })
    .await;
    let stack = Stack::start_with(shop.options()).await;
    let mut alice = socket(&stack, "alice").await;
    for _ in 0..15 {
        let expected = ("backend_failed".to_owned(), true);
        assert_eq!(error_of(&mut alice, "shop:order").await, expected);
    }
    assert_eq!(shop.requests().len(), 10, "the others were not sent");
    is_well.store(true, Ordering::Release);
    eventually("an answer", async || {
        alice.call("shop:order", json!(1)).await == "fine"
    })
    .await;
    assert_eq!(shop.requests().len(), 11);
}
