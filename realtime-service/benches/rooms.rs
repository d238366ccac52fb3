//! What rooms cost: a decision of the policy, and a subscription, a message and a recovery through
//! the whole gateway, by WebSocket on loopback. The clients share this process and its cores.
//!
//! Prints the mean of each; there is no bound, since it depends on the machine.

mod client;

use std::{
    hint::black_box,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures_util::SinkExt;
use realtime_service::{
    auth::policy::{Holder, Policy, RoomName, RoomRule},
    config::{Config, KeySource, RevocationSettings},
};
use serde_json::{Value, json};
use shared_claims::{
    authorization::Action,
    secret::{SECRET_VARIABLE, Secrets},
};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use self::client::{ISSUER, SECRET, Socket, sign, until};

const DECISIONS: u32 = 100_000;
const ROUNDS: u32 = 500;

/// The most members that a message goes to.
const MEMBERS: usize = 100;

/// The messages of one recovery: as many as are kept.
const MISSED: u64 = 100;

fn main() -> anyhow::Result<()> {
    // An error means that a provider is there already.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    for grants in [1, 10, 64] {
        measure_decisions(grants)?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure_gateway())
}

fn print(what: &str, started: Instant, rounds: u32) {
    println!("{what}: {:.2?}", started.elapsed() / rounds);
}

/// One decision of somebody with so many grants: allowed by the last, and by none.
fn measure_decisions(count: usize) -> anyhow::Result<()> {
    let rule = RoomRule {
        rooms: (1..=count)
            .map(|number| format!("org:{number}:**"))
            .collect(),
        actions: vec![Action::Subscribe, Action::Publish],
        guests: true,
        ..RoomRule::default()
    };
    let config = Config {
        rooms: vec![rule],
        ..Config::default()
    };
    let grants = Policy::new(&config)?.grants(&Holder::Guest);
    for (verdict, room) in [
        ("allowed by the last", format!("org:{count}:chat:42")),
        ("denied", format!("org:{}:chat:42", count + 1)),
    ] {
        let room = RoomName::parse(room)?;
        ensure!(grants.allow(Action::Publish, &room) == (verdict != "denied"));
        let started = Instant::now();
        for _ in 0..DECISIONS {
            black_box(black_box(&grants).allow(Action::Publish, black_box(&room)));
        }
        print(
            &format!("decision, {count} grants, {verdict}"),
            started,
            DECISIONS,
        );
    }
    Ok(())
}

async fn measure_gateway() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let mut config = Config {
        issuer: ISSUER.to_owned(),
        revocations: RevocationSettings {
            file: directory.path().join("revocations.jsonl"),
            ..RevocationSettings::default()
        },
        ..Config::default()
    };
    config.limits.events_per_sec = 1_000_000;
    config.limits.events_burst = 1_000_000;
    let secrets = Secrets::parse(SECRET_VARIABLE, SECRET, ',')?;
    let serving = realtime_service::serve(config, KeySource::fixed(secrets), listener, async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving);
    measure_subscriptions(address).await?;
    measure_messages(address).await?;
    measure_recovery(address).await?;
    let _ = stop.send(());
    serving.await?
}

/// Entering a room and leaving it, each acknowledged.
async fn measure_subscriptions(address: SocketAddr) -> anyhow::Result<()> {
    let mut socket = connect(address, "alice").await?;
    let started = Instant::now();
    for _ in 0..ROUNDS {
        call(&mut socket, "rt:subscribe", json!({"room": "lobby"})).await?;
        call(&mut socket, "rt:unsubscribe", json!({"room": "lobby"})).await?;
    }
    print("subscribe and unsubscribe", started, ROUNDS);
    Ok(())
}

/// From the publisher's packet until the last member has the message.
async fn measure_messages(address: SocketAddr) -> anyhow::Result<()> {
    let mut publisher = connect(address, "publisher").await?;
    let mut members = Vec::new();
    for count in [1, MEMBERS] {
        while members.len() < count {
            let mut member = connect(address, &format!("member-{}", members.len())).await?;
            call(&mut member, "rt:subscribe", json!({"room": "lobby"})).await?;
            members.push(member);
        }
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let payload = json!({"room": "lobby", "event": "message", "data": "hello"});
            call(&mut publisher, "rt:publish", payload).await?;
            for member in &mut members {
                until(member, "42").await?;
            }
        }
        print(&format!("publish to {count}"), started, ROUNDS);
    }
    Ok(())
}

/// Entering with all that is kept to be told.
async fn measure_recovery(address: SocketAddr) -> anyhow::Result<()> {
    let mut publisher = connect(address, "publisher").await?;
    let mut last = Value::Null;
    for _ in 0..MISSED {
        let payload = json!({"room": "lobby", "event": "message", "data": "hello"});
        last = call(&mut publisher, "rt:publish", payload).await?;
    }
    let offset = last["offset"].as_u64().context("an offset")? - MISSED;
    let since = json!({"epoch": last["epoch"], "offset": offset});
    let mut socket = connect(address, "alice").await?;
    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        let payload = json!({"room": "lobby", "since": since});
        let started = Instant::now();
        let answer = call(&mut socket, "rt:subscribe", payload).await?;
        spent += started.elapsed();
        ensure!(
            answer["messages"].as_array().map(Vec::len) == Some(100),
            "{answer}"
        );
        call(&mut socket, "rt:unsubscribe", json!({"room": "lobby"})).await?;
    }
    println!("recovery of {MISSED} messages: {:.2?}", spent / ROUNDS);
    Ok(())
}

/// Connects as somebody.
async fn connect(address: SocketAddr, sub: &str) -> anyhow::Result<Socket> {
    let token = sign("at+jwt", json!({ "sub": sub, "client_id": "bench" }))?;
    client::connect(address, &token, None).await
}

/// Emits an event, and gives what it is answered.
async fn call(socket: &mut Socket, event: &str, payload: Value) -> anyhow::Result<Value> {
    let packet = format!("421{}", json!([event, payload]));
    socket.send(Message::text(packet)).await?;
    let answer = until(socket, "431").await?;
    let [answer]: [Value; 1] = serde_json::from_str(&answer)?;
    ensure!(answer["ok"] == true, "{answer}");
    Ok(answer)
}
