//! The driver of the Redis server that several gateways share: one connection that comes back by
//! itself, requests that are pipelined and bounded, and channels that are subscribed to again.
//!
//! The modules that use the driver decide what the keys and messages mean.
//!
//! Every loss and every return of the connection begins a new *generation*: an odd one while Redis
//! is connected, an even one while it is away. A message or an answer of an odd generation comes
//! from one server over one connection, in the order in which that server made it.

mod channels;
mod connect;
mod link;
mod nodes;
mod requests;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::sleep,
};

use self::{channels::Channels, nodes::Registration, requests::Requests};
pub use self::{
    channels::Listener,
    link::Link,
    nodes::name_of,
    requests::{Handler, MAXIMUM_ANSWER_BYTES, Replies},
};
use crate::{
    config::{ClusterSettings, WhileAway},
    limits::Budget,
    metrics::Metrics,
};

/// The first wait before Redis is connected to again. It doubles with each failure.
const MINIMUM_PAUSE: Duration = Duration::from_millis(50);

/// The longest such wait: a server that has returned is connected within it.
const MAXIMUM_PAUSE: Duration = Duration::from_secs(1);

/// Maximum size of the answers of all reads under way, in KiB. Redis closes a connection with
/// subscriptions when 8 MiB wait in its output buffer for a minute, or 32 MiB at any moment
/// (`client-output-buffer-limit pubsub`). Published messages need the rest.
const READ_KIB: u32 = 6 * 1024;

/// Redis cannot be reached, did not answer in time, or refused the request. The request may have been
/// carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis cannot be reached")]
pub struct Away;

/// The Redis server that this gateway shares with others.
pub struct Cluster {
    settings: ClusterSettings,
    info: ConnectionInfo,
    /// The PEM text of `cluster.ca_file`.
    root_certificates: Option<Vec<u8>>,
    metrics: Arc<Metrics>,
    link: watch::Sender<Option<Arc<Link>>>,
    generation: AtomicU64,
    channels: Arc<Channels>,
    pending: Arc<Budget>,
    /// The free part of [`READ_KIB`].
    reads: Semaphore,
    registration: Registration,
    requests: Requests,
}

impl Cluster {
    /// Prepares the connection that the settings name; `None` when they name none. Nothing is
    /// connected until [`Self::run`].
    ///
    /// # Errors
    ///
    /// When the URL, the password or the certificates cannot be used.
    pub fn new(
        settings: &ClusterSettings,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        if !settings.is_on() {
            return Ok(None);
        }
        let info = settings.url.as_str().into_connection_info();
        // The error could repeat the URL.
        let info = info.map_err(|_| anyhow::anyhow!("cluster.url is no URL of a Redis server"))?;
        let redis = info.redis_settings().clone();
        let info = info.set_redis_settings(redis.set_protocol(ProtocolVersion::RESP3));
        settings.password().context("cluster.password_file")?;
        let ca_file = Some(&settings.ca_file).filter(|file| !file.as_os_str().is_empty());
        let root_certificates = ca_file.map(std::fs::read).transpose();
        let cluster = Self {
            settings: settings.clone(),
            info,
            root_certificates: root_certificates.context("cluster.ca_file")?,
            metrics: metrics.clone(),
            link: watch::Sender::new(None),
            generation: AtomicU64::new(0),
            channels: Arc::default(),
            pending: Budget::new(settings.pending_bytes),
            reads: Semaphore::new(READ_KIB as usize),
            registration: Registration::new(&settings.gateway),
            requests: Requests::default(),
        };
        cluster.client()?;
        Ok(Some(Arc::new(cluster)))
    }

    /// Connects, and connects again whenever the connection is lost; never returns.
    pub async fn run(&self) {
        let (mut pause, mut is_reported) = (MINIMUM_PAUSE, false);
        loop {
            match self.connect().await {
                Ok(link) => {
                    (pause, is_reported) = (MINIMUM_PAUSE, false);
                    tracing::info!("Redis is connected");
                    let reason = self.serve(&link).await;
                    self.disconnect();
                    tracing::warn!("the connection to Redis is lost: {reason}");
                }
                Err(error) if !std::mem::replace(&mut is_reported, true) => {
                    tracing::warn!("cannot connect to Redis: {error:#}; trying again");
                }
                Err(error) => tracing::debug!("cannot connect to Redis: {error:#}"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAXIMUM_PAUSE);
        }
    }

    /// Whether Redis is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Waits until Redis is connected.
    pub async fn connected(&self) {
        // The sender lives as long as this.
        let _ = self.link.subscribe().wait_for(Option::is_some).await;
    }

    /// Returns the connection.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn link(&self) -> Result<Arc<Link>, Away> {
        self.link.borrow().clone().ok_or(Away)
    }

    /// Returns the even generation in which whatever is made here alone belongs: it precedes
    /// everything that comes from the connection, if there is one.
    #[must_use]
    pub fn generation_alone(&self) -> u64 {
        self.generation.load(Ordering::Acquire) & !1
    }

    /// Returns the maximum time that Redis may take to answer.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.settings.timeout()
    }

    /// Returns the time after which a gateway that Redis has not heard of is dead.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.settings.lease()
    }

    /// Whether a generation is one of a connection.
    #[must_use]
    pub fn is_shared(generation: u64) -> bool {
        generation % 2 == 1
    }

    /// Whether publishes go on while Redis is away.
    #[must_use]
    pub fn goes_on_alone(&self) -> bool {
        self.settings.while_away == WhileAway::Local
    }

    /// Returns the name of a key or a channel.
    #[must_use]
    pub fn name(&self, rest: &str) -> String {
        format!("{}:{rest}", self.settings.prefix)
    }

    /// Waits until an answer of at most `bytes` bytes fits among those of the reads under way. The permit
    /// is held until the answer has arrived.
    pub async fn permit_read(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(READ_KIB);
        // The semaphore is never closed.
        self.reads.acquire_many(kib.clamp(1, READ_KIB)).await.ok()
    }

    /// Subscribes to a channel, in this and every later connection, and waits until the subscription
    /// is confirmed. A channel has one listener: the last one.
    ///
    /// # Errors
    ///
    /// When it is not confirmed in time. It is confirmed later, and then the listener is resumed.
    pub async fn listen(&self, channel: &str, listener: Weak<dyn Listener>) -> Result<(), Away> {
        let confirmed = self.channels.insert(channel, listener);
        match confirmed {
            None => Ok(()),
            Some(_) if !self.is_connected() => Err(Away),
            Some(confirmed) => {
                let confirmed = tokio::time::timeout(self.settings.timeout(), confirmed).await;
                confirmed.map_err(|_| Away)?.map_err(|_| Away)
            }
        }
    }

    /// Ends the subscription of a listener, if it is still the channel's.
    pub fn ignore(&self, channel: &str, listener: &Weak<dyn Listener>) {
        self.channels.remove(channel, listener);
    }

    fn client(&self) -> anyhow::Result<Client> {
        let mut info = self.info.clone();
        if let Some(password) = self.settings.password()? {
            let redis = info.redis_settings().clone();
            info = info.set_redis_settings(redis.set_password(&*password));
        }
        let client = match self.settings.has_tls() {
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
mod tests;
