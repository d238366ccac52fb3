//! Clients that send events faster than they may.

use super::*;
use crate::rooms::{RoomName, Selection};

/// Numbers of the events that are handled, that are refused, and that the client sends.
const BURST: u32 = 4;
const EXCESS: u32 = 3;
const SENT: u32 = 10;

/// A client of `gate` that sends its events in one request, and the answers that it hears before its
/// transport is closed.
async fn answers(config: &Config, gate: &Gate, sent: u32) -> Vec<String> {
    let exp = unix_secs(wall_now()) + LIFETIME_SECS;
    let client = Client::admitted(gate, &token(config, "alice", exp)).await;
    let listening = tokio::spawn(client.clone().ended());
    let event = json!(["rt:presence", { "room": "lobby" }]);
    let events: Vec<String> = (0..sent).map(|id| format!("42{id}{event}")).collect();
    client
        .send(Method::POST, events.join(&SEPARATOR.to_string()))
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        client.poll().await.0,
        StatusCode::BAD_REQUEST,
        "it is closed"
    );
    let (_, heard) = listening.await.expect("no panic");
    let packets = heard
        .split(SEPARATOR)
        .filter(|packet| packet.starts_with('4'));
    packets.map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_queued_leave_before_a_transport_is_closed_for_a_flood() {
    for start in [on_engine, on_socketioxide] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = Config {
            limits: Limits {
                events_per_sec: 1,
                events_burst: BURST,
                events_excess: EXCESS,
                ..Limits::default()
            },
            ..settings(&directory)
        };
        let (state, gate) = start(&config);
        let answers = answers(&config, &gate, SENT).await;
        assert_eq!(answers.len(), (BURST + EXCESS) as usize, "{answers:?}");
        for (id, answer) in (0..).zip(&answers) {
            assert!(answer.starts_with(&format!("43{id}[")), "{answer}");
            let is_refused = answer.contains("rate_limited");
            assert_eq!(is_refused, id >= BURST, "{answer}");
        }
        assert_eq!(state.transport.quotas.sockets.count(), 0);
    }
}

/// A CONNECT for a namespace that the gateway does not have, whose name has `bytes` bytes.
fn connect_elsewhere(bytes: usize) -> String {
    format!("40/{}", "x".repeat(bytes - 1))
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_namespace_can_have_is_not_sent_back() {
    for is_admitted in [false, true] {
        for (bytes, is_served) in [(64, true), (65, false), (15_000, false)] {
            let directory = tempfile::tempdir().expect("a directory");
            let config = settings(&directory);
            let (state, gate) = on_engine(&config);
            let exp = unix_secs(wall_now()) + LIFETIME_SECS;
            let client = match is_admitted {
                true => Client::admitted(&gate, &token(&config, "alice", exp)).await,
                false => Client::opened(&gate).await,
            };
            let mut most = 0;
            for _ in 0..30 {
                client.send(Method::POST, connect_elsewhere(bytes)).await;
                most = most.max(state.transport.outbound.used());
            }
            assert!(most <= 16 * 1024, "{most} bytes wait");
            let (status, heard) = client.poll().await;
            assert_eq!(status == StatusCode::OK, is_served, "{bytes}: {heard}");
            assert_eq!(most > 0, is_served, "what waits is charged");
            assert_eq!(
                heard.matches("Invalid namespace").count(),
                30 * usize::from(is_served)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_connect_that_is_answered_counts_whatever_namespace_it_names() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_state, gate) = on_engine(&settings(&directory));
    let client = Client::opened(&gate).await;
    for number in 1..=65 {
        client.send(Method::POST, connect_elsewhere(2)).await;
        let (status, heard) = client.poll().await;
        let is_served = status == StatusCode::OK && heard.contains("Invalid namespace");
        assert_eq!(is_served, number <= 64, "{number}: {heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_within_a_burst_publishes_nothing_later() {
    for ends_meanwhile in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = settings(&directory);
        let (state, gate) = on_engine(&config);
        for_test::jump(Duration::ZERO);
        let exp = unix_secs(wall_now()) + LIFETIME_SECS;
        let client = Client::admitted(&gate, &token(&config, "alice", exp)).await;
        let event = json!(["rt:publish", { "room": "lobby", "event": "message", "data": 1 }]);
        let burst = vec![format!("42{event}"); 1000].join(&SEPARATOR.to_string());
        // It runs when the burst is under way.
        let other = async {
            if ends_meanwhile {
                for_test::jump(Duration::from_secs(2 * LIFETIME_SECS));
            }
        };
        tokio::join!(biased; client.send(Method::POST, burst), other);
        let lobby = RoomName::parse("lobby").expect("a name");
        let all = Selection::default();
        let read = state.sessions.rooms.read(&lobby, &all).await;
        let newest = read.expect("a log in memory").position.offset;
        assert_eq!(newest < 1000, ends_meanwhile, "{newest}");
        assert!(newest > 0);
    }
}
