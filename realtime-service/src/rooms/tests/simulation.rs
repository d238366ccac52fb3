//! Three gateways and one Redis in one process and in paused time, with faults from a seed: rooms, the log in
//! Redis and the driver are the real ones, and the server is simulated. Each subscriber has every message
//! in order, or is told.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use futures_util::future::join_all;
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    seam,
    two_gateways::{Client, Gateway, Stream},
    *,
};
use crate::cluster::testing::{Harm, SimulatedRedis, simulated};

/// The variable that names one seed, in place of all.
const SEED_VARIABLE: &str = "LATCHKEY_TEST_SEED";

const SEEDS: u64 = 200;
const GATEWAYS: u64 = 3;
const PUBLISHERS: u64 = 2;
const MESSAGES: u64 = 25;
const CLIENTS: u64 = 4;

/// Long enough, in paused time, for whatever is not stuck.
const LIMIT: Duration = Duration::from_secs(120);

/// Numbers of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    heard: u64,
    epochs: u64,
    recovered: u64,
    unrecovered: u64,
}

/// A gateway that can crash.
struct Process {
    gateway: Rc<Gateway>,
    running: AbortHandle,
}

/// The cluster of one run.
struct World {
    redis: Arc<SimulatedRedis>,
    processes: Vec<RefCell<Process>>,
    stream: Stream,
    is_over: Cell<bool>,
}

impl Process {
    fn start(redis: &Arc<SimulatedRedis>) -> Self {
        let (cluster, running) = simulated(redis);
        let gateway = Rc::new(Gateway::around(cluster));
        Self { gateway, running }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let harm = Harm {
            lost: [0, 10, 40][random.usize(..3)],
            halved: [0, 1][random.usize(..2)],
            delay_ms: [0, 3, 40][random.usize(..3)],
        };
        let redis = SimulatedRedis::new(random.u64(..), harm);
        let start = |_| RefCell::new(Process::start(&redis));
        Self {
            processes: (0..GATEWAYS).map(start).collect(),
            redis,
            stream: Stream::default(),
            is_over: Cell::new(false),
        }
    }

    fn gateway(&self, number: u64) -> Rc<Gateway> {
        let number = (number % GATEWAYS) as usize;
        self.processes[number].borrow().gateway.clone()
    }

    async fn pause(&self, most_ms: u64) {
        sleep(Duration::from_millis(self.redis.below(most_ms + 1))).await;
    }

    /// Publishes one message after the other, each until any gateway acknowledges it.
    async fn publish(&self, publisher: u64) {
        for number in 0..MESSAGES {
            self.publish_one(&format!("{publisher}-{number}")).await;
            self.pause([0, 20, 300][self.redis.below(3) as usize]).await;
        }
    }

    async fn publish_one(&self, data: &str) {
        let key = MessageKey {
            publisher: "alice".to_owned(),
            id: data.to_owned(),
        };
        let draft = seam::draft("lobby", data);
        let position = loop {
            let gateway = self.gateway(self.redis.below(GATEWAYS));
            match gateway.rooms.publish(&draft, Some(&key)).await {
                Ok(appended) => break appended.position,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        };
        self.stream.see(&position.epoch.0, position.offset, data);
    }

    /// Stays on one gateway after the other until the run is over. Returns the last one.
    async fn live(&self, client: &mut Client<'_>, number: u64) -> Rc<Gateway> {
        let (mut at, mut gateway) = (number, self.gateway(number));
        while !self.is_over.get() {
            client.read();
            self.pause(100).await;
            let has_crashed = !Rc::ptr_eq(&gateway, &self.gateway(at));
            if has_crashed || self.redis.below(40) == 0 {
                at = self.redis.below(GATEWAYS);
                let next = self.gateway(at);
                client.change(&gateway, &next).await;
                gateway = next;
            }
        }
        match Rc::ptr_eq(&gateway, &self.gateway(at)) {
            true => gateway,
            false => {
                let next = self.gateway(at);
                client.change(&gateway, &next).await;
                next
            }
        }
    }

    /// Does harm until the run is over.
    async fn do_harm(&self) {
        let redis = &self.redis;
        loop {
            self.pause(400).await;
            // Nobody leaves a gateway that crashes after that.
            if self.is_over.get() {
                return;
            }
            match redis.below(12) {
                0 => redis.flush(),
                1 => redis.fail_over(redis.below(4)),
                2 => {
                    redis.kill();
                    self.pause(1500).await;
                    redis.start();
                }
                3 => {
                    redis.pause();
                    self.pause(4000).await;
                    redis.resume();
                }
                4 => self.crash(redis.below(GATEWAYS)),
                _ => redis.cut(redis.below(GATEWAYS) as usize),
            }
        }
    }

    /// Ends a gateway, and starts it again without anything.
    fn crash(&self, number: u64) {
        let mut process = self.processes[number as usize].borrow_mut();
        process.running.abort();
        *process = Process::start(&self.redis);
    }
}

async fn run(seed: u64) -> Tally {
    let world = World::new(seed);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let gateway = world.gateway(number);
        clients.push(Client::enter(&gateway, &world.stream, number as usize).await);
    }
    let publishing = async {
        join_all((0..PUBLISHERS).map(|number| world.publish(number))).await;
        world.is_over.set(true);
    };
    let living = clients.iter_mut().zip(0..);
    let living = join_all(living.map(|(client, number)| world.live(client, number)));
    let all = async { tokio::join!(publishing, world.do_harm(), living).2 };
    let gateways = timeout(LIMIT, all).await.expect("an end in time");
    world.redis.calm();
    // One more, after which nothing is missing.
    let last = world.publish_one("last");
    timeout(LIMIT, last).await.expect("published in time");
    let mut tally = Tally::default();
    for (client, gateway) in clients.iter_mut().zip(&gateways) {
        client.finish(gateway).await;
        tally.heard += client.heard;
        tally.epochs += client.epochs;
        tally.recovered += client.recovered;
        tally.unrecovered += client.unrecovered;
    }
    tally
}

/// Runs a seed in a runtime of its own, and says which one it is when it fails.
fn replay(seed: u64) -> Tally {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("{SEED_VARIABLE}={} replays this run", self.0);
            }
        }
    }
    let _named = Named(seed);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(run(seed))
}

#[test]
fn whatever_a_seed_does_to_a_cluster_a_subscriber_has_all_messages_in_order_or_is_told() {
    if let Ok(seed) = std::env::var(SEED_VARIABLE) {
        println!("{:?}", replay(seed.parse().expect("a number")));
        return;
    }
    let mut all = Tally::default();
    for seed in 0..SEEDS {
        let tally = replay(seed);
        all.heard += tally.heard;
        all.epochs += tally.epochs;
        all.recovered += tally.recovered;
        all.unrecovered += tally.unrecovered;
    }
    println!("{all:?}");
    // Each outcome has to come about, or it was not tried.
    let outcomes = [all.epochs, all.recovered, all.unrecovered];
    assert!(outcomes.iter().all(|count| *count > SEEDS), "{all:?}");
    assert!(all.heard > SEEDS * PUBLISHERS * MESSAGES, "{all:?}");
}

#[test]
fn a_seed_has_one_run() {
    for seed in 0..5 {
        assert_eq!(replay(seed), replay(seed), "seed {seed}");
    }
}
