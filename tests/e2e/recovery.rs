//! The guarantee of history, put to the test by chance: whatever its subscribers do, each has every
//! message of its room, in order, or was told that some are missing.
//!
//! The choices of all clients come from one seed, which is printed; `E2E_SEED` sets it. How they
//! fall together in time is not up to it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use harness::{Opening, Options, Stack, WebSocket, websocket::parse};
use serde_json::{Value, json};
use tokio::sync::watch;

const ROOMS: usize = 3;
const PUBLISHERS: u64 = 4;
const SUBSCRIBERS: u64 = 6;

/// So few that a client is closed now and then, since it takes its messages too slowly for a moment.
const WAITING_PACKETS: u64 = 4;
const RECEIVE_BUFFER_BYTES: u32 = 4 * 1024;

/// The most that one publisher sends before it waits for an answer.
const BATCH: u64 = 40;

/// A source of choices: SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
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

/// One who listens to a room, comes and goes, and checks what it is told.
struct Subscriber {
    run: Arc<Run>,
    room: String,
    opening: Opening,
    chance: Chance,
    /// The connection, while there is one.
    socket: Option<WebSocket>,
    /// The last message that it has: epoch and offset.
    place: Option<(String, u64)>,
}

impl Subscriber {
    fn new(run: &Arc<Run>, number: u64, chance: Chance) -> Self {
        Self {
            run: run.clone(),
            room: room(number as usize % ROOMS),
            opening: Opening::of(&run.stack).receive_buffer_bytes(RECEIVE_BUFFER_BYTES),
            chance,
            socket: None,
            place: None,
        }
    }

    /// Does one thing after another until the publishers are done, and then has everything.
    async fn live(mut self) {
        while !self.run.progress.borrow().is_over {
            Tally::count(&self.run.tally.steps);
            if self.socket.is_none() {
                self.enter().await;
                continue;
            }
            match self.chance.below(20) {
                0 => self.socket = None,
                1 => {
                    self.socket = None;
                    self.be_away(250).await;
                }
                // It begins anew, as one that has lost its memory.
                2 => (self.socket, self.place) = (None, None),
                // It is there already, and asks once more.
                3 => self.enter().await,
                4 => self.leave().await,
                // It reads nothing meanwhile.
                5 => self.be_away(2000).await,
                count => self.read(5 * count).await,
            }
        }
        self.finish().await;
    }

    async fn be_away(&mut self, most: u64) {
        let count = self.chance.below(most);
        self.run.await_messages(count).await;
    }

    /// Enters the room with what it has, on a new connection if there is none.
    async fn enter(&mut self) {
        if self.socket.is_none() {
            self.socket = Some(self.run.client(&self.opening).await);
        }
        let mut payload = json!({ "room": self.room });
        if let Some((epoch, offset)) = &self.place {
            payload["since"] = json!({"epoch": epoch, "offset": offset});
        }
        let packet = format!("421{}", json!(["rt:subscribe", payload]));
        let socket = self.socket.as_mut().expect("a connection");
        socket.try_send(packet).await;
        while let Some(packet) = self.next().await {
            match packet.strip_prefix("431") {
                Some(answer) => return self.take_answer(&parse(answer)[0]),
                None => self.take_event(&packet),
            }
        }
    }

    /// Leaves the room; what comes before the answer is still its own.
    async fn leave(&mut self) {
        let packet = format!("421{}", json!(["rt:unsubscribe", {"room": self.room}]));
        let socket = self.socket.as_mut().expect("a connection");
        socket.try_send(packet).await;
        while let Some(packet) = self.next().await {
            if packet.starts_with("431") {
                self.be_away(100).await;
                return self.enter().await;
            }
            self.take_event(&packet);
        }
    }

    /// Reads so many events, or as many as there are.
    async fn read(&mut self, count: u64) {
        let mut progress = self.run.progress.subscribe();
        for _ in 0..count {
            let over = async { progress.wait_for(|now| now.is_over).await.is_ok() };
            let packet = tokio::select! {
                biased;
                packet = self.next() => packet,
                _ = over => return,
            };
            let Some(packet) = packet else { return };
            self.take_event(&packet);
        }
    }

    /// The next packet; none when the connection has ended, which is a word too.
    async fn next(&mut self) -> Option<String> {
        let packet = self.socket.as_mut().expect("a connection").next().await;
        if packet.is_none() {
            Tally::count(&self.run.tally.closed);
            self.socket = None;
        }
        packet
    }

    fn take_answer(&mut self, answer: &Value) {
        assert_eq!(answer["ok"], true, "{answer}");
        let epoch = answer["epoch"].as_str().expect("an epoch").to_owned();
        let offset = answer["offset"].as_u64().expect("an offset");
        if self.place.is_some() && answer["recovered"] == true {
            let messages = answer["messages"].as_array().expect("messages");
            for message in messages {
                let [data, meta] = ["data", "meta"].map(|name| message[name].clone());
                let data = serde_json::from_value(data).expect("two numbers");
                self.take(data, &serde_json::from_value(meta).expect("a place"));
            }
            // All that it has now is all that there is.
            assert_eq!(self.place, Some((epoch, offset)), "{}: short", self.room);
            if !messages.is_empty() {
                Tally::count(&self.run.tally.recovered);
            }
            return;
        }
        if self.place.is_some() {
            assert_eq!(answer["recovered"], false, "{answer}");
            Tally::count(&self.run.tally.told);
        }
        self.place = Some((epoch, offset));
    }

    fn take_event(&mut self, packet: &str) {
        let event = packet.strip_prefix("42").expect("an event");
        let (_, data, meta): (String, _, Meta) = serde_json::from_str(event).expect("a message");
        self.take(data, &meta);
    }

    /// The next message in order, or one that it has already.
    fn take(&mut self, said: (u64, u64), meta: &Meta) {
        let (epoch, last) = self.place.as_mut().expect("a place");
        let offset = meta.offset;
        assert_eq!(meta.epoch, *epoch, "another life without a word");
        if offset > *last {
            assert_eq!(offset, *last + 1, "{}: a silent gap", self.room);
            *last = offset;
        }
        let place = (self.room.clone(), epoch.clone(), offset);
        let mut seen = self.run.seen.lock().expect("no panic");
        let first = *seen.entry(place).or_insert(said);
        assert_eq!(first, said, "{}: two messages at {offset}", self.room);
        Tally::count(&self.run.tally.heard);
    }

    /// Reads on to where the room stands: nothing may be missing at the end either.
    async fn finish(&mut self) {
        loop {
            if self.socket.is_none() {
                self.enter().await;
                continue;
            }
            let end = self.run.client(&self.opening).await;
            let end = end_of(end, &self.room).await;
            let is_there = |this: &Self| {
                let place = this.place.as_ref();
                place.is_some_and(|(epoch, offset)| *epoch == end.0 && *offset >= end.1)
            };
            while self.socket.is_some() && !is_there(self) {
                if let Some(packet) = self.next().await {
                    self.take_event(&packet);
                }
            }
            if is_there(self) {
                return;
            }
        }
    }
}

/// Where a room stands.
async fn end_of(mut socket: WebSocket, room: &str) -> (String, u64) {
    let payload = json!({"room": room, "limit": 0});
    let answer = socket.call("rt:history", payload).await;
    let epoch = answer["epoch"].as_str().expect("an epoch");
    (
        epoch.to_owned(),
        answer["offset"].as_u64().expect("an offset"),
    )
}

fn seed() -> u64 {
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
async fn every_subscriber_has_every_message_in_order_or_was_told_in_100_000_steps() {
    let seed = seed();
    let (mut steps, mut closures) = (0, 0);
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
        closures += closed;
    }
    assert!(closures > 0, "nobody was too slow");
    assert!(steps >= 100_000, "only {steps} steps");
}
