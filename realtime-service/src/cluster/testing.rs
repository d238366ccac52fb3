//! The Redis server of the tests, which `tests/redis` starts.

use std::sync::Arc;

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
