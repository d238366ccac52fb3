//! Events that are stored before they are acknowledged, and delivered later.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::response::{IntoResponse as _, Response};
use harness::{
    CalledBackEnd, Mode, Opening, Options, Stack, WebSocket,
    called::{Request, answer},
    eventually,
    stack::run,
};
use http::StatusCode;
use serde_json::{Value, json};

/// Rounds in which the gateway is killed, and events that are acknowledged in each.
const ROUNDS: u32 = 5;
const EVENTS: u32 = 40;

fn options(shop: &CalledBackEnd) -> Options {
    let rule = json!({ "events": ["shop:**"], "backend": "shop", "mode": "notify" });
    shop.options().gateway("events", json!([rule]))
}

async fn socket(stack: &Stack, name: &str) -> WebSocket {
    let token = stack.login(name).await;
    Opening::of(stack).admitted(&token).await
}

/// Emits an event and returns the id under which it was stored.
async fn store(socket: &mut WebSocket, data: Value) -> String {
    let answer = socket.call("shop:order", data).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["id"].as_str().expect("an id").to_owned()
}

/// A back end that takes events while it is well.
async fn back_end(is_well: &Arc<AtomicBool>) -> CalledBackEnd {
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

fn ids(requests: &[Request]) -> Vec<&str> {
    requests
        .iter()
        .map(|one| one.header("webhook-id"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_event_is_sent_again_under_its_id_and_before_the_next_of_its_user() {
    let is_well = Arc::new(AtomicBool::new(false));
    let shop = back_end(&is_well).await;
    let stack = Stack::start_with(options(&shop)).await;
    let (mut alice, mut bob) = (socket(&stack, "alice").await, socket(&stack, "bob").await);
    let mut stored = Vec::new();
    for n in 0..3 {
        stored.push(store(&mut alice, json!(n)).await);
    }
    eventually("the first attempt", async || !shop.requests().is_empty()).await;
    let of_bob = store(&mut bob, json!("bob")).await;
    eventually("bob's event does not wait for alice's", async || {
        ids(&shop.requests()).contains(&of_bob.as_str())
    })
    .await;
    is_well.store(true, Ordering::Release);
    let is_last = |request: &Request| request.header("webhook-id") == stored[2];
    eventually("the last event", async || {
        shop.requests().iter().any(is_last)
    })
    .await;
    let requests = shop.requests();
    let of_alice = requests
        .iter()
        .filter(|one| one.header("webhook-id") != of_bob);
    let mut of_alice: Vec<_> = of_alice.cloned().collect();
    let first = of_alice[0].clone();
    let repeated = of_alice
        .iter()
        .filter(|one| one.header("webhook-id") == stored[0]);
    assert!(repeated.clone().count() > 1, "it was sent again");
    assert!(repeated.clone().all(|one| one.body == first.body));
    of_alice.dedup_by(|one, other| one.header("webhook-id") == other.header("webhook-id"));
    assert_eq!(ids(&of_alice), stored);
    assert_eq!(of_alice[1].event["data"]["args"], json!([1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_more_than_the_queue_holds_is_busy() {
    let shop = CalledBackEnd::start(async |_| pending::<Response>().await).await;
    let stack = Stack::start_with(options(&shop).gateway("webhooks.entries", 1)).await;
    let mut alice = socket(&stack, "alice").await;
    store(&mut alice, json!(1)).await;
    let answer = alice.call("shop:order", json!(2)).await;
    let error = &answer["error"];
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&json!("backend_busy"), &json!(true))
    );
    assert_eq!(error["retry_after_ms"], 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_can_never_be_sent_is_not_stored() {
    let shop = CalledBackEnd::start(async |_| answer(json!({}))).await;
    let mut settings = shop.settings("shop");
    settings["bytes"] = json!(65_536);
    let options = options(&shop).gateway("backends", json!([settings]));
    let stack = Stack::start_with(options).await;
    let mut alice = socket(&stack, "alice").await;
    let refused = alice.call("shop:order", json!("x".repeat(70_000))).await;
    assert_eq!(refused["error"]["code"], "invalid_request");
    let id = store(&mut alice, json!("x".repeat(10_000))).await;
    eventually("the smaller event", async || {
        ids(&shop.requests()) == [id.as_str()]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_no_larger_than_its_back_end_takes() {
    let is_well = Arc::new(AtomicBool::new(false));
    let shop = back_end(&is_well).await;
    let mut settings = shop.settings("shop");
    settings["bytes"] = json!(65_536);
    settings["batch"] = json!(100);
    let options = options(&shop).gateway("backends", json!([settings]));
    let stack = Stack::start_with(options).await;
    let mut alice = socket(&stack, "alice").await;
    for n in 0..200 {
        store(&mut alice, json!([n, "x".repeat(1024)])).await;
    }
    is_well.store(true, Ordering::Release);
    let is_last = |event: &Value| event["data"]["args"][0][0] == 199;
    eventually("the last event", async || {
        let requests = shop.requests();
        let mut lists = requests.iter().filter_map(|one| one.event.as_array());
        lists.any(|list| list.iter().any(is_last))
    })
    .await;
    let longest = shop.requests().iter().map(|one| one.body.len()).max();
    assert!(longest.is_some_and(|bytes| (16_384..32_768).contains(&bytes)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn every_acknowledged_event_is_delivered_in_order_although_the_gateway_is_killed() {
    let is_well = Arc::new(AtomicBool::new(true));
    let shop = back_end(&is_well).await;
    let mut stack = Stack::start_with(options(&shop).mode(Mode::Binaries)).await;
    let mut stored = Vec::new();
    for round in 0..ROUNDS {
        let mut alice = socket(&stack, "alice").await;
        for n in 0..EVENTS {
            stored.push(store(&mut alice, json!([round, n])).await);
        }
        stack.kill_gateway().await;
    }
    let are_here = async || {
        let requests = shop.requests();
        let delivered = ids(&requests);
        stored.iter().all(|id| delivered.contains(&id.as_str()))
    };
    eventually("every event", are_here).await;
    // What was sent twice came twice in a row, or the order would be another.
    let requests = shop.requests();
    let mut delivered = ids(&requests);
    delivered.dedup();
    assert_eq!(delivered, stored);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn an_event_that_is_given_up_is_listed_shown_replayed_and_dropped() {
    let is_well = Arc::new(AtomicBool::new(false));
    let shop = back_end(&is_well).await;
    let stack = Stack::start_with(options(&shop)).await;
    let mut alice = socket(&stack, "alice").await;
    let id = store(&mut alice, json!("tea")).await;
    eventually("an attempt", async || !shop.requests().is_empty()).await;
    let file = stack.webhooks_file();
    let variables = [(
        "REALTIME__WEBHOOKS__FILE".to_owned(),
        file.display().to_string(),
    )];
    let command = async |arguments: &[&str]| {
        let all = [&["webhooks"], arguments].concat();
        let ended = run("realtime-service", &all, &variables, None).await;
        (ended.status.code(), ended.output)
    };
    // Three days and many attempts later.
    let age = "UPDATE events SET created_at = 1, next_at = 1, attempts = 10";
    let old = rusqlite::Connection::open(&file).expect("the file");
    old.execute(age, []).expect("an older event");
    eventually("a dead letter", async || {
        let (_, listed) = command(&["list", "--dead"]).await;
        // The next attempt may have been noted after the change.
        let _ = old.execute(&format!("{age} WHERE dead_at IS NULL"), []);
        listed.contains(&id)
    })
    .await;
    assert_eq!(command(&["list"]).await, (Some(0), String::new()));
    let (status, shown) = command(&["show", &id]).await;
    assert!(
        status == Some(0) && shown.contains("\"tea\"") && shown.contains("500"),
        "{shown}"
    );
    let none = (Some(1), "replayed 0\n".to_owned());
    assert_eq!(command(&["replay", "another"]).await, none);
    let requests = shop.requests().len();
    is_well.store(true, Ordering::Release);
    assert_eq!(
        command(&["replay", &id]).await,
        (Some(0), "replayed 1\n".to_owned())
    );
    eventually("the event", async || shop.requests().len() > requests).await;
    assert_eq!(shop.requests()[requests].header("webhook-id"), id);
    eventually("an empty queue", async || {
        command(&["drop", &id]).await.0 == Some(1)
    })
    .await;
    assert_eq!(command(&["show", &id]).await.0, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_list_that_is_cut_off_says_how_to_go_on() {
    let shop = back_end(&Arc::default()).await;
    let stack = Stack::start_with(options(&shop)).await;
    let mut ids = Vec::new();
    for name in ["alice", "bob"] {
        let mut socket = socket(&stack, name).await;
        ids.push(store(&mut socket, json!("tea")).await);
    }
    let file = stack.webhooks_file();
    let variables = [(
        "REALTIME__WEBHOOKS__FILE".to_owned(),
        file.display().to_string(),
    )];
    let list = async |arguments: &[&str]| {
        let all = [&["webhooks", "list"], arguments].concat();
        run("realtime-service", &all, &variables, None).await.output
    };
    let whole = list(&[]).await;
    assert!(ids.iter().all(|id| whole.contains(id)) && !whole.contains("--after"));
    let first = list(&["--limit", "1"]).await;
    assert!(
        first.contains(&ids[0]) && !first.contains(&ids[1]),
        "{first}"
    );
    assert!(first.contains("there are more: --after 1"), "{first}");
    let rest = list(&["--limit", "1", "--after", "1"]).await;
    assert!(
        rest.contains(&ids[1]) && !rest.contains("there are more"),
        "{rest}"
    );
}
