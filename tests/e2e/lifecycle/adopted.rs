//! Gateways of a cluster are lost with their disks, and another one sends what they owe.

use std::time::Duration;

use harness::{Redis, Stack, eventually};
use tokio::task::JoinSet;

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
        .gateway("cluster.lease_secs", 3);
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
        for _ in 0..CLIENTS {
            let chance = Chance(chances.below(u64::MAX));
            let (address, issuer) = (gateway.address, stack.forge());
            clients.spawn(keep_busy(address, issuer, confirmed.clone(), chance));
        }
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
