//! Several gateways, one Redis: who is in a room is the same for everybody, whatever happens.

mod client;
mod reads;

use std::{collections::BTreeSet, time::Duration};

use redis::cmd;
use serde_json::value::RawValue;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use self::client::Client;
use super::{super::log::Faults, *};
use crate::{
    cluster::{Cluster, testing as redis_server},
    config::ClusterSettings,
    outbox,
    outbox::Outbox,
    transport::testing,
};

/// Long enough for all gateways to agree.
const LIMIT: Duration = Duration::from_secs(15);

/// Number of gateways, and of steps in one run with faults.
const GATEWAYS: usize = 3;
const STEPS: u64 = 250;

struct Gateway {
    cluster: Arc<Cluster>,
    rooms: Arc<Rooms>,
    transport: Arc<TransportContext>,
    outboxes: Arc<OutboxContext>,
    /// Tasks beside the listener of a gateway. Without them the gateway is dead.
    tasks: JoinSet<()>,
}

impl Gateway {
    async fn start(settings: &ClusterSettings) -> Self {
        let mut config = Config::default();
        config.presence.leave_delay_secs = 0;
        let cluster = redis_server::connected(settings).await;
        let timers: Arc<Timers> = Arc::default();
        let transport = TransportContext::new(&config, &Arc::new(Metrics::new()), &timers);
        let outboxes = OutboxContext::new(&transport);
        let rooms = Arc::new(Rooms::new(&config, Some(&cluster), &outboxes, &timers));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { timers.run().await });
        let mut this = Self {
            cluster,
            rooms,
            transport,
            outboxes,
            tasks,
        };
        this.go_on();
        this
    }

    /// Runs what a gateway does for presence.
    fn go_on(&mut self) {
        let (cluster, rooms) = (self.cluster.clone(), self.rooms.clone());
        self.tasks.spawn(async move { cluster.keep_lease().await });
        self.tasks
            .spawn(async move { rooms.share_presence().await });
    }

    async fn enter(&self, sub: &str, number: u64) -> Client {
        self.enter_as(sub, number, PresenceMode::Full).await
    }

    async fn enter_as(&self, sub: &str, number: u64, presence: PresenceMode) -> Client {
        let connection: Arc<str> = format!("{sub}-{number}").into();
        let session = testing::session(&self.transport);
        let outbox = Outbox::new(&self.outboxes, session, "/");
        outbox.set_deadline(None);
        let subscriber = Subscriber {
            connection: connection.clone(),
            outbox: outbox.clone(),
            sender: Sender {
                iss: None,
                sub: Some(sub.into()),
                name: None,
                connection: connection.clone(),
            },
            may_watch: true,
            presence: RawValue::from_string(format!("[\"{sub}\"]"))
                .ok()
                .map(Arc::from),
        };
        let options = SubscribeOptions {
            presence,
            ..SubscribeOptions::default()
        };
        let answer = |subscription: &Subscription<'_>| {
            outbox::event("/", "answer", &subscription.presence).ok()
        };
        let (lobby, rooms) = (name("lobby"), &self.rooms);
        let entered = rooms.subscribe(&lobby, &subscriber, &options, answer);
        assert_eq!(entered.await, Ok(()));
        Client {
            connection,
            outbox,
            users: BTreeSet::new(),
            count: 0,
            told: Vec::new(),
        }
    }

    fn leave(&self, client: &Client) {
        client.outbox.close();
        self.rooms.leave(&name("lobby"), &client.connection);
    }

    /// The users that an answer names, and the number of connections.
    async fn present(&self) -> (BTreeSet<String>, usize, bool) {
        let presence = self
            .rooms
            .presence(&name("lobby"), PresenceMode::Full)
            .await;
        let users = presence.users.expect("users");
        assert_eq!(users.len(), presence.count);
        for present in &users {
            // Whichever gateway the user is on.
            let data = present.data.as_deref().map(RawValue::get);
            let own = format!("[\"{}\"]", present.user.sub);
            assert_eq!(data, Some(own.as_str()));
        }
        let names = users
            .into_iter()
            .map(|present| present.user.sub.to_string());
        (names.collect(), presence.connections, presence.partial)
    }

    async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        self.cluster.link().ok()?.query(&command).await.ok()
    }

    fn id(&self) -> Option<Arc<str>> {
        self.cluster.leases().borrow().clone()
    }

    /// Lets the lease of another gateway run out.
    async fn age(&self, other: &Self) {
        if let Some(id) = other.id() {
            let register = self.cluster.register();
            let _: Option<i64> = self.run(&["ZADD", &register, "XX", "1000", &id]).await;
        }
    }

    /// Cuts the connection of another gateway.
    async fn cut(&self, other: &Self) {
        let id: Option<i64> = other.run(&["CLIENT", "ID"]).await;
        if let Some(id) = id {
            let _: Option<i64> = self.run(&["CLIENT", "KILL", "ID", &id.to_string()]).await;
        }
    }

    /// Deletes what the cluster has in Redis, as `FLUSHALL` does.
    async fn delete_everything(&self) {
        let pattern = self.cluster.name("*");
        let keys: Option<Vec<String>> = self.run(&["KEYS", &pattern]).await;
        for key in keys.unwrap_or_default() {
            let _: Option<i64> = self.run(&["DEL", &key]).await;
        }
    }
}

fn set(subs: &[&str]) -> BTreeSet<String> {
    subs.iter().map(|sub| (*sub).to_owned()).collect()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let agreed = timeout(LIMIT, async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(agreed.await.is_ok(), "never: {what}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_user_comes_once_and_leaves_once_however_many_gateways_it_is_on() {
    come_and_leave(redis_server::settings()).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn so_does_a_user_with_a_redis_cluster() {
    come_and_leave(redis_server::settings_of_cluster()).await;
}

async fn come_and_leave(settings: ClusterSettings) {
    let (one, two) = (
        Gateway::start(&settings).await,
        Gateway::start(&settings).await,
    );
    let mut watcher = one.enter("watcher", 0).await;
    let here = one.enter("alice", 1).await;
    until("alice at the other gateway", async || {
        two.present().await == (set(&["alice", "watcher"]), 2, false)
    })
    .await;
    let there = two.enter("alice", 2).await;
    let bob = two.enter("bob", 3).await;
    let everybody = set(&["alice", "bob", "watcher"]);
    until("all on both gateways", async || {
        one.present().await == (everybody.clone(), 4, false)
            && two.present().await == (everybody.clone(), 4, false)
    })
    .await;
    one.leave(&here);
    until("one connection less", async || two.present().await.1 == 3).await;
    assert_eq!(*watcher.read(), everybody);
    two.leave(&bob);
    until("bob gone", async || watcher.read().len() == 2).await;
    two.leave(&there);
    until("the watcher alone", async || {
        *watcher.read() == set(&["watcher"])
    })
    .await;
    let told = [
        "rt:join alice",
        "rt:join bob",
        "rt:leave bob",
        "rt:leave alice",
    ];
    assert_eq!(watcher.told, told);
    assert_eq!(watcher.count, 1);
    // A gateway without members in the room knows as much.
    until("nobody at the other gateway", async || {
        two.present().await == (set(&["watcher"]), 1, false)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_users_of_a_killed_gateway_leave_when_its_lease_has_run_out() {
    let settings = redis_server::settings();
    let (one, mut two) = (
        Gateway::start(&settings).await,
        Gateway::start(&settings).await,
    );
    let mut watcher = one.enter("watcher", 0).await;
    let _alice = two.enter("alice", 1).await;
    until("alice", async || watcher.read().len() == 2).await;
    two.tasks.shutdown().await;
    one.age(&two).await;
    until("the watcher alone", async || {
        *watcher.read() == set(&["watcher"])
    })
    .await;
    assert_eq!(one.present().await, (set(&["watcher"]), 1, false));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_gateway_that_was_paused_for_longer_than_its_lease_writes_its_users_again() {
    let settings = redis_server::settings();
    let (one, mut two) = (
        Gateway::start(&settings).await,
        Gateway::start(&settings).await,
    );
    let mut watcher = one.enter("watcher", 0).await;
    let _alice = two.enter("alice", 1).await;
    until("alice", async || watcher.read().len() == 2).await;
    let before = two.id();
    two.tasks.shutdown().await;
    one.age(&two).await;
    until("the watcher alone", async || watcher.read().len() == 1).await;
    two.go_on();
    until("alice again", async || watcher.read().len() == 2).await;
    assert_ne!(two.id(), before);
    let told = ["rt:join alice", "rt:leave alice", "rt:join alice"];
    assert_eq!(watcher.told, told);
    until("both", async || two.present().await == one.present().await).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn deleted_data_is_written_again_and_nobody_has_left_meanwhile() {
    let settings = redis_server::settings();
    let (one, two) = (
        Gateway::start(&settings).await,
        Gateway::start(&settings).await,
    );
    let mut watcher = one.enter("watcher", 0).await;
    let _alice = two.enter("alice", 1).await;
    until("alice", async || watcher.read().len() == 2).await;
    let before = [one.id(), two.id()];
    one.delete_everything().await;
    until("other leases", async || {
        one.id().is_some() && two.id().is_some() && one.id() != before[0] && two.id() != before[1]
    })
    .await;
    let both = (set(&["alice", "watcher"]), 2, false);
    until("both on both gateways", async || {
        one.present().await == both && two.present().await == both
    })
    .await;
    let third = Gateway::start(&settings).await;
    until("both on a third", async || third.present().await == both).await;
    watcher.read();
    assert_eq!(watcher.told, ["rt:join alice"]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn many_joins_are_few_writes_and_arrive() {
    const USERS: u64 = 2000;
    let settings = redis_server::settings();
    let (one, two) = (
        Gateway::start(&settings).await,
        Gateway::start(&settings).await,
    );
    let mut watcher = two.enter_as("watcher", 0, PresenceMode::Count).await;
    until("a lease", async || one.id().is_some()).await;
    let mut clients = Vec::new();
    let entering = futures_util::future::join_all((1..=USERS).map(async |number| {
        one.enter_as(&format!("user-{number}"), number, PresenceMode::Off)
            .await
    }));
    clients.extend(entering.await);
    until("all of them", async || {
        watcher.read();
        watcher.count == USERS + 1
    })
    .await;
    let people = one.rooms.terms.people.as_ref().expect("several gateways");
    let writes = people.writes();
    assert!(writes < USERS / 10, "{writes} writes");
}

/// Lets chance choose what happens, and checks in the end that all lists are true.
async fn run(seed: u64) -> usize {
    let (settings, chance) = (redis_server::settings(), Faults::new(seed, 0, 0, 0));
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        gateways.push(Gateway::start(&settings).await);
    }
    let mut watchers = Vec::new();
    for (number, gateway) in (0..).zip(&gateways) {
        watchers.push(gateway.enter(&format!("watcher-{number}"), number).await);
    }
    let mut clients: Vec<(usize, String, Client)> = Vec::new();
    for step in 100..100 + STEPS {
        let at = chance.below(GATEWAYS as u64) as usize;
        match chance.below(12) {
            0..=5 => {
                let sub = format!("user-{}", chance.below(8));
                let client = gateways[at].enter_as(&sub, step, PresenceMode::Off).await;
                clients.push((at, sub, client));
            }
            6..=9 if !clients.is_empty() => {
                let index = chance.below(clients.len() as u64) as usize;
                let (at, _, client) = clients.swap_remove(index);
                gateways[at].leave(&client);
            }
            10 if chance.below(3) == 0 => gateways[0].delete_everything().await,
            10 => gateways[0].age(&gateways[at]).await,
            11 => gateways[0].cut(&gateways[at]).await,
            _ => {}
        }
        sleep(Duration::from_millis(chance.below(12))).await;
    }
    let faulty = Instant::now();
    let mut truth: BTreeSet<String> = clients.iter().map(|(_, sub, _)| sub.clone()).collect();
    truth.extend((0..GATEWAYS).map(|number| format!("watcher-{number}")));
    let connections = clients.len() + GATEWAYS;
    let expected = (truth.clone(), connections, false);
    until(&format!("seed {seed}: {expected:?}"), async || {
        for (gateway, watcher) in gateways.iter().zip(&mut watchers) {
            if *watcher.read() != truth || gateway.present().await != expected {
                return false;
            }
        }
        true
    })
    .await;
    println!("seed {seed}: agreed after {:?}", faulty.elapsed());
    watchers.iter().map(|watcher| watcher.told.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn whatever_happens_to_redis_everybody_ends_with_the_true_list() {
    let mut told = 0;
    for seed in 0..4 {
        told += run(seed).await;
    }
    assert!(told > 200, "{told} announcements: nothing was tried");
}
