//! The guarantee of history, put to the test by chance: whatever its subscribers do, each has every
//! message of its room, in order, or was told that some are missing.
//!
//! The choices of all clients come from one seed, which is printed; `E2E_SEED` sets it. How they
//! fall together in time is not up to it.

mod subscriber;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use harness::{Opening, Options, Stack, WebSocket};
use serde_json::json;
use tokio::sync::watch;

use self::subscriber::Subscriber;

const ROOMS: usize = 3;
const PUBLISHERS: u64 = 4;
const SUBSCRIBERS: u64 = 6;

/// So few that a client can be closed, since it takes its messages too slowly for a moment.
const WAITING_PACKETS: u64 = 4;
const RECEIVE_BUFFER_BYTES: u32 = 4 * 1024;

/// The most that one publisher sends before it waits for an answer.
const BATCH: u64 = 40;

/// A source of choices: SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How far the publishers are.
#[derive(Clone, Copy, Default)]
struct Progress {
    published: u64,
    is_over: bool,
}

/// How often what happened, over all subscribers.
#[derive(Default)]
struct Tally {
    steps: AtomicU64,
    heard: AtomicU64,
    recovered: AtomicU64,
    told: AtomicU64,
    closed: AtomicU64,
}

impl Tally {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// What stands at a place of a room's stream: room, epoch and offset, and the publisher's number.
type Stream = HashMap<(String, String, u64), (u64, u64)>;

/// Where a message stands.
#[derive(serde::Deserialize)]
struct Meta {
    epoch: String,
    offset: u64,
}

/// What all clients of a run share.
struct Run {
    stack: Stack,
    steps: u64,
    tally: Tally,
    progress: watch::Sender<Progress>,
    /// Everybody has to see the same at the same place.
    seen: Mutex<Stream>,
}

fn room(number: usize) -> String {
    format!("chat:{number}")
}

impl Run {
    async fn client(&self, opening: &Opening) -> WebSocket {
        let detail =
            json!([{"type": "realtime", "actions": ["sub", "pub", "hst"], "rooms": ["chat:*"]}]);
        let forge = self.stack.forge().claim("authorization_details", detail);
        opening.admitted(&forge.token()).await
    }

    /// Waits until so many messages more were published, or all; however long that takes.
    async fn await_messages(&self, count: u64) {
        let mut progress = self.progress.subscribe();
        let target = progress.borrow().published + count;
        let is_reached = |now: &Progress| now.is_over || now.published >= target;
        progress.wait_for(is_reached).await.expect("publishers");
    }
}

/// Publishes in random rooms until there were enough steps.
async fn publish(run: Arc<Run>, number: u64, mut chance: Chance) {
    let mut socket = run.client(&Opening::of(&run.stack)).await;
    let mut next = 0;
    while Tally::get(&run.tally.steps) < run.steps {
        let count = 1 + chance.below(BATCH);
        let mut packets = Vec::new();
        for position in 1..=count {
            let room = room(chance.below(ROOMS as u64) as usize);
            let data = json!([number, next]);
            next += 1;
            let payload = json!({"room": room, "event": "message", "data": data});
            // Events are handled in their order: the last answer stands for all.
            let acknowledged = if position == count { "1" } else { "" };
            packets.push(format!(
                "42{acknowledged}{}",
                json!(["rt:publish", payload])
            ));
        }
        socket.send_at_once(&packets).await;
        let answer = socket.acknowledgement(1).await;
        assert_eq!(answer["ok"], true, "{answer}");
        run.tally.steps.fetch_add(count, Ordering::Relaxed);
        run.progress
            .send_modify(|progress| progress.published += count);
        if chance.below(100) == 0 {
            socket = run.client(&Opening::of(&run.stack)).await;
        }
    }
}

pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("E2E_SEED") {
        Ok(text) => text.parse().expect("E2E_SEED must be a number"),
        Err(_) => u64::from_le_bytes(random_bytes()),
    };
    println!("E2E_SEED={seed}");
    seed
}

fn random_bytes() -> [u8; 8] {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

/// Lets publishers and subscribers loose on rooms that keep so many messages, for so many steps.
async fn run(seed: u64, messages: u64, steps: u64) -> Run {
    let options = Options::default()
        .gateway("history.messages", messages)
        .gateway("limits.outbound_packets", WAITING_PACKETS)
        .gateway("limits.events_per_sec", 1_000_000)
        .gateway("limits.events_burst", 1_000_000);
    let run = Arc::new(Run {
        stack: Stack::start_with(options).await,
        steps,
        tally: Tally::default(),
        progress: watch::Sender::default(),
        seen: Mutex::default(),
    });
    let mut chances = Chance(seed);
    let mut chance = || Chance(chances.next());
    let subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| tokio::spawn(Subscriber::new(&run, number, chance()).live()))
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| tokio::spawn(publish(run.clone(), number, chance())))
        .collect();
    for publisher in publishers {
        publisher.await.expect("a publisher without a panic");
    }
    run.progress.send_modify(|progress| progress.is_over = true);
    for subscriber in subscribers {
        subscriber.await.expect("a subscriber without a panic");
    }
    Arc::into_inner(run).expect("the last one")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes the whole machine"]
async fn every_subscriber_has_every_message_in_order_or_was_told_in_100_000_steps() {
    let seed = seed();
    let mut steps = 0;
    for (messages, share) in [(1000, 60_000), (20, 35_000), (0, 5_000)] {
        let run = run(seed, messages, share).await;
        let [all, heard, recovered, told, closed] = [
            &run.tally.steps,
            &run.tally.heard,
            &run.tally.recovered,
            &run.tally.told,
            &run.tally.closed,
        ]
        .map(Tally::get);
        println!(
            "{messages} kept: {all} steps, {heard} messages heard, {recovered} times recovered, \
             {told} times told, {closed} times closed"
        );
        // Both outcomes have to come about, or half of it was not tried.
        assert_eq!(recovered > 0, messages > 0, "{recovered} times recovered");
        assert!(told > 0 || messages == 1000, "nobody was told of a gap");
        assert!(heard > share / 2, "only {heard} messages were heard");
        steps += all;
    }
    assert!(steps >= 100_000, "only {steps} steps");
}
