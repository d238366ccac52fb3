//! Limits of an address and of a subject, which count for all gateways: each tells the others of those
//! that have much of their share.
//!
//! A place is given at once, without a question to Redis. So the count can be off by what others do not
//! tell, and by what was given since they told: see docs/cluster.md.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::LazyLock, time::Duration};

use redis::Script;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::AppState;
use crate::{
    cluster::{Away, Cluster},
    limits::{AddressKey, Quotas, Subject},
};

/// Writes the counts of this gateway, and reads those of the others.
static EXCHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits.lua")));

/// Interval at which gateways tell one another.
const EXCHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum size of the counts of one gateway, in bytes: of 10,000 addresses with connections, as many with
/// sessions, and 10,000 subjects.
const COUNTS_BYTES: usize = 2 * 1024 * 1024;

/// Places on one gateway.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    connections: Vec<(IpAddr, usize)>,
    sessions: Vec<(IpAddr, usize)>,
    sockets: Vec<(Subject, usize)>,
}

impl Counts {
    fn of(quotas: &Quotas) -> Self {
        let by_address = |counts: Vec<(AddressKey, usize)>| {
            let counts = counts.into_iter();
            counts
                .map(|(address, count)| (address.into(), count))
                .collect()
        };
        Self {
            connections: by_address(quotas.connections.crowded()),
            sessions: by_address(quotas.sessions.crowded()),
            sockets: quotas.sockets.crowded(),
        }
    }

    /// Has `quotas` count what all others have told.
    fn apply(all: Vec<Self>, quotas: &Quotas) {
        let (mut connections, mut sessions, mut sockets) = Default::default();
        for one in all {
            add(&mut connections, by_key(one.connections));
            add(&mut sessions, by_key(one.sessions));
            add(&mut sockets, one.sockets);
        }
        quotas.connections.set_elsewhere(connections);
        quotas.sessions.set_elsewhere(sessions);
        quotas.sockets.set_elsewhere(sockets);
    }
}

fn by_key(counts: Vec<(IpAddr, usize)>) -> Vec<(AddressKey, usize)> {
    let counts = counts.into_iter();
    counts
        .map(|(address, count)| (address.into(), count))
        .collect()
}

fn add<K: Eq + Hash>(sum: &mut HashMap<K, usize>, counts: Vec<(K, usize)>) {
    for (owner, count) in counts {
        let known = sum.entry(owner).or_default();
        *known = known.saturating_add(count);
    }
}

impl AppState {
    /// Exchanges counts with other gateways; never returns if there are several. While Redis is away, the
    /// last counts are valid for the time of a lease, and then each gateway counts alone.
    pub(crate) async fn share_limits(&self) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let mut told_at = Instant::now();
        loop {
            match exchange(cluster, &self.transport.quotas).await {
                Ok(()) => told_at = Instant::now(),
                Err(Away) if told_at.elapsed() >= cluster.lease() => {
                    Counts::apply(Vec::new(), &self.transport.quotas);
                }
                Err(Away) => {}
            }
            sleep(EXCHANGE_INTERVAL).await;
        }
    }
}

async fn exchange(cluster: &Cluster, quotas: &Quotas) -> Result<(), Away> {
    let link = cluster.link()?;
    let id = cluster.leases().borrow().clone().ok_or(Away)?;
    // Addresses, texts and numbers are always JSON.
    let counts = serde_json::to_string(&Counts::of(quotas)).unwrap_or_default();
    let mut script = EXCHANGE.key(cluster.register());
    script
        .arg(&*id)
        .arg(cluster.name("limits:"))
        .arg(&counts)
        .arg(u64::try_from(cluster.lease().as_millis()).unwrap_or(u64::MAX));
    let most = COUNTS_BYTES * cluster.other_gateways().len();
    let reading = link.invoke(&script, counts.len());
    let others: Vec<String> = cluster.read(&cluster.name(""), most, reading).await?;
    let others = others.iter().map(|counts| serde_json::from_str(counts));
    let others = others.filter_map(|counts| {
        counts
            .inspect_err(|error| {
                tracing::error!("counts of another gateway cannot be read: {error}")
            })
            .ok()
    });
    Counts::apply(others.collect(), quotas);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{cluster::testing, config::Limits};

    async fn gateway(settings: &crate::config::ClusterSettings) -> (Arc<Cluster>, Quotas) {
        let cluster = testing::connected(settings).await;
        let lease = cluster.clone();
        tokio::spawn(async move { lease.keep_lease().await });
        let mut leases = cluster.leases();
        let leased = leases.wait_for(Option::is_some).await;
        leased.expect("a lease");
        let limits = Limits {
            sockets_per_subject: 3,
            sessions_per_address: 3,
            ..Limits::default()
        };
        (cluster, Quotas::new(&limits))
    }

    #[tokio::test]
    #[ignore = "needs redis-server"]
    async fn a_share_is_that_of_all_gateways_with_a_lease() {
        let settings = testing::settings();
        let (here, quotas) = gateway(&settings).await;
        let (there, others) = gateway(&settings).await;
        let alice: Subject = ("issuer".into(), "alice".into());
        let address = AddressKey::from(IpAddr::from([10, 0, 0, 1]));
        let mut kept = Vec::new();
        for _ in 0..2 {
            kept.push(
                others
                    .sockets
                    .acquire(Some(alice.clone()))
                    .expect("a place"),
            );
        }
        let sessions = [(); 3].map(|()| others.sessions.acquire(Some(address)));
        assert!(sessions.iter().all(Result::is_ok));
        exchange(&there, &others).await.expect("Redis");
        exchange(&here, &quotas).await.expect("Redis");
        let third = quotas.sockets.acquire(Some(alice.clone()));
        assert!(third.is_ok(), "two of three are there");
        let fourth = quotas.sockets.acquire(Some(alice.clone()));
        assert!(fourth.is_err(), "all three are taken");
        assert!(quotas.sessions.acquire(Some(address)).is_err());
        let other_address = AddressKey::from(IpAddr::from([10, 0, 0, 2]));
        assert!(quotas.sessions.acquire(Some(other_address)).is_ok());
        // A gateway without a lease counts no more.
        there.end_lease(Duration::from_secs(60)).await;
        exchange(&here, &quotas).await.expect("Redis");
        let fourth = quotas.sockets.acquire(Some(alice));
        assert!(fourth.is_ok(), "they are not there any more");
        assert!(quotas.sessions.acquire(Some(address)).is_ok());
    }

    #[tokio::test]
    #[ignore = "needs redis-server"]
    async fn a_full_redis_takes_counts() {
        let server = testing::OwnServer::start().await;
        let (cluster, quotas) = gateway(&server.settings()).await;
        let mut fill = redis::cmd("CONFIG");
        fill.arg("SET").arg("maxmemory").arg(1);
        let link = cluster.link().expect("a connection");
        assert_eq!(link.query::<String>(&fill).await.as_deref(), Ok("OK"));
        assert_eq!(exchange(&cluster, &quotas).await, Ok(()));
    }
}
