//! The queue of lifecycle events: its bounds, its batches, and the API that shows and changes it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::response::IntoResponse as _;
use harness::{
    CalledBackEnd, Opening, Options, Stack,
    api::{ALL_SCOPES, WithApi},
    called::answer,
    eventually,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{back_end, events, options, type_of};
use crate::metrics::{shown, stack_with_admin};

const CONNECTION: [&str; 2] = ["connection.opened", "connection.closed"];

/// A back end that takes events while it is well.
async fn moody_back_end(is_well: &Arc<AtomicBool>) -> CalledBackEnd {
    let is_well = is_well.clone();
    CalledBackEnd::start(move |_| {
        let is_well = is_well.load(Ordering::Acquire);
        async move {
            match is_well {
                true => answer(json!({})),
                false => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_fit_is_served_and_neither_its_start_nor_its_end_is_told() {
    let shop = moody_back_end(&Arc::default()).await;
    let options = options(&shop, &CONNECTION).gateway("webhooks.entries", 3);
    let (stack, admin) = stack_with_admin(options).await;
    let first = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let dropped = |count| format!("webhooks_dropped_total{{backend=\"shop\"}} {count}");
    shown(&stack, &admin, &[&dropped(0)]).await;
    let mut second = Opening::of(&stack).admitted(&stack.forge().token()).await;
    second.subscribe("lobby").await;
    shown(&stack, &admin, &[&dropped(2)]).await;
    drop(second);
    // The end of the first one has its place.
    drop(first);
    let queued = "webhooks_queued{backend=\"shop\"} 2";
    shown(&stack, &admin, &[queued, &dropped(2)]).await;
}

/// A stack whose back end is sent lists of connection events.
fn batch_options(shop: &CalledBackEnd) -> Options {
    let mut settings = shop.settings("shop");
    settings["batch"] = json!(50);
    options(shop, &CONNECTION).gateway("backends", json!([settings]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_events_of_many_subjects_each_in_its_order() {
    let is_well = Arc::new(AtomicBool::new(false));
    let shop = moody_back_end(&is_well).await;
    let stack = Stack::start_with(batch_options(&shop)).await;
    let forges: Vec<_> = (0..4).map(|_| stack.forge()).collect();
    for forge in &forges {
        drop(Opening::of(&stack).admitted(&forge.token()).await);
    }
    eventually("an attempt", async || !shop.requests().is_empty()).await;
    is_well.store(true, Ordering::Release);
    let all = || {
        let lists = events(&shop).into_iter();
        let lists = lists.map(|list| list.as_array().expect("a list").clone());
        lists.collect::<Vec<_>>()
    };
    let told_of = |forge: &harness::Forge| {
        let mut told: Vec<Value> = Vec::new();
        for event in all().concat() {
            let is_new = told.iter().all(|one| one["id"] != event["id"]);
            if is_new && event["subject"] == forge.text_of("sub") {
                told.push(event);
            }
        }
        told.iter()
            .map(|one| type_of(one).to_owned())
            .collect::<Vec<_>>()
    };
    eventually("all events", async || {
        forges.iter().all(|forge| told_of(forge) == CONNECTION)
    })
    .await;
    let requests = shop.requests();
    for request in &requests {
        let kind = request.header("content-type");
        assert!(
            kind.starts_with("application/cloudevents-batch+json"),
            "{kind}"
        );
        let list = request.event.as_array().expect("a list");
        let id = request.header("webhook-id");
        assert_eq!(list.len() == 1, list[0]["id"] == id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_an_event_that_failed_is_sent_together() {
    let is_well = Arc::new(AtomicBool::new(false));
    let shop = moody_back_end(&is_well).await;
    let stack = Stack::start_with(batch_options(&shop)).await;
    let forge = stack.forge();
    let first = Opening::of(&stack).admitted(&forge.token()).await;
    eventually("a failure", async || !shop.requests().is_empty()).await;
    drop(first);
    for _ in 0..3 {
        drop(Opening::of(&stack).admitted(&forge.token()).await);
    }
    is_well.store(true, Ordering::Release);
    eventually("a longer list", async || {
        let lists = events(&shop);
        lists
            .iter()
            .filter_map(Value::as_array)
            .any(|list| list.len() >= 4)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_lists_shows_replays_and_drops_events() {
    let is_well = Arc::new(AtomicBool::new(false));
    let shop = moody_back_end(&is_well).await;
    let api = WithApi::start_with(options(&shop, &["connection.opened"])).await;
    let token = api.back_end(ALL_SCOPES).token();
    let get = async |path: &str| api.call(Method::GET, path, &token, None).await;
    let change = async |path: &str, body: Value| {
        let answer = api.call(Method::POST, path, &token, Some(body)).await;
        answer.ok()["events"].clone()
    };
    for name in ["alice", "bob"] {
        let forge = api.stack.forge().claim("name", name);
        Opening::of(&api.stack).admitted(&forge.token()).await;
    }
    let listed = get("/v1/webhooks").await.ok();
    let list = listed["events"].as_array().expect("a list");
    assert_eq!((list.len(), listed.get("next")), (2, None));
    let first = get("/v1/webhooks?limit=1").await.ok();
    assert_eq!(first["events"][0]["id"], list[0]["id"]);
    let after = format!("/v1/webhooks?limit=1&after={}", first["next"]);
    let second = get(&after).await.ok();
    assert_eq!(
        (&second["events"][0]["id"], second.get("next")),
        (&list[1]["id"], None)
    );
    let id = list[0]["id"].as_str().expect("an id").to_owned();
    let shown = get(&format!("/v1/webhooks/{id}")).await.ok();
    assert_eq!(shown["body"]["data"]["claims"]["name"], "alice");
    assert_eq!(get("/v1/webhooks/another").await.code(), "not_found");
    // Three days and many attempts later.
    let file = rusqlite::Connection::open(api.stack.webhooks_file()).expect("the file");
    let age = "UPDATE events SET created_at = 1, next_at = 1, attempts = 10 WHERE dead_at IS NULL";
    eventually("dead letters", async || {
        // The next attempt may have been noted after the change.
        let _ = file.execute(age, []);
        let dead = get("/v1/webhooks?dead=true").await.ok();
        dead["events"]
            .as_array()
            .is_some_and(|list| list.len() == 2)
    })
    .await;
    let one = json!({ "id": id });
    for body in [json!({}), json!({ "id": id, "dead": true })] {
        let answer = api
            .call(Method::POST, "/v1/webhooks/replay", &token, Some(body))
            .await;
        assert_eq!(answer.code(), "invalid_request");
    }
    is_well.store(true, Ordering::Release);
    let sent = shop.requests().len();
    assert_eq!(change("/v1/webhooks/replay", one).await, 1);
    eventually("the replayed event", async || shop.requests().len() > sent).await;
    assert_eq!(shop.requests()[sent].header("webhook-id"), id);
    assert_eq!(
        change("/v1/webhooks/drop", json!({ "dead": true })).await,
        1
    );
    assert_eq!(
        change("/v1/webhooks/drop", json!({ "dead": true })).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_queue_has_no_events() {
    let api = WithApi::start().await;
    let token = api.back_end(ALL_SCOPES).token();
    let listed = api.call(Method::GET, "/v1/webhooks", &token, None).await;
    assert_eq!(listed.ok(), json!({ "events": [] }));
    let body = Some(json!({ "dead": true }));
    let dropped = api
        .call(Method::POST, "/v1/webhooks/drop", &token, body)
        .await;
    assert_eq!(dropped.ok(), json!({ "events": 0 }));
    // A gateway without rules opens no file.
    let shop = back_end().await;
    let stack = Stack::start_with(shop.options()).await;
    drop(Opening::of(&stack).admitted(&stack.forge().token()).await);
    assert!(!stack.webhooks_file().exists());
}
