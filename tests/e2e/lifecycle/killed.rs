//! The gateway is killed at any moment, under load, and no event that it owes is lost.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use harness::{CalledBackEnd, Forge, Mode, Options, Stack, called::Request, eventually};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::back_end;
use crate::recovery::{Chance, seed};

/// Number of times that the gateway is killed, and of clients that are busy then.
const KILLS: usize = 100;
const CLIENTS: usize = 4;

/// Bounds of the time that a gateway lives, in milliseconds.
const SHORTEST_LIFE_MS: u64 = 5;
const LONGEST_LIFE_MS: u64 = 250;

/// Maximum number of events that a connection sends.
const EVENTS: u64 = 8;

/// Sessions whose CONNECT was confirmed to a client, each with the ids of its
/// acknowledged events in their order.
pub(super) type Confirmed = Arc<Mutex<HashMap<String, Vec<String>>>>;

pub(super) fn options(shop: &CalledBackEnd) -> Options {
    let notify = json!({ "events": ["shop:**"], "backend": "shop", "mode": "notify" });
    let types = ["connection.opened", "connection.closed"];
    Options::default()
        .mode(Mode::Binaries)
        .log("warn")
        .gateway("backends", json!([shop.settings("shop")]))
        .gateway("events", json!([notify]))
        .gateway("lifecycle", json!([{ "backend": "shop", "types": types }]))
        .gateway("limits.sessions_per_address", 10_000)
}

/// Connects and sends events, again and again, until the gateway is gone.
pub(super) async fn keep_busy(
    gateway: SocketAddr,
    issuer: Forge,
    confirmed: Confirmed,
    mut chance: Chance,
) {
    loop {
        let subject = harness::random_text(12);
        let forge = issuer.clone().claim("sub", subject.as_str());
        let forge = forge.claim("sid", subject.as_str());
        if connect(gateway, &forge, &confirmed, chance.below(EVENTS))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Sends so many events on one connection; `None` when the gateway is gone.
async fn connect(
    gateway: SocketAddr,
    forge: &Forge,
    confirmed: &Confirmed,
    events: u64,
) -> Option<()> {
    let note = |id: Option<&str>| {
        let mut confirmed = confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let session = confirmed.entry(forge.text_of("sid").to_owned());
        session.or_default().extend(id.map(str::to_owned));
    };
    let url = format!("ws://{gateway}/socket.io/?EIO=4&transport=websocket");
    let stream = TcpStream::connect(gateway).await.ok()?;
    let (mut socket, _) = client_async(url, stream).await.ok()?;
    let connect = format!("40{}", json!({ "token": forge.token() }));
    socket.send(Message::text(connect)).await.ok()?;
    text_with(&mut socket, "40{").await?;
    note(None);
    for number in 0..events {
        let event = format!("421{}", json!(["shop:order", number]));
        socket.send(Message::text(event)).await.ok()?;
        let answer: Value = serde_json::from_str(&text_with(&mut socket, "431").await?).ok()?;
        assert_eq!(answer[0]["ok"], true, "{answer}");
        note(answer[0]["id"].as_str());
    }
    Some(())
}

/// Reads until a packet begins with `prefix`, and returns it without its type.
async fn text_with(socket: &mut WebSocketStream<TcpStream>, prefix: &str) -> Option<String> {
    loop {
        let message = socket.next().await?.ok()?;
        let text = message.to_text().ok()?;
        if text.starts_with(prefix) {
            let json = text.find(['[', '{'])?;
            return Some(text[json..].to_owned());
        }
    }
}

/// The events of each session, in the order in which they came first. A repetition is the same event.
fn by_session(requests: &[Request]) -> HashMap<String, Vec<Value>> {
    let mut bodies = HashMap::new();
    let mut sessions: HashMap<String, Vec<Value>> = HashMap::new();
    for request in requests {
        let id = request.header("webhook-id").to_owned();
        match bodies.insert(id, &request.body) {
            Some(body) => assert_eq!(body, &request.body, "a repetition is the same event"),
            None => {
                let session = request.event["session"].as_str().expect("a session");
                let events = sessions.entry(session.to_owned()).or_default();
                events.push(request.event.clone());
            }
        }
    }
    sessions
}

fn is_closing(event: &Value) -> bool {
    event["type"] == "latchkey.connection.closed"
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_gateway_that_is_killed_a_hundred_times_owes_no_event() {
    let shop = back_end().await;
    let mut stack = Stack::start_with(options(&shop)).await;
    let (confirmed, mut chances) = (Confirmed::default(), Chance(seed()));
    for _ in 0..KILLS {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let chance = Chance(chances.below(u64::MAX));
            let (gateway, issuer) = (stack.gateway_address, stack.forge());
            clients.spawn(keep_busy(gateway, issuer, confirmed.clone(), chance));
        }
        // No event but the kill ends a life.
        let life = SHORTEST_LIFE_MS + chances.below(LONGEST_LIFE_MS - SHORTEST_LIFE_MS);
        tokio::time::sleep(Duration::from_millis(life)).await;
        stack.kill_gateway().await;
        clients.shutdown().await;
    }
    let lost = assert_all_told(&shop, &confirmed).await;
    assert!(
        lost > KILLS / 4,
        "only {lost} connections were open at a kill"
    );
}

/// Waits for the end of every connection, and asserts that nothing is missing and all is in order. Returns the number of
/// connections that were lost with a gateway.
pub(super) async fn assert_all_told(shop: &CalledBackEnd, confirmed: &Confirmed) -> usize {
    let confirmed = confirmed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    all_closed(shop, &confirmed).await;
    let lost = assert_in_order(shop, &confirmed);
    println!("{} connections, {lost} of them lost", confirmed.len());
    lost
}

/// Waits for the end of every connection.
async fn all_closed(shop: &CalledBackEnd, confirmed: &HashMap<String, Vec<String>>) {
    eventually("the end of every connection", async || {
        let sessions = by_session(&shop.requests());
        let is_closed = |session| {
            let events = sessions.get(session);
            events.is_some_and(|events: &Vec<Value>| events.iter().any(is_closing))
        };
        confirmed.keys().all(is_closed)
    })
    .await;
}

/// Asserts that each session has its opening, its events in their order, and its end, once each. Returns the
/// number of sessions that were lost with a gateway.
fn assert_in_order(shop: &CalledBackEnd, confirmed: &HashMap<String, Vec<String>>) -> usize {
    let mut lost = 0;
    for (session, events) in by_session(&shop.requests()) {
        let types: Vec<_> = events.iter().map(|event| event["type"].as_str()).collect();
        let (first, last) = (&events[0], &events[events.len() - 1]);
        assert_eq!(first["type"], "latchkey.connection.opened", "{types:?}");
        assert!(is_closing(last), "{types:?}");
        assert_eq!(events.iter().filter(|event| is_closing(event)).count(), 1);
        lost += usize::from(last["data"]["cause"] == "gateway_lost");
        let arguments = events[1..events.len() - 1].iter();
        let arguments = arguments.map(|event| event["data"]["args"][0].as_u64());
        assert!(
            arguments.eq((0..events.len() as u64 - 2).map(Some)),
            "{types:?}"
        );
        let ids: Vec<_> = events
            .iter()
            .filter_map(|event| event["id"].as_str())
            .collect();
        let known = confirmed.get(&session).cloned().unwrap_or_default();
        assert!(
            known.iter().all(|id| ids.contains(&id.as_str())),
            "{types:?}"
        );
    }
    lost
}
