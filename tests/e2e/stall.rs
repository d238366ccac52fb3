//! A client that stops reading is let go, and nobody else waits for it.

use std::time::{Duration, Instant};

use harness::{Opening, Options, Stack, WebSocket};
use serde_json::json;
use tokio::sync::oneshot;

/// Small, so that what is not read stays with the gateway.
const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

/// More than the system keeps for a connection, in messages of [`BULK_BYTES`].
const BULK_MESSAGES: usize = 200;
const BULK_BYTES: usize = 64 * 1024;

/// What the last message says.
const LAST: &str = "last";

/// So that a stall is what a client is closed for, and not the length of its queue or its pace.
pub(crate) fn options() -> Options {
    Options::default()
        .gateway("limits.outbound_packets", 1_000_000)
        .gateway("limits.outbound_bytes", 1_000_000_000)
        .gateway("limits.events_per_sec", 1_000_000)
}

fn narrow(stack: &Stack) -> Opening {
    Opening::of(stack).receive_buffer_bytes(RECEIVE_BUFFER_BYTES)
}

/// Publishes more than any buffer holds, and sees each message reach `healthy`.
async fn publish_bulk(healthy: &mut WebSocket) {
    let data = json!("x".repeat(BULK_BYTES));
    for _ in 0..BULK_MESSAGES {
        healthy.publish("lobby", data.clone()).await;
        assert_eq!(healthy.event().await[1], data);
    }
}

/// Publishes small messages for `time`, and sees each reach `healthy` at once.
async fn publish_for(healthy: &mut WebSocket, time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        let sent = Instant::now();
        healthy.publish("lobby", json!("tick")).await;
        assert_eq!(healthy.event().await[1], "tick");
        assert!(
            sent.elapsed() < Duration::from_secs(1),
            "it waited for {:?}",
            sent.elapsed()
        );
    }
}

/// Reads on from where the client stopped; whether it comes to the last message.
async fn reads_to_the_last(socket: &mut WebSocket) -> bool {
    while let Some(packet) = socket.next().await {
        if packet.contains(LAST) {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_gone_within_the_limit_while_others_are_served() {
    gone_within_the_limit(options(), 8).await;
}

/// A client that stops reading is gone, one that pauses is not, and a third waits for neither.
pub(crate) async fn gone_within_the_limit(options: Options, stall_secs: u64) {
    let options = options.gateway("limits.write_stall_secs", stall_secs);
    let stack = Stack::start_with(options).await;
    let mut healthy = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut stalled = narrow(&stack).admitted(&stack.forge().token()).await;
    let mut pausing = narrow(&stack).admitted(&stack.forge().token()).await;
    for socket in [&mut healthy, &mut stalled, &mut pausing] {
        socket.subscribe("lobby").await;
    }
    publish_bulk(&mut healthy).await;
    // The twin stops reading too, and goes on before the limit.
    let (go_on, waiting) = oneshot::channel();
    let pausing = tokio::spawn(async move {
        waiting.await.expect("the word to go on");
        reads_to_the_last(&mut pausing).await
    });
    publish_for(&mut healthy, Duration::from_secs(1)).await;
    go_on.send(()).expect("a client that waits");
    publish_for(&mut healthy, Duration::from_secs(stall_secs + 1)).await;
    // From here on the stalled client reads. Were it still there, it would get everything.
    assert!(
        !stalled_reads_to(&mut healthy, &mut stalled).await,
        "the stalled client was kept"
    );
    assert!(
        pausing.await.expect("no panic"),
        "a client that paused was let go"
    );
}

async fn stalled_reads_to(healthy: &mut WebSocket, stalled: &mut WebSocket) -> bool {
    healthy.publish("lobby", json!(LAST)).await;
    assert_eq!(healthy.event().await[1], LAST);
    reads_to_the_last(stalled).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_token_ends_a_stalled_client_too() {
    gone_with_its_token(options()).await;
}

/// A client that stops reading is gone when its token ends, and its twin is not.
pub(crate) async fn gone_with_its_token(options: Options) {
    let stack = Stack::start_with(options.gateway("limits.write_stall_secs", 60)).await;
    let mut healthy = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let expiring = stack.forge().expires_in(6);
    let mut stalled = narrow(&stack).admitted(&expiring.token()).await;
    let mut kept = narrow(&stack).admitted(&stack.forge().token()).await;
    for socket in [&mut healthy, &mut stalled, &mut kept] {
        socket.subscribe("lobby").await;
    }
    publish_bulk(&mut healthy).await;
    let left = expiring.exp().saturating_sub(harness::forge::now_secs());
    publish_for(&mut healthy, Duration::from_secs(left + 2)).await;
    assert!(
        !stalled_reads_to(&mut healthy, &mut stalled).await,
        "it outlived its token"
    );
    assert!(reads_to_the_last(&mut kept).await, "its twin was let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_queue_has_too_many_packets_is_closed_and_not_left_short() {
    closed_and_not_left_short(Options::default().gateway("limits.outbound_packets", 64)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_queue_has_too_many_bytes_is_closed_and_not_left_short() {
    closed_and_not_left_short(Options::default().gateway("limits.outbound_bytes", 1024 * 1024))
        .await;
}

async fn closed_and_not_left_short(options: Options) {
    let stack = Stack::start_with(options).await;
    let mut healthy = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut stalled = narrow(&stack).admitted(&stack.forge().token()).await;
    for socket in [&mut healthy, &mut stalled] {
        socket.subscribe("lobby").await;
    }
    publish_bulk(&mut healthy).await;
    let mut expected = 1;
    while let Some(packet) = stalled.next().await {
        let event = harness::websocket::parse(packet.strip_prefix("42").expect("an event"));
        assert_eq!(event[2]["offset"], expected, "a message is missing");
        expected += 1;
    }
    assert!(expected <= BULK_MESSAGES, "nothing was too much for it");
}

/// How many messages the bare library loses two thirds of, for a peer that pauses for so long.
const FLOOD: u64 = 16_000;
const PAUSE: Duration = Duration::from_secs(12);

/// Takes messages in their order until the connection ends or `last` is there; gives the last one.
async fn take_in_order(socket: &mut WebSocket, mut offset: u64, last: u64) -> u64 {
    while offset < last {
        let Some(packet) = socket.next().await else {
            return offset;
        };
        let event = harness::websocket::parse(packet.strip_prefix("42").expect("an event"));
        assert_eq!(event[2]["offset"], offset + 1, "a silent gap");
        offset += 1;
    }
    offset
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_pauses_while_16_000_messages_are_published_is_closed_or_told() {
    const BATCH: u64 = 100;

    let options = Options::default().gateway("limits.events_per_sec", 1_000_000);
    let stack = Stack::start_with(options).await;
    let mut publisher = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut reader = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut paused = narrow(&stack).admitted(&stack.forge().token()).await;
    let start = paused.subscribe("lobby").await;
    reader.subscribe("lobby").await;
    // The twin takes its messages, and gets all of them.
    let reading = tokio::spawn(async move { take_in_order(&mut reader, 0, FLOOD).await });

    let mut ticks = tokio::time::interval(PAUSE * u32::try_from(BATCH).expect("few") / 16_000);
    let started = Instant::now();
    for _ in 0..FLOOD / BATCH {
        let payload = json!({"room": "lobby", "event": "message", "data": "x".repeat(300)});
        let packet = format!("42{}", json!(["rt:publish", payload]));
        let mut packets = vec![packet; BATCH as usize];
        packets[BATCH as usize - 1].insert(2, '1');
        publisher.send_at_once(&packets).await;
        assert_eq!(publisher.acknowledgement(1).await["ok"], true);
        ticks.tick().await;
    }
    while started.elapsed() < PAUSE {
        ticks.tick().await;
    }
    assert_eq!(reading.await.expect("no panic"), FLOOD);

    let offset = take_in_order(&mut paused, 0, FLOOD).await;
    let mut back = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let since = json!({"epoch": start["epoch"], "offset": offset});
    let payload = json!({"room": "lobby", "since": since});
    let answer = back.call("rt:subscribe", payload).await;
    // What is missing is more than is kept, and it is told so.
    assert!(offset < FLOOD - 100, "it was not too slow: {offset}");
    assert_eq!(
        (&answer["ok"], &answer["recovered"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (answer.get("messages"), &answer["offset"]),
        (None, &json!(FLOOD))
    );
    // Had it missed what is kept, it would have it.
    let since = json!({"epoch": start["epoch"], "offset": FLOOD - 100});
    let payload = json!({"room": "lobby", "since": since});
    let answer = back.call("rt:subscribe", payload).await;
    assert_eq!(answer["recovered"], true, "{answer}");
    assert_eq!(answer["messages"].as_array().map(Vec::len), Some(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_nothing_hold_up_no_reader_however_much_memory_they_hold() {
    const MESSAGES: usize = 10;
    const STALLED: usize = 12;
    const BYTES: usize = 900_000;

    // Socketioxide's copies of messages may take half of the total: one for each of the stalled clients
    // is more.
    let options = Options::default()
        .gateway("carrier", "socketioxide")
        .gateway("limits.outbound_bytes", 16 << 20)
        .gateway("limits.outbound_total_bytes", 16 << 20)
        .gateway("limits.write_stall_secs", 60);
    let stack = Stack::start_with(options).await;
    let token = stack.forge().token();
    let mut members = Vec::new();
    for number in 0..=STALLED {
        let opening = match number {
            STALLED => Opening::of(&stack),
            _ => narrow(&stack),
        };
        let mut socket = opening.admitted_by_query(&token).await;
        socket.subscribe("lobby").await;
        members.push(socket);
    }
    let mut reader = members.pop().expect("a reader");
    let mut publisher = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let data = json!("x".repeat(BYTES));
    for _ in 0..MESSAGES {
        publisher.publish("lobby", data.clone()).await;
        assert_eq!(reader.event().await[1], data);
    }
    // Stalled clients were closed for that, as many as it took.
    let mut closed = 0;
    for mut stalled in members {
        let mut read = 0;
        while read < MESSAGES && stalled.next().await.is_some() {
            read += 1;
        }
        closed += usize::from(read < MESSAGES);
    }
    assert!(closed > 0, "the stalled clients were no burden");
}
