//! The Redis server and the Redis Cluster of the tests, which `tests/redis` starts, and a simulated server.

mod own_server;
mod simulated;

use std::sync::Arc;

use tokio::task::AbortHandle;

pub(crate) use self::{
    own_server::OwnServer,
    simulated::{Harm, SimulatedRedis},
};
use super::{Cluster, terms::Terms};
use crate::{config::ClusterSettings, ids::random_id, metrics::Metrics};

/// The variables that name the server and the Redis Cluster.
const SERVER_VARIABLE: &str = "LATCHKEY_TEST_REDIS";
const CLUSTER_VARIABLE: &str = "LATCHKEY_TEST_REDIS_CLUSTER";

/// Settings of gateways that share keys of their own on one server.
pub(crate) fn settings() -> ClusterSettings {
    settings_of(SERVER_VARIABLE)
}

/// Settings of gateways that share keys of their own in a Redis Cluster.
pub(crate) fn settings_of_cluster() -> ClusterSettings {
    settings_of(CLUSTER_VARIABLE)
}

fn settings_of(variable: &str) -> ClusterSettings {
    ClusterSettings {
        url: std::env::var(variable).expect("a server; see tests/redis"),
        prefix: format!("test-{}", random_id()),
        ..ClusterSettings::default()
    }
}

/// A gateway's connection to the cluster of `settings`, which is there already.
pub(crate) async fn connected(settings: &ClusterSettings) -> Arc<Cluster> {
    let cluster = Cluster::new(settings, &Arc::new(Metrics::new()));
    let cluster = cluster.expect("settings").expect("a cluster");
    let running = cluster.clone();
    tokio::spawn(async move { running.run().await });
    while !cluster.is_connected() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    cluster
}

/// A gateway's connection to a simulated server, over a network that the server harms.
/// Whoever has the handle ends it.
pub(crate) fn simulated(server: &Arc<SimulatedRedis>) -> (Arc<Cluster>, AbortHandle) {
    let settings = ClusterSettings {
        url: "redis://127.0.0.1".to_owned(),
        ..ClusterSettings::default()
    };
    let mut terms = Terms::new(&settings, &Arc::new(Metrics::new())).expect("settings");
    terms.simulated = Some(server.clone());
    let cluster = Arc::new(Cluster::around(terms));
    let running = cluster.clone();
    let running = tokio::spawn(async move { running.run().await });
    (cluster, running.abort_handle())
}

/// Ends the use of the connection to the shard of a name for good.
pub(crate) fn lose_shard(cluster: &Cluster, name: &str) {
    cluster.routes.find(name).shard.disconnect();
}

/// Ends the use of the connections to all other shards for good.
pub(crate) fn lose_other_shards(cluster: &Cluster, name: &str) {
    let kept = cluster.routes.find(name).shard;
    let shards = cluster.routes.shards().into_iter();
    let others = shards.filter(|shard| !Arc::ptr_eq(shard, &kept));
    others.for_each(|shard| shard.disconnect());
}

/// Deletes keys of one server, and the key by which gateways notice that all its data was deleted.
pub(crate) async fn delete(cluster: &Cluster, keys: &[String]) {
    let Ok(link) = cluster.link_of(&keys[0]) else {
        return;
    };
    let anchor = cluster.routes.find(&keys[0]).shard.anchor();
    let sign = anchor.map_or_else(|| cluster.name("incarnation"), |anchor| anchor.key);
    for names in [keys, &[sign]] {
        let mut delete = redis::cmd("DEL");
        delete.arg(names);
        // The connection may be lost at any moment.
        let _: Result<i64, _> = link.query(&delete).await;
    }
}
