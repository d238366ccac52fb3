//! Messages that a back end reviews, and back ends that give no answer.

use std::future::pending;

use axum::response::{IntoResponse as _, Response};
use harness::{
    CalledBackEnd, Opening, Stack, WebSocket,
    called::{answer, with},
};
use http::StatusCode;
use serde_json::{Value, json};

async fn socket(stack: &Stack, subject: &str) -> WebSocket {
    let token = stack.forge().claim("sub", subject).token();
    Opening::of(stack).admitted(&token).await
}

/// Reviews messages by their data: `bad` is refused, `rude` is replaced, and the rest is left alone.
async fn review(event: Value) -> Response {
    let data = &event["data"];
    if data["action"] == "sub" {
        return answer(json!({ "allow": true }));
    }
    let message = &data["message"];
    answer(match message["data"].as_str() {
        Some("bad") => json!({ "allow": false, "reason": "not here" }),
        Some("rude") => json!({ "allow": true, "message": { "event": "calm", "data": "polite" } }),
        Some("rough") => json!({ "allow": true, "message": { "data": "smooth" } }),
        _ => json!({ "allow": true }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_published_as_it_is_or_as_the_back_end_says_or_not_at_all() {
    let shop = CalledBackEnd::start(review).await;
    let stack = Stack::start_with(shop.decides_on(&["sub", "pub"])).await;
    let mut alice = socket(&stack, "alice").await;
    let mut bob = socket(&stack, "bob").await;
    bob.subscribe("desk:7").await;
    for (data, published) in [
        ("fine", Some(("say", "fine"))),
        ("bad", None),
        ("rude", Some(("calm", "polite"))),
        ("rough", Some(("say", "smooth"))),
    ] {
        let payload = json!({ "room": "desk:7", "event": "say", "data": data, "id": data });
        let answer = alice.call("rt:publish", payload).await;
        let Some((event, data)) = published else {
            let error = &answer["error"];
            assert_eq!(
                (&error["code"], &error["message"], &error["retryable"]),
                (&json!("forbidden"), &json!("not here"), &json!(false))
            );
            continue;
        };
        assert_eq!(answer["ok"], true, "{answer}");
        // The refused message has reached nobody.
        let heard = bob.event().await;
        assert_eq!((&heard[0], &heard[1]), (&json!(event), &json!(data)));
        assert_eq!(heard[2]["from"]["sub"], "alice");
    }
    let requests = shop.requests();
    let message = &requests[1].event["data"]["message"];
    assert_eq!(
        message,
        &json!({ "event": "say", "data": "fine", "id": "fine" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_is_shown_to_the_back_end_and_can_be_replaced() {
    let place = json!({ "_placeholder": true, "num": 0 });
    let replacement =
        json!({ "allow": true, "message": { "data": [place], "attachments": ["CQg="] } });
    let shop = CalledBackEnd::start(move |event: Value| {
        let replacement = replacement.clone();
        async move {
            match event["data"]["action"] == "sub" {
                true => answer(json!({ "allow": true })),
                false => answer(replacement),
            }
        }
    })
    .await;
    let stack = Stack::start_with(shop.decides_on(&["sub", "pub"])).await;
    let mut alice = socket(&stack, "alice").await;
    alice.subscribe("desk:7").await;
    alice
        .send(r#"451-["rt:publish",{"room":"desk:7","event":"x","data":{"_placeholder":true,"num":0}}]"#)
        .await;
    alice.send_binary(&[1, 2]).await;
    let packet = alice.packet().await;
    assert!(
        packet.starts_with(r#"451-["x",[{"_placeholder":true,"num":0}],"#),
        "{packet}"
    );
    assert_eq!(alice.binary().await, [9, 8]);
    let message = &shop.requests()[1].event["data"]["message"];
    assert_eq!(message["attachments"], json!(["AQI="]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_messages_that_is_kept_holds_for_the_next_one() {
    for (cache_secs, questions) in [(60, 1), (0, 3)] {
        let shop = CalledBackEnd::start(move |_| {
            let allowed = json!({ "allow": true, "cache_secs": cache_secs });
            async move { answer(allowed) }
        })
        .await;
        let stack = Stack::start_with(shop.decides_on(&["pub"])).await;
        let mut alice = socket(&stack, "alice").await;
        for number in 1..=3 {
            let payload = json!({ "room": "desk:7", "event": "say", "data": number });
            let answer = alice.call("rt:publish", payload).await;
            assert_eq!(answer["offset"], number, "{answer}");
        }
        assert_eq!(shop.requests().len(), questions);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_nothing_is_allowed_and_the_client_may_try_again() {
    let shop = CalledBackEnd::start(async |event: Value| {
        match event["data"]["room"].as_str().unwrap_or_default() {
            "desk:slow" => pending().await,
            "desk:crash" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            "desk:forbidden" => StatusCode::FORBIDDEN.into_response(),
            "desk:empty" => "".into_response(),
            "desk:text" => "true".into_response(),
            "desk:more" => answer(json!({ "allow": true, "welcome": true })),
            "desk:busy" => StatusCode::TOO_MANY_REQUESTS.into_response(),
            _ => answer(json!({ "allow": true })),
        }
    })
    .await;
    let settings = with(shop.settings("shop"), json!({ "timeout_ms": 500 }));
    let options = shop.decides_on(&["sub", "pub"]);
    let stack = Stack::start_with(options.gateway("backends", json!([settings]))).await;
    let mut alice = socket(&stack, "alice").await;
    for (room, code) in [
        ("slow", "backend_timeout"),
        ("crash", "backend_failed"),
        ("forbidden", "backend_failed"),
        ("empty", "backend_failed"),
        ("text", "backend_failed"),
        ("more", "backend_failed"),
        ("busy", "backend_busy"),
    ] {
        let room = format!("desk:{room}");
        let publish = json!({ "room": room, "event": "say" });
        for (event, payload) in [
            ("rt:subscribe", json!({ "room": room })),
            ("rt:publish", publish),
        ] {
            let answer = alice.call(event, payload).await;
            let error = &answer["error"];
            assert_eq!(
                (&error["code"], &error["retryable"], &error["room"]),
                (&json!(code), &json!(true), &json!(room)),
                "{answer}"
            );
            assert!(error["retry_after_ms"].is_u64(), "{answer}");
        }
    }
    alice.subscribe("desk:fine").await;
    // The circuit opens, and then nobody is asked.
    for _ in 0..10 {
        let answer = alice.call("rt:subscribe", json!({ "room": "desk:crash" }));
        assert_eq!(answer.await["error"]["code"], "backend_failed");
    }
    let questions = shop.requests().len();
    let answer = alice.call("rt:subscribe", json!({ "room": "desk:fine" }));
    let answer = answer.await;
    let error = &answer["error"];
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&json!("backend_failed"), &json!(true)),
        "{answer}"
    );
    assert_eq!(shop.requests().len(), questions);
}
