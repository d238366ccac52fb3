//! The driver of the Redis servers that several gateways share: one server, a primary that Sentinel names,
//! or the shards of a Redis Cluster. Each has a connection that comes back by itself, requests that are
//! pipelined and bounded, and channels that are subscribed to again.
//!
//! The modules that use the driver decide what the keys and messages mean.
//!
//! Every loss and every return of a connection begins a new *generation*: an odd one while the server
//! is connected, an even one while it is away. A message or an answer of an odd generation comes
//! from one server. Over one connection they come in the order in which that server made them; a shard of a
//! Redis Cluster has a second connection for its messages.

mod channels;
mod connect;
mod connection;
mod invocation;
mod link;
mod nodes;
mod requests;
mod routes;
mod sentinel;
mod shard;
mod silence;
mod slots;
mod terms;
#[cfg(test)]
pub(crate) mod testing;
mod topology;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use redis::FromRedisValue;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub use self::{
    channels::Listener,
    invocation::Invocation,
    link::Link,
    nodes::name_of,
    requests::{Handler, MAXIMUM_ANSWER_BYTES, Replies},
};
use self::{
    link::Failure, nodes::Registration, requests::Requests, routes::Routes, shard::Shard,
    terms::Terms,
};
use crate::{
    config::{ClusterSettings, WhileAway},
    metrics::Metrics,
};

/// The wait before a request is repeated whose slot moves to another shard.
const MOVING_PAUSE: Duration = Duration::from_millis(50);

/// Redis cannot be reached, did not answer in time, or refused the request. The request may have been
/// carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis cannot be reached")]
pub struct Away;

/// The Redis servers that this gateway shares with others.
pub struct Cluster {
    terms: Arc<Terms>,
    routes: Routes,
    /// Changes with each map of a Redis Cluster that was read.
    map_version: watch::Sender<u64>,
    registration: Registration,
    requests: Requests,
}

impl Cluster {
    /// Prepares the connections that the settings name; `None` when they name none. Nothing is
    /// connected until [`Self::run`].
    ///
    /// # Errors
    ///
    /// When the URL, a password or the certificates cannot be used.
    pub fn new(
        settings: &ClusterSettings,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self::around(Terms::new(settings, metrics)?))))
    }

    fn around(terms: Terms) -> Self {
        let terms = Arc::new(terms);
        Self {
            routes: Routes::new(&terms),
            map_version: watch::Sender::new(0),
            registration: Registration::new(&terms.settings.gateway),
            requests: Requests::default(),
            terms,
        }
    }

    /// Connects, and connects again whenever a connection is lost; never returns.
    pub async fn run(&self) {
        let connecting = async {
            match self.terms.is_sharded() {
                true => self.follow_map().await,
                false => self.home().run().await,
            }
        };
        let reporting = async {
            loop {
                let is_connected = self.is_connected();
                self.terms.metrics.cluster_connected(is_connected);
                self.terms.connections_changed.notified().await;
            }
        };
        tokio::join!(connecting, reporting);
    }

    /// Whether Redis is connected: all shards of a Redis Cluster, of which at least one is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let shards = self.routes.shards();
        !shards.is_empty() && shards.iter().all(|shard| shard.is_connected())
    }

    /// Whether the server of a key or a channel is connected.
    #[must_use]
    pub fn reaches(&self, name: &str) -> bool {
        self.routes.find(name).shard.is_connected()
    }

    /// Waits until the server is connected that has the names without a text in braces.
    pub async fn connected(&self) {
        self.connected_to(&self.name("")).await;
    }

    /// Waits until the server of a key or a channel is connected.
    pub async fn connected_to(&self, name: &str) {
        let mut version = self.map_version.subscribe();
        loop {
            let shard = self.routes.find(name).shard;
            tokio::select! {
                () = shard.connected() => return,
                // The sender lives as long as this.
                _ = version.changed() => {}
            }
        }
    }

    /// Returns the connection to the server that has the names without a text in braces.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn link(&self) -> Result<Arc<Link>, Away> {
        self.link_of(&self.name(""))
    }

    /// Returns the connection to the server of a key or a channel.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn link_of(&self, name: &str) -> Result<Arc<Link>, Away> {
        let route = self.routes.find(name);
        let link = route.shard.link()?;
        Ok(self.routes.link_of(&route, link))
    }

    /// Runs the script that `prepare` makes for a connection, on the server of `name`, and returns the
    /// generation of that connection too. `bytes` is the size of the arguments. While the slot of `name`
    /// moves to another shard the request waits, for as long as Redis may take to answer.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub async fn invoke<T: FromRedisValue>(
        &self,
        name: &str,
        bytes: usize,
        prepare: impl Fn(&Link) -> Invocation,
    ) -> Result<(T, u64), Away> {
        let deadline = Instant::now() + self.terms.settings.timeout();
        let mut link = self.link_of(name)?;
        let _charge = link.charge(bytes)?;
        loop {
            match link.evaluate(&prepare(&link)).await {
                Ok(answer) => return Ok((answer, link.generation())),
                Err(Failure::Moving) if Instant::now() < deadline => sleep(MOVING_PAUSE).await,
                Err(failure) => return Err(failure.into()),
            }
            link = self.link_of(name)?;
        }
    }

    /// Returns the even generation in which whatever is made here alone belongs of a room with the channel
    /// `name`: it precedes everything that comes from the connection, if there is one.
    #[must_use]
    pub fn generation_alone(&self, name: &str) -> u64 {
        let route = self.routes.find(name);
        route.shard.generation().max(route.floor) & !1
    }

    /// Returns the maximum time that Redis may take to answer.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.terms.settings.timeout()
    }

    /// Returns the time after which a gateway that Redis has not heard of is dead.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.terms.settings.lease()
    }

    /// Whether a generation is one of a connection.
    #[must_use]
    pub fn is_shared(generation: u64) -> bool {
        generation % 2 == 1
    }

    /// Whether publishes go on while Redis is away.
    #[must_use]
    pub fn goes_on_alone(&self) -> bool {
        self.terms.settings.while_away == WhileAway::Local
    }

    /// Whether messages and answers come over two connections, as in a Redis Cluster. Then their order says
    /// nothing.
    #[must_use]
    pub fn has_two_connections(&self) -> bool {
        self.terms.is_sharded()
    }

    /// Returns the name of a key or a channel. Names with the same text in braces at the beginning have the
    /// same server in a Redis Cluster, and so have all names without one.
    #[must_use]
    pub fn name(&self, rest: &str) -> String {
        self.terms.name(rest)
    }

    /// Waits until an answer of at most `bytes` bytes fits among those of the reads under way at the server
    /// of `name`, and then calls `read`.
    pub async fn read<T>(&self, name: &str, bytes: usize, read: impl Future<Output = T>) -> T {
        let shard = self.routes.find(name).shard;
        let _permit = shard.permit_read(bytes).await;
        read.await
    }

    /// Subscribes to a channel, in this and every later connection. The listener is the channel's when this
    /// returns, in place of the one before. The future waits until the subscription is confirmed.
    ///
    /// # Errors
    ///
    /// When it is not confirmed in time. It is confirmed later, and then the listener is resumed.
    pub fn listen(
        &self,
        channel: &str,
        listener: Weak<dyn Listener>,
    ) -> impl Future<Output = Result<(), Away>> + use<> {
        let limit = self.timeout();
        let (confirmed, is_connected) = self.routes.with(channel, |route| {
            let channels = &route.shard.channels;
            let confirmed = channels.insert(channel, listener, route.floor);
            (confirmed, route.shard.is_connected())
        });
        async move {
            match confirmed {
                None => Ok(()),
                Some(_) if !is_connected => Err(Away),
                Some(confirmed) => {
                    let confirmed = tokio::time::timeout(limit, confirmed);
                    confirmed.await.map_err(|_| Away)?.map_err(|_| Away)
                }
            }
        }
    }

    /// Ends the subscription of a listener, if it is still the channel's.
    pub fn ignore(&self, channel: &str, listener: &Weak<dyn Listener>) {
        self.routes.with(channel, |route| {
            route.shard.channels.remove(channel, listener);
        });
    }

    /// Returns the only server, or the one of the names without a text in braces.
    fn home(&self) -> Arc<Shard> {
        self.routes.find(&self.name("")).shard
    }
}

#[cfg(test)]
mod tests;
