//! The seam between a room and its log, put to the test by chance: whatever the log does, each
//! subscriber has every message in order, or was told of a gap.

use std::{collections::HashMap, sync::Mutex};

use super::{super::log::Faults, subscriber::Client, *};
use crate::outbox;

const SEEDS: u64 = 200;
const PUBLISHERS: u64 = 3;
const MESSAGES: u64 = 15;
const SUBSCRIBERS: u64 = 4;

/// Long enough for a room to read its log again and again.
const CALM: Duration = Duration::from_secs(10);

/// Numbers of events over all runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) heard: u64,
    pub(super) recovered: u64,
    pub(super) unrecovered: u64,
    pub(super) gaps: u64,
    pub(super) continued: u64,
    pub(super) closed: u64,
}

/// The rooms of one run, and a source of choices.
pub(super) struct Run {
    pub(super) rooms: Rooms,
    pub(super) transport: Arc<TransportContext>,
    pub(super) outboxes: Arc<OutboxContext>,
    pub(super) faults: Arc<Faults>,
    /// Whether the log keeps all messages: then none may be lost.
    pub(super) keeps_all: bool,
    pub(super) tally: Mutex<Tally>,
    /// The data at each place of the stream. Everybody has to see the same.
    stream: Mutex<HashMap<(String, u64), String>>,
    is_over: std::sync::atomic::AtomicBool,
}

impl Run {
    fn new(seed: u64) -> Arc<Self> {
        let choices = Faults::new(seed, 0, 0, 0);
        let messages = [1000, 1000, 10, 0][choices.below(4) as usize];
        let faults = Faults::new(
            choices.below(u64::MAX),
            choices.below(40),
            choices.below(60),
            [0, 5, 200][choices.below(3) as usize],
        );
        let mut config = Config::default();
        config.history.messages = messages;
        // So few that a subscriber who takes nothing is closed now and then.
        config.limits.outbound_packets = 16;
        let timers = Arc::default();
        let transport = TransportContext::new(&config, &Arc::new(Metrics::new()), &timers);
        let outboxes = OutboxContext::new(&transport);
        let mut rooms = Rooms::new(&config, None, &outboxes, &timers);
        let terms = Arc::get_mut(&mut rooms.terms).expect("no room yet");
        terms.faults = Some(faults.clone());
        Arc::new(Self {
            rooms,
            transport,
            outboxes,
            faults,
            keeps_all: messages == 1000,
            tally: Mutex::default(),
            stream: Mutex::default(),
            is_over: false.into(),
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock().expect("no panic"));
    }

    /// Notes that `data` is at a place of the stream.
    pub(super) fn see(&self, epoch: &str, offset: u64, data: &str) {
        let place = (epoch.to_owned(), offset);
        let mut stream = self.stream.lock().expect("no panic");
        let first = stream.entry(place).or_insert_with(|| data.to_owned());
        assert_eq!(first, data, "two messages at {offset}");
    }

    pub(super) async fn pause(&self, most_ms: u64) {
        let time = self.faults.below(most_ms + 1);
        tokio::time::sleep(Duration::from_millis(time)).await;
    }

    /// Publishes one message after the other, each until it is acknowledged.
    async fn publish(self: Arc<Self>, publisher: u64) {
        for number in 0..MESSAGES {
            let data = format!("{publisher}-{number}");
            let key = MessageKey {
                publisher: publisher.to_string(),
                id: data.clone(),
            };
            let draft = draft("lobby", &data);
            // Once more now and then, as a publisher does that did not get the answer.
            for _ in 0..=self.faults.below(5) / 4 {
                let appended = loop {
                    match self.rooms.publish(&draft, Some(&key)).await {
                        Ok(appended) => break appended,
                        Err(error) => assert_eq!(error, PublishError::Unavailable),
                    }
                };
                let position = &appended.position;
                self.see(&position.epoch.0, position.offset, &data);
            }
            self.pause([0, 0, 30, 300][self.faults.below(4) as usize])
                .await;
        }
    }
}

pub(super) fn draft(room: &str, data: &str) -> Draft {
    let data = to_raw_value(data).expect("JSON");
    Draft {
        room: name(room),
        event: "message".to_owned(),
        data: Data::new(data, Vec::new()).expect("data"),
        id: "m".to_owned(),
        from: Sender {
            iss: None,
            sub: Some("alice".into()),
            name: None,
            connection: "c".into(),
        },
        ts: 0,
    }
}

async fn run(seed: u64) -> Tally {
    let run = Run::new(seed);
    // One subscriber stays, so that the room lives, and with it the numbers.
    let mut witness = Client::new(&run, 0);
    witness.subscribe_until_admitted().await;
    let subscribers: Vec<_> = (1..=SUBSCRIBERS)
        .map(|number| tokio::spawn(Client::new(&run, number).live()))
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| tokio::spawn(run.clone().publish(number)))
        .collect();
    let witnessing = tokio::spawn(witness.witness());
    for publisher in publishers {
        publisher.await.expect("a publisher without a panic");
    }
    run.is_over
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let mut clients = vec![witnessing.await.expect("a witness without a panic")];
    for subscriber in subscribers {
        clients.push(subscriber.await.expect("a subscriber without a panic"));
    }
    // Everything that was acknowledged arrives once the faults end.
    run.faults.end();
    tokio::time::sleep(CALM).await;
    for client in &mut clients {
        client.finish().await;
    }
    *run.tally.lock().expect("no panic")
}

#[tokio::test(start_paused = true)]
async fn whatever_its_log_does_a_subscriber_has_all_messages_in_order_or_is_told_of_a_gap() {
    let mut all = Tally::default();
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let tally = run(seed).await;
        all.heard += tally.heard;
        all.recovered += tally.recovered;
        all.unrecovered += tally.unrecovered;
        all.gaps += tally.gaps;
        all.continued += tally.continued;
        all.closed += tally.closed;
    }
    println!("{all:?}");
    // Each outcome has to come about, or it was not tried.
    let outcomes = [
        all.recovered,
        all.unrecovered,
        all.gaps,
        all.continued,
        all.closed,
    ];
    assert!(outcomes.iter().all(|count| *count > 10), "{all:?}");
    assert!(all.heard > SEEDS * PUBLISHERS * MESSAGES, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_made_once_however_long_its_client_is_backlogged() {
    let run = Run::new(0);
    run.faults.end();
    let client = Client::new(&run, 1);
    let subscriber = client.subscriber();
    let (lobby, options) = (name("lobby"), SubscribeOptions::default());
    let packet = || outbox::event("/", "filler", &1).expect("a packet");
    for _ in 0..16 {
        subscriber.outbox.send(packet()).expect("room in the queue");
    }
    let answers = std::sync::atomic::AtomicUsize::new(0);
    let answer = |_: &Subscription<'_>| {
        answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(packet())
    };
    let subscribing = run.rooms.subscribe(&lobby, &subscriber, &options, answer);
    let reading = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(answers.load(std::sync::atomic::Ordering::Relaxed), 0);
        subscriber.outbox.engine().queue().take(usize::MAX);
    };
    let (subscribed, ()) = tokio::join!(subscribing, reading);
    assert_eq!(subscribed, Ok(()));
    assert_eq!(answers.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_closed_while_it_subscribes_was_never_there() {
    let run = Run::new(0);
    run.faults.end();
    let client = Client::new(&run, 1);
    let subscriber = client.subscriber();
    let (lobby, options) = (name("lobby"), SubscribeOptions::default());
    let packet = || outbox::event("/", "filler", &1).expect("a packet");
    for _ in 0..16 {
        subscriber.outbox.send(packet()).expect("room in the queue");
    }
    let answer = |_: &Subscription<'_>| Some(packet());
    let subscribing = run.rooms.subscribe(&lobby, &subscriber, &options, answer);
    let publishing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        // The answer fits into its queue, and not all messages that wait behind the answer do.
        for number in 0..20 {
            let draft = draft("lobby", &number.to_string());
            run.rooms.publish(&draft, None).await.expect("published");
        }
        subscriber.outbox.engine().queue().take(usize::MAX);
    };
    let (subscribed, ()) = tokio::join!(subscribing, publishing);
    assert_eq!(subscribed, Err(JoinError::SessionEnded));
    run.rooms.leave(&lobby, &subscriber.connection);
    let presence = run.rooms.presence(&lobby, PresenceMode::Full).await;
    assert_eq!((presence.count, presence.connections), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_subscribes_again_is_still_told_that_it_missed_announcements() {
    let run = Run::new(0);
    run.faults.end();
    let (watcher, lobby) = (Client::new(&run, 0).subscriber(), name("lobby"));
    let watcher = Subscriber {
        may_watch: true,
        presence: None,
        ..watcher
    };
    let options = SubscribeOptions {
        presence: PresenceMode::Count,
        ..SubscribeOptions::default()
    };
    let packet = || outbox::event("/", "filler", &1).ok();
    let queue = watcher.outbox.engine().queue();
    let enter = async |number: u64| {
        let member = Client::new(&run, number).subscriber();
        let entered = run.rooms.subscribe(&lobby, &member, &options, |_| None);
        assert_eq!(entered.await, Ok(()));
    };
    let subscribe = async || {
        let subscribed = run
            .rooms
            .subscribe(&lobby, &watcher, &options, |_| packet());
        assert_eq!(subscribed.await, Ok(()));
    };
    subscribe().await;
    while !watcher.outbox.is_full() {
        let filler = packet().expect("a packet");
        watcher.outbox.send(filler).expect("an open outbox");
    }
    enter(1).await;
    queue.take(usize::MAX);
    subscribe().await;
    enter(2).await;
    let announcement = queue.take(usize::MAX).pop().expect("an announcement");
    let text = announcement.packet().text();
    assert!(text.contains(r#""missed":true"#), "{text}");
    enter(3).await;
    let announcement = queue.take(usize::MAX).pop().expect("an announcement");
    let text = announcement.packet().text();
    assert!(
        text.starts_with(r#"42["rt:join""#) && !text.contains("missed"),
        "{text}"
    );
}
