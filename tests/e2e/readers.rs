//! Nobody who reads is closed, whatever anybody publishes: messages of every size and form, for
//! readers by WebSocket and polling, of Engine.IO 3 and 4.
//!
//! The messages come from one seed, which is printed; `E2E_SEED` sets it.

use std::time::Duration;

use harness::{Opening, Options, Polling, Stack, WebSocket, soon};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::recovery::{Chance, seed};

/// Messages that are published by chance, and how many bytes each has at most.
const MESSAGES: u64 = 60;
const MOST_BYTES: u64 = 200_000;

/// How many bytes are published before the readers are waited for: less than may wait for a client.
const BATCH_BYTES: usize = 1 << 20;

/// How often an idle reader of Engine.IO 3 sends a ping.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A reader: the transport and the version of Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    WebSocket4,
    WebSocket3,
    Polling4,
    Polling3,
}

const KINDS: [Kind; 4] = [
    Kind::WebSocket4,
    Kind::WebSocket3,
    Kind::Polling4,
    Kind::Polling3,
];

/// Data with the placeholders of its attachments, and the attachments.
struct Content(String, Vec<Vec<u8>>);

impl Content {
    fn bytes(&self) -> usize {
        self.0.len() + self.1.iter().map(Vec::len).sum::<usize>()
    }
}

/// Text that is longer, or shorter, in some encoding than in another one.
fn text(chance: &mut Chance, bytes: u64) -> String {
    let count = chance.below(bytes + 1) as usize;
    match chance.below(6) {
        0 => "x".repeat(count),
        1 => "\u{6F22}".repeat(count / 3),
        2 => "\u{1F600}".repeat(count / 4),
        // JSON escapes that a serializer writes in another length than they have here.
        3 => "\\u0041".repeat(count / 6),
        4 => "\\n\\\"\\\\".repeat(count / 6),
        _ => "\\ud83d\\ude00".repeat(count / 12),
    }
}

fn content(chance: &mut Chance) -> Content {
    let share = MOST_BYTES / (1 << chance.below(10));
    let space = " \n\t\r".repeat((chance.below(2) * chance.below(share / 4 + 1)) as usize);
    let attachments: Vec<Vec<u8>> = (0..chance.below(4))
        .map(|_| vec![7; chance.below(share + 1) as usize])
        .collect();
    let mut parts = vec![format!("\"{}\"", text(chance, share))];
    for number in 0..attachments.len() {
        parts.push(format!("{{\"_placeholder\":true,\"num\":{number}}}"));
    }
    if chance.below(2) == 0 {
        parts.extend(vec![
            "[0,1.50,{\"\":null}]".to_owned();
            chance.below(500) as usize
        ]);
    }
    Content(format!("[{space}{}]", parts.join(" ,\n")), attachments)
}

/// A publisher, and how far each reader is.
struct Room {
    publisher: WebSocket,
    readers: Vec<(Kind, watch::Receiver<u64>)>,
    published: u64,
}

impl Room {
    /// Lets a reader of each kind subscribe, and read from then on.
    async fn start(stack: &Stack) -> Self {
        let token = stack.forge().token();
        let mut readers = Vec::new();
        for kind in KINDS {
            let (progress, read) = watch::channel(0);
            let (subscribed, ready) = tokio::sync::oneshot::channel();
            let client = Client::open(kind, stack, &token).await;
            tokio::spawn(client.read(progress, subscribed));
            soon("a subscription", ready).await.expect("a reader");
            readers.push((kind, read));
        }
        Self {
            publisher: Opening::of(stack).admitted(&stack.forge().token()).await,
            readers,
            published: 0,
        }
    }

    /// Publishes a message. That it arrives is its acknowledgement.
    async fn publish(&mut self, Content(data, attachments): &Content) {
        let count = match attachments.len() {
            0 => "42".to_owned(),
            count => format!("45{count}-"),
        };
        let payload = format!(r#"{{"room":"lobby","event":"message","data":{data}}}"#);
        let packet = format!(r#"{count}["rt:publish",{payload}]"#);
        self.publisher.send(packet).await;
        for attachment in attachments {
            self.publisher.send_binary(attachment).await;
        }
        self.published += 1;
    }

    /// Waits until each reader has everything.
    async fn all_read(&mut self, what: &str) {
        let published = self.published;
        for (kind, read) in &mut self.readers {
            let all = read.wait_for(|offset| *offset == published);
            let what = format!("{what} for {kind:?}");
            let read = soon(&what, all).await;
            assert!(read.is_ok(), "closed: {what}");
        }
    }
}

/// A reader's connection.
enum Client {
    WebSocket(Kind, Box<WebSocket>),
    Polling(Kind, Polling),
}

impl Client {
    async fn open(kind: Kind, stack: &Stack, token: &str) -> Self {
        match kind {
            Kind::WebSocket4 => {
                Self::WebSocket(kind, Box::new(Opening::of(stack).admitted(token).await))
            }
            Kind::WebSocket3 => {
                let socket = Opening::of(stack).admitted_by_query(token).await;
                Self::WebSocket(kind, Box::new(socket))
            }
            Kind::Polling4 => Self::Polling(kind, Polling::of(stack).admitted(token).await),
            Kind::Polling3 => {
                let mut polling = Polling::of(stack).version_3().query("token", token);
                let (_, mut body) = polling.get().await;
                let sid = body.split_once("\"sid\":\"").expect("a sid").1;
                polling.sid = sid.split_once('"').expect("a sid").0.to_owned();
                while !body.ends_with(":40") {
                    body = polling.get().await.1;
                }
                Self::Polling(kind, polling)
            }
        }
    }

    async fn send(&mut self, packet: &str) {
        match self {
            Self::WebSocket(_, socket) => socket.try_send(packet).await,
            Self::Polling(kind, polling) => post(*kind, polling, packet).await,
        }
    }

    /// What comes next; nothing once the connection is closed.
    async fn next(&mut self) -> Option<String> {
        match self {
            Self::WebSocket(Kind::WebSocket3, socket) => loop {
                socket.try_send("2").await;
                if let Some(received) = socket.next_within(PING_INTERVAL).await {
                    return received;
                }
            },
            Self::WebSocket(_, socket) => socket.next().await,
            Self::Polling(kind, polling) => {
                let (status, body) = polling.get().await;
                let answer = match kind {
                    Kind::Polling3 => "2",
                    _ if body.split('\u{1e}').any(|packet| packet == "2") => "3",
                    _ => "",
                };
                if status.is_success() && !answer.is_empty() {
                    post(*kind, polling, answer).await;
                }
                if !status.is_success() {
                    println!("{kind:?}: {status} {body}");
                }
                status.is_success().then_some(body)
            }
        }
    }

    /// Subscribes, and reads until the connection is closed.
    async fn read(
        mut self,
        progress: watch::Sender<u64>,
        subscribed: tokio::sync::oneshot::Sender<()>,
    ) {
        let packet = format!("421{}", json!(["rt:subscribe", {"room": "lobby"}]));
        self.send(&packet).await;
        let mut subscribed = Some(subscribed);
        while let Some(received) = self.next().await {
            if received.contains("\"ok\":true")
                && let Some(subscribed) = subscribed.take()
            {
                subscribed.send(()).expect("a test that waits");
            }
            for (at, _) in received.match_indices("\"epoch\":") {
                take(&received[at..], &progress);
            }
        }
    }
}

async fn post(kind: Kind, polling: &Polling, packet: &str) {
    let body = match kind {
        Kind::Polling3 => format!("{}:{packet}", packet.len()),
        _ => packet.to_owned(),
    };
    let (status, answer) = polling.post(body).await;
    assert!(status.is_success(), "{kind:?}: {status} {answer}");
}

/// Takes the next offset, which stands in `meta`.
fn take(meta: &str, progress: &watch::Sender<u64>) {
    let offset = meta.split_once("\"offset\":").expect("an offset").1;
    let digits = offset.find(|character: char| !character.is_ascii_digit());
    let offset = &offset[..digits.unwrap_or(offset.len())];
    let offset: u64 = offset.parse().expect("a number");
    let before = progress.send_replace(offset);
    // The first is that of the answer to the subscription.
    assert!(
        offset == 0 || offset == before + 1,
        "{offset} after {before}"
    );
}

fn options() -> Options {
    Options::default()
        .gateway("limits.events_per_sec", 1_000_000)
        .gateway("limits.events_burst", 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_reads_is_closed_for_white_space_before_a_placeholder() {
    let stack = Stack::start_with(options()).await;
    let mut room = Room::start(&stack).await;
    let spaces = " ".repeat(900_000);
    let data = format!("[{spaces}{{\"_placeholder\":true,\"num\":0}}]");
    let content = Content(data, vec![vec![1, 2]]);
    for _ in 0..5 {
        room.publish(&content).await;
    }
    room.all_read("white space").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_reads_is_closed_for_text_that_is_longer_in_escapes() {
    const COUNT: usize = 1680;
    let stack = Stack::start_with(options()).await;
    let mut room = Room::start(&stack).await;
    // As an honest publisher in Python writes it: every character is an escape.
    let text = "\\u6f22".repeat(900);
    let data = format!("[\"{text}\",{{\"_placeholder\":true,\"num\":0}}]");
    let content = Content(data, vec![vec![3; 64]]);
    let batch = BATCH_BYTES / content.bytes();
    for number in 1..=COUNT {
        room.publish(&content).await;
        if number % batch == 0 {
            room.all_read("escapes").await;
        }
    }
    room.all_read("escapes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_reads_is_closed_for_messages_of_any_size_and_form() {
    let stack = Stack::start_with(options()).await;
    let mut room = Room::start(&stack).await;
    let mut chance = Chance(seed());
    let mut bytes = 0;
    for number in 0..MESSAGES {
        let content = content(&mut chance);
        serde_json::from_str::<Value>(&content.0).expect("JSON");
        bytes += content.bytes();
        room.publish(&content).await;
        if bytes > BATCH_BYTES {
            bytes = 0;
            room.all_read(&format!("message {number}")).await;
        }
    }
    room.all_read("the last message").await;
}
