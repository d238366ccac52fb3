//! Two gateways, one Redis or a Redis Cluster, and faults by chance: each subscriber has every message in order, or is told.

use std::{collections::HashMap, sync::Mutex};

use redis::cmd;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{super::log::Faults, *};
use crate::{
    cluster::{Away, Cluster, Link, testing as redis_server},
    config::ClusterSettings,
    outbox,
    outbox::Outbox,
    transport::testing,
};

const RUNS: u64 = 8;
const MESSAGES: u64 = 150;
const SUBSCRIBERS: usize = 3;

/// Long enough for any of them to catch up.
const LIMIT: Duration = Duration::from_secs(30);

/// The data at each place of the stream, which everybody has to see alike.
#[derive(Default)]
pub(super) struct Stream(Mutex<HashMap<(String, u64), String>>);

impl Stream {
    pub(super) fn see(&self, epoch: &str, offset: u64, data: &str) {
        let place = (epoch.to_owned(), offset);
        let mut stream = self.0.lock().expect("no panic");
        let first = stream.entry(place).or_insert_with(|| data.to_owned());
        assert_eq!(first, data, "two messages at {offset}");
    }
}

pub(super) struct Gateway {
    cluster: Arc<Cluster>,
    pub(super) rooms: Rooms,
    transport: Arc<TransportContext>,
    outboxes: Arc<OutboxContext>,
}

impl Gateway {
    async fn start(settings: &ClusterSettings) -> Self {
        Self::around(redis_server::connected(settings).await)
    }

    /// A gateway with this connection to Redis, whose history keeps every message.
    pub(super) fn around(cluster: Arc<Cluster>) -> Self {
        let mut config = Config::default();
        config.history.messages = 10_000;
        let timers = Arc::default();
        let transport = TransportContext::new(&config, &Arc::new(Metrics::new()), &timers);
        let outboxes = OutboxContext::new(&transport);
        let rooms = Rooms::new(&config, Some(&cluster), &outboxes, &timers);
        Self {
            cluster,
            rooms,
            transport,
            outboxes,
        }
    }

    /// Cuts the connection to Redis, from outside.
    async fn cut(&self, observer: &Cluster) {
        let Ok(link) = link_of_lobby(&self.cluster) else {
            return;
        };
        let id: Result<i64, _> = link.query(cmd("CLIENT").arg("ID")).await;
        if let (Ok(id), Ok(observer)) = (id, link_of_lobby(observer)) {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(id);
            let _: Result<i64, _> = observer.query(&kill).await;
        }
    }

    /// Publishes until it is acknowledged, and notes the place.
    pub(super) async fn publish(&self, stream: &Stream, data: &str) {
        let key = MessageKey {
            publisher: "alice".to_owned(),
            id: data.to_owned(),
        };
        let draft = seam::draft("lobby", data);
        let published = async {
            loop {
                match self.rooms.publish(&draft, Some(&key)).await {
                    Ok(appended) => return appended,
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let appended = timeout(LIMIT, published).await.expect("published in time");
        let position = appended.position;
        stream.see(&position.epoch.0, position.offset, data);
    }
}

/// A subscriber that stays, and reads.
pub(super) struct Client<'a> {
    stream: &'a Stream,
    connection: Arc<str>,
    outbox: Arc<Outbox>,
    place: (String, u64),
    /// Numbers of messages and of epochs that it was told of.
    pub(super) heard: u64,
    pub(super) epochs: u64,
    /// Numbers of returns that missed nothing, and of those that may have.
    pub(super) recovered: u64,
    pub(super) unrecovered: u64,
}

impl<'a> Client<'a> {
    pub(super) async fn enter(gateway: &Gateway, stream: &'a Stream, number: usize) -> Self {
        let mut client = Self {
            stream,
            connection: format!("connection-{number}").into(),
            outbox: new_outbox(gateway),
            place: (String::new(), 0),
            heard: 0,
            epochs: 0,
            recovered: 0,
            unrecovered: 0,
        };
        client.subscribe(gateway, None).await;
        client
    }

    /// Leaves a gateway, and comes to another one with the last message that it has.
    pub(super) async fn change(&mut self, former: &Gateway, next: &Gateway) {
        self.read();
        self.outbox.close();
        former.rooms.leave(&name("lobby"), &self.connection);
        self.outbox = new_outbox(next);
        let (epoch, offset) = self.place.clone();
        self.subscribe(next, Some(Since { epoch, offset })).await;
    }

    async fn subscribe(&mut self, gateway: &Gateway, since: Option<Since>) {
        let connection = self.connection.clone();
        let subscriber = Subscriber {
            connection: connection.clone(),
            outbox: self.outbox.clone(),
            sender: Sender {
                iss: None,
                sub: Some(connection.clone()),
                name: None,
                connection,
            },
            may_watch: false,
            presence: None,
        };
        let answer = |subscription: &Subscription<'_>| {
            let answer = json!({
                "epoch": subscription.position.epoch, "offset": subscription.position.offset,
                "recovered": subscription.recovered,
                "messages": subscription.messages.map(|messages| &messages.json),
            });
            outbox::event("/", "answer", &answer).ok()
        };
        let options = SubscribeOptions {
            since,
            ..SubscribeOptions::default()
        };
        let (lobby, rooms) = (name("lobby"), &gateway.rooms);
        let entered = rooms.subscribe(&lobby, &subscriber, &options, answer);
        assert_eq!(entered.await, Ok(()));
    }

    fn take_answer(&mut self, answer: &Value) {
        let offset = answer["offset"].as_u64().expect("a number");
        let end = (text_of(&answer["epoch"]), offset);
        match answer["recovered"].as_bool() {
            Some(true) => {
                for message in answer["messages"].as_array().expect("messages") {
                    self.take_message(&message["data"], &message["meta"]);
                }
                assert_eq!(self.place, end, "the answer falls short");
                self.recovered += 1;
            }
            Some(false) => self.unrecovered += 1,
            None => {}
        }
        self.place = end;
    }

    pub(super) fn read(&mut self) {
        for queued in self.outbox.engine().queue().take(usize::MAX) {
            let text = queued.packet().text().strip_prefix("42");
            let event: Value = serde_json::from_str(text.expect("an event")).expect("JSON");
            let number = |name: &str| event[1][name].as_u64().expect("a number");
            match event[0].as_str() {
                Some("answer") => self.take_answer(&event[1]),
                Some("message") => self.take_message(&event[1], &event[2]),
                Some("rt:gap") => {
                    let epoch = text_of(&event[1]["epoch"]);
                    // All messages are kept: none is missing but those of an epoch that was lost.
                    assert_ne!(epoch, self.place.0, "{event}");
                    assert!(number("to") + 1 >= number("from"), "{event}");
                    self.place = (epoch, number("to"));
                    self.epochs += 1;
                }
                _ => panic!("{event}"),
            }
        }
    }

    fn take_message(&mut self, data: &Value, meta: &Value) {
        let (epoch, offset) = (text_of(&meta["epoch"]), meta["offset"].as_u64());
        let expected = (self.place.0.clone(), Some(self.place.1 + 1));
        assert_eq!((epoch, offset), expected, "a silent gap, or another order");
        self.place.1 += 1;
        self.stream
            .see(&self.place.0, self.place.1, data.as_str().expect("a text"));
        self.heard += 1;
    }

    /// Reads until it has the message at the end of the log.
    pub(super) async fn finish(&mut self, gateway: &Gateway) {
        let reached = async {
            loop {
                self.read();
                let (lobby, nothing) = (name("lobby"), Selection::default());
                let extract = gateway.rooms.read(&lobby, &nothing).await;
                let end = extract.ok().map(|extract| extract.position);
                let end = end.map(|end| (end.epoch.0.to_string(), end.offset));
                if end.as_ref() == Some(&self.place) {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = timeout(LIMIT, reached).await;
        reached.expect("the end of the log is missing");
    }
}

fn new_outbox(gateway: &Gateway) -> Arc<Outbox> {
    let session = testing::session(&gateway.transport);
    let outbox = Outbox::new(&gateway.outboxes, session, "/");
    outbox.set_deadline(None);
    outbox
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The connection to the server with the log.
fn link_of_lobby(cluster: &Cluster) -> Result<Arc<Link>, Away> {
    cluster.link_of(&cluster.name("{lobby}:log"))
}

/// Deletes what the cluster has in Redis, as `FLUSHALL` does.
async fn delete_everything(observer: &Cluster) {
    let keys = ["log", "messages", "ids", "id-order"];
    let keys = keys.map(|key| observer.name(&format!("{{lobby}}:{key}")));
    redis_server::delete(observer, &keys).await;
}

/// Does harm until everything is published.
async fn do_harm(chance: &Faults, gateways: &[Gateway; 2], observer: &Cluster) {
    loop {
        sleep(Duration::from_millis(chance.below(120))).await;
        match chance.below(8) {
            0 => delete_everything(observer).await,
            1..=3 => gateways[0].cut(observer).await,
            _ => gateways[1].cut(observer).await,
        }
    }
}

async fn run(settings: &ClusterSettings, seed: u64) -> (u64, u64) {
    let chance = Faults::new(seed, 0, 0, 0);
    let stream = Stream::default();
    let gateways = [
        Gateway::start(settings).await,
        Gateway::start(settings).await,
    ];
    let observer = redis_server::connected(settings).await;
    let mut clients = Vec::new();
    for number in 0..SUBSCRIBERS {
        let gateway = &gateways[number % 2];
        clients.push((gateway, Client::enter(gateway, &stream, number).await));
    }
    let publish = async |publisher: usize| {
        for number in 0..MESSAGES {
            let data = format!("{publisher}-{number}");
            gateways[publisher].publish(&stream, &data).await;
            sleep(Duration::from_millis(chance.below(10))).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(publish(0), publish(1)) } => {}
        () = do_harm(&chance, &gateways, &observer) => {}
    }
    // One more, after which nothing is missing.
    gateways[0].publish(&stream, "last").await;
    let (mut heard, mut epochs) = (0, 0);
    for (gateway, client) in &mut clients {
        client.finish(gateway).await;
        heard += client.heard;
        epochs += client.epochs;
    }
    (heard, epochs)
}

async fn run_all(settings: impl Fn() -> ClusterSettings) {
    let (mut heard, mut epochs) = (0, 0);
    for seed in 0..RUNS {
        println!("seed {seed}");
        let told = run(&settings(), seed).await;
        heard += told.0;
        epochs += told.1;
    }
    println!("{heard} messages were heard, and {epochs} times of another epoch");
    // Both have to come about, or they were not tried.
    assert!(
        heard > RUNS * MESSAGES && epochs > RUNS,
        "{heard}, {epochs}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn whatever_happens_to_redis_a_subscriber_has_all_messages_in_order_or_is_told() {
    run_all(redis_server::settings).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn whatever_happens_to_a_shard_a_subscriber_has_all_messages_in_order_or_is_told() {
    run_all(redis_server::settings_of_cluster).await;
}
