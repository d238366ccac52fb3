//! The memory of the gateway's process: what many clients share lies there once, and history is
//! counted as it lies there.

mod polling;

use std::time::{Duration, Instant};

use harness::{
    Mode, Opening, Options, Stack, WebSocket, api::WithApi, eventually, soon, tls::Certificate,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::limits::allow_open_files;

const MIB: u64 = 1024 * 1024;

/// Members of the room: one third of them does not read.
const MEMBERS: usize = 300;
const SHARE_NOT_READING: usize = 3;

/// How much memory the copies for all members may take, and how much the test is off.
const COPIES_BYTES: u64 = 64 * MIB;
const MARGIN_BYTES: u64 = 24 * MIB;

const PUBLISHES: usize = 3;
const MESSAGE_BYTES: usize = 1_000_000;

/// How long a message in another room may take meanwhile.
const ELSEWHERE: Duration = Duration::from_secs(2);

fn options() -> Options {
    Options::default()
        .mode(Mode::Binaries)
        .log("warn")
        .gateway("limits.message_bytes", 2 * MIB)
        .gateway("limits.sockets_per_subject", 1000)
        .gateway("limits.write_stall_secs", 60)
        .gateway("limits.events_per_sec", 1_000_000)
        .gateway("limits.events_burst", 1_000_000)
        .gateway("limits.inbound_events", 1_000_000)
        .gateway("limits.inbound_bytes", 64 * MIB)
}

/// A token that is good for all rooms of these tests.
fn token(stack: &Stack) -> String {
    let detail = json!([{"type": "realtime", "actions": ["sub", "pub"], "rooms": ["chat:*"]}]);
    let forge = stack.forge().claim("authorization_details", detail);
    forge.token()
}

/// Reads until `count` large messages are there.
fn read(mut socket: WebSocket, count: usize) -> JoinHandle<WebSocket> {
    tokio::spawn(async move {
        let mut read = 0;
        while read < count {
            let packet = socket.next().await.expect("a reader is not closed");
            read += usize::from(packet.len() > MESSAGE_BYTES);
        }
        socket
    })
}

/// Members of a room, and those of them who read. Half of each speak Engine.IO 3.
async fn members(stack: &Stack, count: usize) -> (Vec<WebSocket>, Vec<JoinHandle<WebSocket>>) {
    let token = token(stack);
    let narrow = Opening::of(stack).receive_buffer_bytes(4 * 1024);
    let (mut silent, mut reading) = (Vec::new(), Vec::new());
    for number in 0..MEMBERS {
        let is_silent = number % SHARE_NOT_READING == 0;
        let opening = match is_silent {
            true => narrow.clone(),
            false => Opening::of(stack),
        };
        let mut socket = match number % 2 {
            0 => opening.admitted(&token).await,
            _ => opening.admitted_by_query(&token).await,
        };
        socket.subscribe("chat:crowd").await;
        match is_silent {
            true => silent.push(socket),
            false => reading.push(read(socket, count)),
        }
    }
    (silent, reading)
}

/// Publishes in another room until `done`, and gives the longest time that a message took.
async fn elsewhere(mut socket: WebSocket, done: &JoinHandle<()>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !done.is_finished() {
        let sent = Instant::now();
        socket.publish("chat:elsewhere", json!("tick")).await;
        assert_eq!(socket.event().await[1], "tick");
        slowest = slowest.max(sent.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_large_message_to_many_members_lies_in_memory_once() {
    let address = harness::free_address();
    let stack = Stack::start_with(options().gateway("api.listen", address.as_str())).await;
    let api = WithApi::around(stack, &address).await;
    let (silent, reading) = members(&api.stack, PUBLISHES).await;
    let token = token(&api.stack);
    let mut publisher = Opening::of(&api.stack).admitted(&token).await;
    let mut other = Opening::of(&api.stack).admitted(&token).await;
    other.subscribe("chat:elsewhere").await;
    let before = api.stack.gateway_memory_bytes("VmHWM");
    let data = json!("x".repeat(MESSAGE_BYTES));
    let all_read = tokio::spawn(async move {
        for _ in 0..PUBLISHES {
            publisher.publish("chat:crowd", data.clone()).await;
        }
        for reader in reading {
            reader.await.expect("a reader without a panic");
        }
    });
    let slowest = elsewhere(other, &all_read).await;
    all_read.await.expect("all readers");
    let grown = api.stack.gateway_memory_bytes("VmHWM") - before;
    println!("grew by {} KiB, {slowest:?} elsewhere", grown / 1024);
    assert!(grown < COPIES_BYTES + MARGIN_BYTES, "{} MiB", grown / MIB);
    assert!(slowest < ELSEWHERE, "{slowest:?} elsewhere");
    assert_eq!(silent.len(), MEMBERS / SHARE_NOT_READING);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_large_broadcast_to_many_sockets_lies_in_memory_once() {
    let address = harness::free_address();
    let stack = Stack::start_with(options().gateway("api.listen", address.as_str())).await;
    let api = WithApi::around(stack, &address).await;
    let (silent, reading) = members(&api.stack, PUBLISHES).await;
    let before = api.stack.gateway_memory_bytes("VmHWM");
    for _ in 0..PUBLISHES {
        let body = json!({"event": "news", "data": "x".repeat(MESSAGE_BYTES)});
        let answer = api.post("/v1/broadcast", body).await.ok();
        assert_eq!(answer["sockets"], MEMBERS);
    }
    for reader in reading {
        soon("all broadcasts", reader).await.expect("a reader");
    }
    let grown = api.stack.gateway_memory_bytes("VmHWM") - before;
    println!("grew by {} KiB", grown / 1024);
    assert!(grown < COPIES_BYTES + MARGIN_BYTES, "{} MiB", grown / MIB);
    assert_eq!(silent.len(), MEMBERS / SHARE_NOT_READING);
}

/// What history may keep in the tests of it, and how much the process may take for that.
const HISTORY_BYTES: u64 = 48 * MIB;
const HISTORY_RSS_BYTES: u64 = HISTORY_BYTES / 4 * 5;

/// The process takes some for itself while it works.
const WORKING_BYTES: u64 = 16 * MIB;

/// A gateway after it has done some of everything, and its memory then.
async fn warm() -> (Stack, WebSocket, u64) {
    let options = options().gateway("history.total_bytes", HISTORY_BYTES);
    let stack = Stack::start_with(options).await;
    let mut publisher = Opening::of(&stack).admitted(&token(&stack)).await;
    for _ in 0..3 {
        publisher
            .publish("chat:warm", json!("x".repeat(900_000)))
            .await;
    }
    let memory = stack.gateway_memory_bytes("VmRSS");
    (stack, publisher, memory)
}

/// The memory that history takes is as it is counted, once allocators have settled.
async fn assert_history_is_bounded(stack: &Stack, before: u64, what: &str) {
    let limit = before + HISTORY_RSS_BYTES + WORKING_BYTES;
    let mut last = 0;
    let is_bounded = async || {
        last = stack.gateway_memory_bytes("VmRSS");
        last < limit
    };
    let bounded = tokio::time::timeout(Duration::from_secs(10), eventually(what, is_bounded));
    let is_bounded = bounded.await.is_ok();
    let grown = last.saturating_sub(before);
    println!("{what}: {} KiB", grown / 1024);
    assert!(is_bounded, "{what}: {} MiB", grown / MIB);
    // Less would mean that nothing was kept.
    assert!(grown > HISTORY_BYTES / 3, "{what}: {} MiB", grown / MIB);
}

async fn publish_to_120_rooms(publisher: &mut WebSocket, data: &str, attachment: Option<&[u8]>) {
    for room in 0..120 {
        let (kind, data) = match attachment {
            None => ("421", data.to_owned()),
            Some(_) => {
                let place = r#"{"_placeholder":true,"num":0}"#;
                ("451-1", format!("[{place},{data}]"))
            }
        };
        let payload = format!(r#"{{"room":"chat:{room}","event":"message","data":{data}}}"#);
        publisher
            .send(format!(r#"{kind}["rt:publish",{payload}]"#))
            .await;
        if let Some(attachment) = attachment {
            publisher.send_binary(attachment).await;
        }
        let answer: Value = publisher.acknowledgement(1).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn history_of_many_zeros_and_an_attachment_takes_what_is_counted() {
    let (stack, mut publisher, before) = warm().await;
    let zeros = format!("[{}0]", "0,".repeat(450_000));
    publish_to_120_rooms(&mut publisher, &zeros, Some(&[1, 2])).await;
    assert_history_is_bounded(&stack, before, "zeros").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn history_of_many_small_objects_takes_what_is_counted() {
    let (stack, mut publisher, before) = warm().await;
    let objects = format!("[{}0]", r#"{"":0},"#.repeat(120_000));
    publish_to_120_rooms(&mut publisher, &objects, None).await;
    assert_history_is_bounded(&stack, before, "objects").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn history_of_many_small_messages_with_ids_takes_what_is_counted() {
    const ROOMS: usize = 300;
    const BATCH: usize = 500;
    let (stack, mut publisher, before) = warm().await;
    for room in 0..ROOMS {
        for batch in 0..2 {
            let packets: Vec<String> = (0..BATCH)
                .map(|number| {
                    let id = format!("{room}-{batch}-{number}-{}", "i".repeat(60));
                    let room = format!("chat:{room}");
                    let payload = json!({"room": room, "event": "m", "data": number, "id": id});
                    let ack = if number + 1 == BATCH { "1" } else { "" };
                    format!("42{ack}{}", json!(["rt:publish", payload]))
                })
                .collect();
            publisher.send_at_once(&packets).await;
            let answer = publisher.acknowledgement(1).await;
            assert_eq!(answer["ok"], true, "{answer}");
        }
    }
    assert_history_is_bounded(&stack, before, "small messages").await;
}

/// Memory that the process may take for an idle WebSocket, in plain TCP and with TLS. `cargo load compare`
/// measures it in earnest: beside other tests the allocator warms up meanwhile.
const IDLE_BYTES: u64 = 8 * 1024;
const IDLE_TLS_BYTES: u64 = 20 * 1024;

/// Opens so many idle sessions, and returns the memory that the process takes for each.
async fn idle_bytes(stack: &Stack, count: u64) -> u64 {
    let token = token(stack);
    let mut warm = Vec::new();
    for _ in 0..50 {
        warm.push(Opening::of(stack).admitted(&token).await);
    }
    let before = stack.gateway_memory_bytes("VmRSS");
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(Opening::of(stack).admitted(&token).await);
    }
    (stack.gateway_memory_bytes("VmRSS") - before) / count
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn an_idle_websocket_takes_8_kib_and_with_tls_20_kib_at_most() {
    // The allocator takes memory from the system by 2 MiB: 0.8 KiB for each of so many.
    const SESSIONS: u64 = 2500;
    allow_open_files(2 * SESSIONS);
    let options = || {
        let options = options().gateway("limits.sockets_per_subject", 2 * SESSIONS);
        let options = options.gateway("limits.sessions_per_address", 2 * SESSIONS);
        options.gateway("limits.connections_per_address", 2 * SESSIONS)
    };
    let certificate = Certificate::default();
    let plain = Stack::start_with(options()).await;
    let encrypted = Stack::start_with(options().tls(&certificate)).await;
    let plain = idle_bytes(&plain, SESSIONS).await;
    let encrypted = idle_bytes(&encrypted, SESSIONS).await;
    println!("{plain} bytes, {encrypted} with TLS");
    assert!(plain < IDLE_BYTES, "{plain} bytes");
    assert!(encrypted < IDLE_TLS_BYTES, "{encrypted} bytes");
}

/// Sessions that are open when the memory is searched.
const SESSIONS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn no_token_is_in_the_memory_of_a_gateway_with_100_sessions() {
    let stack = Stack::start_with(options()).await;
    let mut sockets = Vec::new();
    let forge = stack.forge().claim("sub", "a-subject-of-many");
    // All have the same header, and claims follow it.
    let beginning = forge.token();
    let beginning = beginning.split('.').next().expect("a header").to_owned() + ".eyJ";
    for number in 0..SESSIONS {
        let token = forge.token();
        let opening = Opening::of(&stack);
        let bearer = format!("Bearer {token}");
        let (opening, payload) = match number % 4 {
            0 => (opening, json!({ "token": token })),
            1 => (opening.header("authorization", &bearer), json!({})),
            2 => (opening.query("token", &token), json!({})),
            _ => {
                sockets.push(opening.admitted_by_query(&token).await);
                continue;
            }
        };
        let mut socket = opening.session().await;
        socket.connect(&payload).await.expect("admitted");
        sockets.push(socket);
    }
    assert_eq!(stack.count_in_gateway_memory(&beginning), 0);
    // It is the right memory: who they are is in it.
    assert!(stack.count_in_gateway_memory("a-subject-of-many") > 0);
}
