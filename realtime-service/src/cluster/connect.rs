//! Connecting to a server of Redis, and noticing the loss of the connection.

use std::{
    sync::{Arc, LazyLock, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use redis::{RedisResult, Script, cmd};
use shared_claims::redis_servers::Deployment;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Link,
    channels::Channels,
    connection::{Connection, Limits, Receiver, is_unanswered},
    link::is_of_moving_slot,
    sentinel,
    shard::{Anchor, Shard},
    silence::Silence,
    terms::Terms,
};
use crate::ids::random_id;

/// Interval at which the gateway checks that the server answers and still has its data.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the incarnation and the tenure of the server.
static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("begin.lua")));

/// Returns the tenure of a shard.
static ANCHOR: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("anchor.lua")));

impl Shard {
    /// Connects, subscribes to all channels, and then publishes the connection for use. A failed attempt
    /// uses its generation up: messages of its connection may have been dispatched already.
    pub(super) async fn connect(&self) -> anyhow::Result<Arc<Link>> {
        let attempt = self.attempt().await;
        if attempt.is_err() {
            let generation = self.terms.generations.next_alone();
            self.generation.store(generation, Ordering::Release);
            self.channels.end();
        }
        attempt
    }

    async fn attempt(&self) -> anyhow::Result<Arc<Link>> {
        let generation = self.terms.generations.next_shared();
        let lost = CancellationToken::new();
        let address = self.current_address().await?;
        let mut connection = self.open(&address, generation, &lost).await?;
        // A server ends subscriptions to slots that move, which looks like the confirmation of a request: no
        // other request may wait there.
        let subscriptions = match self.terms.is_sharded() {
            true => self.open(&address, generation, &lost).await?,
            false => connection.clone(),
        };
        let run = read_run(&mut connection).await?;
        let (incarnation, tenure) = self.begin(&mut connection, &run).await?;
        let link = Arc::new(Link {
            terms: self.terms.clone(),
            connection,
            subscriptions,
            address: address.into(),
            generation,
            tenure,
            former_tenures: "".into(),
            incarnation,
            run,
            lost,
            silence: Arc::new(Silence::new()),
        });
        self.channels.begin(generation);
        self.channels.synchronize(&link).await?;
        self.generation.store(generation, Ordering::Release);
        self.link.send_replace(Some(link.clone()));
        self.terms.metrics.cluster_connection();
        self.terms.connections_changed.notify_one();
        self.channels.resume_all(generation);
        Ok(link)
    }

    async fn current_address(&self) -> anyhow::Result<String> {
        match (&self.address, &self.terms.servers.deployment) {
            (Some(address), _) => Ok(address.clone()),
            (None, Deployment::Sentinel { primary }) => {
                sentinel::primary(&self.terms, primary).await
            }
            (None, _) => Ok(self.terms.servers.addresses[0].clone()),
        }
    }

    async fn open(
        &self,
        address: &str,
        generation: u64,
        lost: &CancellationToken,
    ) -> anyhow::Result<Connection> {
        let limit = self.terms.settings.timeout();
        let receiver = Subscriptions {
            terms: self.terms.clone(),
            channels: self.channels.clone(),
            generation,
            lost: lost.clone(),
        };
        let limits = Limits {
            timeout: limit,
            unread_bytes: self.terms.settings.pending_bytes,
        };
        let client = self.terms.client(address)?;
        let info = client.get_connection_info();
        #[cfg(test)]
        if let Some(server) = &self.terms.simulated {
            let connecting = server.connect(info.redis_settings(), receiver, limits);
            let connected = timeout(limit, connecting).await;
            return connected.context("no answer in time")?;
        }
        let root_certificates = self.terms.root_certificates.as_deref();
        let connecting = Connection::open(info, root_certificates, receiver, limits);
        let connected = timeout(limit, connecting).await;
        connected.context("no answer in time")?
    }

    /// Returns the incarnation and the tenure of the server.
    async fn begin(
        &self,
        connection: &mut Connection,
        run: &str,
    ) -> anyhow::Result<(Arc<str>, Arc<str>)> {
        if self.terms.is_sharded() {
            let anchor = self.anchor().context("the shard has no slots")?;
            let tenure = hold_anchor(connection, &anchor, run, "").await?;
            // Deleted data takes the key of the tenure with it.
            return Ok((tenure.clone(), tenure));
        }
        let mut begin = BEGIN.key(self.terms.name("incarnation"));
        begin.key(self.terms.name("tenure"));
        begin.arg(run).arg(random_id());
        let (incarnation, tenure): (String, String) = begin.invoke_async(connection).await?;
        Ok((incarnation.into(), tenure.into()))
    }

    /// Keeps the connection until it is lost, and returns the reason.
    pub(super) async fn serve(&self, link: &Link) -> String {
        tokio::select! {
            // In one order, so that a simulation replays from its seed.
            biased;
            () = link.lost.cancelled() => link.loss(),
            reason = self.watch(link) => reason,
            reason = self.channels.maintain(link) => reason,
            () = self.until_replaced(link) => "another server is the primary".to_owned(),
        }
    }

    /// Waits until the sentinels name another primary; for ever without sentinels.
    async fn until_replaced(&self, link: &Link) {
        match &self.terms.servers.deployment {
            Deployment::Sentinel { primary } => {
                sentinel::until_replaced(&self.terms, primary, &link.address).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Asks for the server's incarnation again and again. Another one, or none, means that all data was
    /// deleted: then everything begins anew, as after a loss.
    async fn watch(&self, link: &Link) -> String {
        let (mut held, incarnation) = (self.anchor(), self.terms.name("incarnation"));
        loop {
            sleep(HEARTBEAT_INTERVAL).await;
            let anchor = self.anchor();
            let mut connection = link.connection.clone();
            let waiting = link.silence.wait();
            let answer: RedisResult<Option<String>> = match &anchor {
                // The highest slot is another one now.
                Some(anchor) if Some(anchor) != held.as_ref() => {
                    let (run, tenure) = (&link.run, &link.tenure);
                    let answer = hold_anchor(&mut connection, anchor, run, tenure).await;
                    answer.map(|tenure| Some(tenure.to_string()))
                }
                Some(anchor) => {
                    cmd("GET")
                        .arg(&anchor.key)
                        .query_async(&mut connection)
                        .await
                }
                None => {
                    cmd("GET")
                        .arg(&incarnation)
                        .query_async(&mut connection)
                        .await
                }
            };
            match &answer {
                Err(error) if is_unanswered(error) => drop(waiting),
                _ => waiting.answer(),
            }
            match answer {
                Ok(Some(incarnation)) if *incarnation == *link.incarnation => held = anchor,
                Ok(_) => return "its data was deleted".to_owned(),
                Err(error) if is_of_moving_slot(&error) => self.terms.map_outdated.notify_one(),
                Err(error) => return error.to_string(),
            }
            match read_run(&mut connection).await {
                Ok(run) if run == link.run => {}
                Ok(_) => return "it was a replica, or became one".to_owned(),
                Err(error) => return format!("{error:#}"),
            }
            match self.channels.check(link).await {
                Ok(true) => self.terms.map_outdated.notify_one(),
                Ok(false) => {}
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Takes the push messages of one connection.
struct Subscriptions {
    terms: Arc<Terms>,
    channels: Arc<Channels>,
    generation: u64,
    lost: CancellationToken,
}

impl Receiver for Subscriptions {
    fn receive(&self, parts: &[&[u8]]) {
        let generation = self.generation;
        match *parts {
            [b"message" | b"smessage", channel, payload] => {
                self.channels.dispatch(channel, payload, generation);
            }
            [b"ssubscribe", channel, ..] => self.channels.note_subscribed(channel, generation),
            [b"sunsubscribe", channel, ..] => {
                let is_unasked = self.channels.note_unsubscribed(channel, generation);
                if is_unasked {
                    // The slot has another shard.
                    self.terms.map_outdated.notify_one();
                }
            }
            _ => {}
        }
    }

    fn end(&self) {
        self.lost.cancel();
    }
}

/// Returns a text that stands for the server's process for as long as it is a primary. A replica that becomes one
/// keeps the replication id of its former primary as its second one. It may have got older data there than it had as a
/// primary before.
async fn read_run(connection: &mut Connection) -> anyhow::Result<Arc<str>> {
    let mut info = cmd("INFO");
    info.arg("server").arg("replication");
    let info: String = info.query_async(connection).await?;
    let value = |name: &str| {
        let mut lines = info.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim)
    };
    let run_id = value("run_id").context("INFO names no run_id")?;
    let followed = value("master_replid2").context("INFO names no master_replid2")?;
    Ok(format!("{run_id}:{followed}").into())
}

/// Returns the tenure of a shard by its key; where that is none of this run, it becomes `tenure`, or
/// another one.
async fn hold_anchor(
    connection: &mut Connection,
    anchor: &Anchor,
    run: &str,
    tenure: &str,
) -> RedisResult<Arc<str>> {
    let mut hold = ANCHOR.key(&anchor.key);
    hold.arg(run).arg(random_id()).arg(tenure);
    let tenure: String = hold.invoke_async(connection).await?;
    Ok(tenure.into())
}
