//! Gateways of a cluster are lost with their disks, and another one sends what they owe.

use std::{net::SocketAddr, sync::PoisonError, time::Duration};

use harness::{CalledBackEnd, Redis, SentinelGroup, Stack, eventually};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    back_end,
    killed::{Confirmed, assert_all_told, keep_busy, options},
};
use crate::{
    cluster::ready,
    recovery::{Chance, seed},
};

/// Number of gateways that are lost, and of clients that are busy on each then.
const LOST: usize = 3;
const CLIENTS: usize = 4;

/// Bounds of the time that a gateway lives, in milliseconds.
const SHORTEST_LIFE_MS: u64 = 200;
const LONGEST_LIFE_MS: u64 = 1500;

/// Lease of a queue, in seconds.
const LEASE_SECS: u64 = 3;

/// Starts clients that are busy on a gateway until it is gone.
fn start_clients(
    clients: &mut JoinSet<()>,
    (stack, gateway): (&Stack, SocketAddr),
    confirmed: &Confirmed,
    chances: &mut Chance,
) {
    for _ in 0..CLIENTS {
        let chance = Chance(chances.below(u64::MAX));
        clients.spawn(keep_busy(gateway, stack.forge(), confirmed.clone(), chance));
    }
}

/// Events that are acknowledged before a test goes on.
const EVENTS: usize = 200;

/// Returns how many events were acknowledged.
fn sent(confirmed: &Confirmed) -> usize {
    let confirmed = confirmed.lock().unwrap_or_else(PoisonError::into_inner);
    confirmed.values().map(Vec::len).sum()
}

/// Returns how many rows the copies of all queues have in `redis`, as it answers.
async fn rows(redis: &Redis) -> String {
    let count = r#"EVAL "local rows = 0 for _, key in ipairs(redis.call('KEYS', '*:queue:rows')) do rows = rows + redis.call('HLEN', key) end return rows" 0"#;
    redis.command(count).await
}

/// Returns the names of the copies of all queues, as Redis answers.
async fn names(redis: &Redis) -> String {
    let names = r#"EVAL "local names = redis.call('KEYS', '*:queue:rows') table.sort(names) return table.concat(names, ' ')" 0"#;
    redis.text(names).await
}

/// Waits until Redis has the copies of so many queues.
async fn copied(redis: &Redis, queues: usize) {
    let count = r#"EVAL "return #redis.call('KEYS', '*:queue:rows')" 0"#;
    eventually("a copy of each queue", async || {
        redis.command(count).await.trim() == format!(":{queues}")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries and redis-server"]
async fn gateways_that_are_lost_with_their_disks_owe_no_event() {
    let (redis, shop) = (Redis::start().await, back_end().await);
    let options = options(&shop)
        .gateway("cluster.url", redis.url())
        .gateway("cluster.lease_secs", LEASE_SECS);
    let stack = Stack::start_with(options).await;
    ready(&stack.gateway_url).await;
    let mut gateways = Vec::new();
    for _ in 0..LOST {
        gateways.push(stack.start_gateway().await);
    }
    copied(&redis, LOST + 1).await;
    let (confirmed, mut chances) = (Confirmed::default(), Chance(seed()));
    let mut clients = JoinSet::new();
    for gateway in gateways {
        let place = (&stack, gateway.address);
        start_clients(&mut clients, place, &confirmed, &mut chances);
        let life = SHORTEST_LIFE_MS + chances.below(LONGEST_LIFE_MS - SHORTEST_LIFE_MS);
        clients.spawn(async move {
            // No event but the loss ends a life.
            tokio::time::sleep(Duration::from_millis(life)).await;
            gateway.lose().await;
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client or a gateway");
    }
    let lost = assert_all_told(&shop, &confirmed).await;
    assert!(lost > 0, "no connection was open at a loss");
    copied(&redis, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries and redis-server"]
async fn events_of_a_gateway_that_was_lost_outlive_the_primary_of_the_sentinels() {
    let (shop, gate) = CalledBackEnd::start_gated(json!({})).await;
    let mut group = SentinelGroup::start().await;
    let password = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(password.path(), &group.password).expect("a written file");
    let options = options(&shop)
        .gateway("cluster.url", group.url())
        .gateway("cluster.sentinel_password_file", json!(password.path()))
        .gateway("cluster.timeout_ms", 500)
        .gateway("cluster.lease_secs", LEASE_SECS);
    let stack = Stack::start_with(options).await;
    ready(&stack.gateway_url).await;
    let gateway = stack.start_gateway().await;
    copied(&group.servers[0], 2).await;
    let (confirmed, mut chances) = (Confirmed::default(), Chance(seed()));
    let mut clients = JoinSet::new();
    let place = (&stack, gateway.address);
    start_clients(&mut clients, place, &confirmed, &mut chances);
    eventually("a queue of events", async || sent(&confirmed) >= EVENTS).await;
    gateway.lose().await;
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client");
    }
    assert!(
        shop.requests().len() < sent(&confirmed) / 2,
        "most events were not sent"
    );
    let [primary, replica] = &mut group.servers;
    let stored = rows(primary).await;
    eventually("a replica with all of it", async || {
        rows(replica).await == stored
    })
    .await;
    primary.kill().await;
    gate.add_permits(Semaphore::MAX_PERMITS);
    let lost = assert_all_told(&shop, &confirmed).await;
    assert!(lost > 0, "no connection was open at the loss");
    copied(&group.servers[1], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries and redis-server"]
async fn gateways_that_live_adopt_nothing_of_each_other_after_an_outage_of_redis() {
    let (redis, shop) = (Redis::start().await, back_end().await);
    let options = options(&shop)
        .gateway("cluster.url", redis.url())
        .gateway("cluster.timeout_ms", 500)
        .gateway("cluster.lease_secs", LEASE_SECS);
    let stack = Stack::start_with(options).await;
    ready(&stack.gateway_url).await;
    let mut addresses = vec![stack.gateway_address];
    let mut others = Vec::new();
    for _ in 1..LOST {
        others.push(stack.start_gateway().await);
    }
    addresses.extend(others.iter().map(|other| other.address));
    copied(&redis, LOST).await;
    let (confirmed, mut chances) = (Confirmed::default(), Chance(seed()));
    let mut clients = JoinSet::new();
    for address in addresses {
        start_clients(&mut clients, (&stack, address), &confirmed, &mut chances);
    }
    let copies = names(&redis).await;
    redis.pause();
    let before = sent(&confirmed);
    // Nobody tells that a lease has run out, and Redis answers nobody.
    tokio::time::sleep(Duration::from_secs(LEASE_SECS + 1)).await;
    assert!(
        sent(&confirmed) > before + EVENTS,
        "the disk alone is not enough"
    );
    redis.go_on();
    let leases = format!(":{LOST}");
    eventually("the lease of each queue", async || {
        redis
            .command(r#"EVAL "return #redis.call('KEYS', '*:queue:lease')" 0"#)
            .await
            == leases
    })
    .await;
    clients.shutdown().await;
    let lost = assert_all_told(&shop, &confirmed).await;
    assert_eq!(lost, 0, "an event of a gateway that lives was adopted");
    assert_eq!(
        names(&redis).await,
        copies,
        "a gateway has taken another id"
    );
}
