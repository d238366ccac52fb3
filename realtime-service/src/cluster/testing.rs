//! The Redis server of the tests, which `tests/redis` starts, and a simulated one.

mod simulated;

use std::sync::Arc;

use tokio::task::AbortHandle;

pub(crate) use self::simulated::{Harm, SimulatedRedis};
use super::Cluster;
use crate::{config::ClusterSettings, ids::random_id, metrics::Metrics};

/// The variable that names the server.
const SERVER_VARIABLE: &str = "LATCHKEY_TEST_REDIS";

/// Settings of a cluster of its own.
pub(crate) fn settings() -> ClusterSettings {
    ClusterSettings {
        url: std::env::var(SERVER_VARIABLE).expect("a server; see tests/redis"),
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
    cluster.connected().await;
    cluster
}

/// A gateway's connection to a simulated server, over a network that the server harms.
/// Whoever has the handle ends it.
pub(crate) fn simulated(server: &Arc<SimulatedRedis>) -> (Arc<Cluster>, AbortHandle) {
    let settings = ClusterSettings {
        url: "redis://127.0.0.1".to_owned(),
        ..ClusterSettings::default()
    };
    let cluster = Cluster::new(&settings, &Arc::new(Metrics::new()));
    let mut cluster = cluster.expect("settings").expect("a cluster");
    let unshared = Arc::get_mut(&mut cluster).expect("a cluster that nobody has yet");
    unshared.simulated = Some(server.clone());
    let running = cluster.clone();
    let running = tokio::spawn(async move { running.run().await });
    (cluster, running.abort_handle())
}
