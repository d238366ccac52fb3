//! Parts that all connections of the cluster share: the settings, the clients made of them, and the
//! numbers of the generations.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use redis::{Client, IntoConnectionInfo, ProtocolVersion, TlsCertificates};
use shared_claims::redis_servers::{Deployment, RedisServers};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::{config::ClusterSettings, limits::Budget, metrics::Metrics};

/// Parts that all connections of the cluster share.
pub(super) struct Terms {
    pub(super) settings: ClusterSettings,
    pub(super) servers: RedisServers,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pending: Arc<Budget>,
    pub(super) generations: Generations,
    /// Notified when a shard was connected, or its connection was lost.
    pub(super) connections_changed: Notify,
    /// Notified when the slots may have other servers than the map of the cluster says.
    pub(super) map_outdated: Notify,
    /// The PEM text of `cluster.ca_file`.
    pub(super) root_certificates: Option<Vec<u8>>,
    /// The server of a simulation, in place of the one at the URL.
    #[cfg(test)]
    pub(super) simulated: Option<Arc<super::testing::SimulatedRedis>>,
}

/// The numbers of the generations of all shards. Each is greater than all before it.
#[derive(Default)]
pub(super) struct Generations(AtomicU64);

impl Generations {
    /// Returns the next generation of a connection, which is odd.
    pub(super) fn next_shared(&self) -> u64 {
        self.next(|last| last + 1 + last % 2)
    }

    /// Returns the next generation without a connection, which is even.
    pub(super) fn next_alone(&self) -> u64 {
        self.next(|last| last + 2 - last % 2)
    }

    fn next(&self, after: impl Fn(u64) -> u64) -> u64 {
        let mut last = self.0.load(Ordering::Acquire);
        loop {
            let next = after(last);
            let ordering = (Ordering::AcqRel, Ordering::Acquire);
            match self
                .0
                .compare_exchange_weak(last, next, ordering.0, ordering.1)
            {
                Ok(_) => return next,
                Err(other) => last = other,
            }
        }
    }
}

impl Terms {
    /// # Errors
    ///
    /// When the URL, a password or the certificates cannot be used.
    pub(super) fn new(settings: &ClusterSettings, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let servers = settings.servers();
        let servers = servers.context("cluster.url is no URL of Redis servers")?;
        settings.password().context("cluster.password_file")?;
        let sentinel_password = settings.sentinel_password();
        sentinel_password.context("cluster.sentinel_password_file")?;
        let ca_file = Some(&settings.ca_file).filter(|file| !file.as_os_str().is_empty());
        let root_certificates = ca_file.map(std::fs::read).transpose();
        let terms = Self {
            settings: settings.clone(),
            servers,
            metrics: metrics.clone(),
            pending: Budget::new(settings.pending_bytes),
            generations: Generations::default(),
            connections_changed: Notify::new(),
            map_outdated: Notify::new(),
            root_certificates: root_certificates.context("cluster.ca_file")?,
            #[cfg(test)]
            simulated: None,
        };
        terms.client(&terms.servers.addresses[0])?;
        Ok(terms)
    }

    /// Whether the server is a Redis Cluster.
    pub(super) fn is_sharded(&self) -> bool {
        self.servers.deployment == Deployment::Cluster
    }

    /// Returns the name of a key or a channel. In a Redis Cluster, names without a text in braces have
    /// the same slot: that of a text in braces that no room has.
    pub(super) fn name(&self, rest: &str) -> String {
        let prefix = &self.settings.prefix;
        match self.is_sharded() && !rest.starts_with('{') {
            true => format!("{prefix}:{{{prefix}:}}:{rest}"),
            false => [prefix, ":", rest].concat(),
        }
    }

    /// Returns a client of the server with data at `address`.
    pub(super) fn client(&self, address: &str) -> anyhow::Result<Client> {
        self.open(&self.servers.url_of(address), self.settings.password()?)
    }

    /// Returns a client of the sentinel at `address`.
    pub(super) fn client_of_sentinel(&self, address: &str) -> anyhow::Result<Client> {
        let password = self.settings.sentinel_password()?;
        self.open(&self.servers.url_of_sentinel(address), password)
    }

    fn open(&self, url: &str, password: Option<Zeroizing<String>>) -> anyhow::Result<Client> {
        let info = url.into_connection_info();
        // The error could repeat the URL.
        let info = info.map_err(|_| anyhow::anyhow!("cluster.url is no URL of Redis servers"))?;
        let mut redis = info.redis_settings().clone();
        redis = redis.set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = password {
            redis = redis.set_password(&*password);
        }
        let info = info.set_redis_settings(redis);
        let client = match self.servers.has_tls() {
            true => Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: None,
                    root_cert: self.root_certificates.clone(),
                },
            ),
            false => Client::open(info),
        };
        client.context("cluster.url")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_is_greater_than_all_before_it() {
        let generations = Generations::default();
        assert_eq!(generations.next_shared(), 1);
        assert_eq!(generations.next_shared(), 3);
        assert_eq!(generations.next_alone(), 4);
        assert_eq!(generations.next_alone(), 6);
        assert_eq!(generations.next_shared(), 7);
    }
}
