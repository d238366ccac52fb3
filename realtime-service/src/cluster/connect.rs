//! Connecting to Redis, and noticing the loss of the connection.

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use redis::{
    AsyncConnectionConfig, PushInfo, PushKind, Script, Value, aio::MultiplexedConnection, cmd,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Cluster, Link};
use crate::ids::random_id;

/// Interval at which the gateway checks that the server answers and still has its data.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the incarnation and the tenure of the server.
static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("begin.lua")));

impl Cluster {
    /// Connects, subscribes to all channels, and then publishes the connection for use. A failed attempt
    /// uses its generation up: messages of its connection may have been dispatched already.
    pub(super) async fn connect(&self) -> anyhow::Result<Arc<Link>> {
        let attempt = self.attempt().await;
        if attempt.is_err() {
            self.generation.fetch_add(2, Ordering::AcqRel);
            self.channels.end();
        }
        attempt
    }

    async fn attempt(&self) -> anyhow::Result<Arc<Link>> {
        let limit = self.settings.timeout();
        let generation = self.generation.load(Ordering::Acquire) + 1;
        let lost = CancellationToken::new();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(limit))
            .set_push_sender(self.receiver(generation, lost.clone()));
        let connecting = timeout(limit, self.open(config)).await;
        let mut connection = connecting.context("no answer in time")??;
        let server: String = cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await?;
        let run_id = server.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run_id = run_id.context("INFO names no run_id")?.trim();
        let mut begin = BEGIN.key(self.incarnation_key());
        begin.key(self.name("tenure"));
        begin.arg(run_id).arg(random_id());
        let (incarnation, tenure) = begin.invoke_async(&mut connection).await?;
        let link = Arc::new(Link {
            tenure,
            incarnation,
            connection,
            generation,
            lost,
            pending: self.pending.clone(),
            metrics: self.metrics.clone(),
        });
        self.channels.begin(generation);
        self.channels.synchronize(&link).await?;
        self.generation.store(generation, Ordering::Release);
        self.link.send_replace(Some(link.clone()));
        self.metrics.cluster_connected(true);
        self.channels.resume_all(generation);
        Ok(link)
    }

    /// Opens a connection to the server.
    async fn open(&self, config: AsyncConnectionConfig) -> anyhow::Result<MultiplexedConnection> {
        #[cfg(test)]
        if let Some(server) = &self.simulated {
            return server.connect(self.info.redis_settings(), config).await;
        }
        let client = self.client()?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        Ok(connecting.await?)
    }

    /// Keeps the connection until it is lost, and returns the reason.
    pub(super) async fn serve(&self, link: &Link) -> String {
        tokio::select! {
            // In one order, so that a simulation replays from its seed.
            biased;
            () = link.lost.cancelled() => "it was closed".to_owned(),
            reason = self.watch(link) => reason,
            reason = self.channels.maintain(link) => reason,
        }
    }

    /// Begins the generation without a connection.
    pub(super) fn disconnect(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.link.send_replace(None);
        self.metrics.cluster_connected(false);
        self.channels.end();
    }

    /// Asks for the server's incarnation again and again. Another one, or none, means that all data was
    /// deleted: then everything begins anew, as after a loss.
    async fn watch(&self, link: &Link) -> String {
        let mut get = cmd("GET");
        get.arg(self.incarnation_key());
        loop {
            sleep(HEARTBEAT_INTERVAL).await;
            let answer: Result<Option<String>, _> =
                get.query_async(&mut link.connection.clone()).await;
            match answer {
                Ok(Some(incarnation)) if incarnation == link.incarnation => {}
                Ok(_) => return "its data was deleted".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Returns the function that the connection calls with each push message, in their order.
    fn receiver(
        &self,
        generation: u64,
        lost: CancellationToken,
    ) -> impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static {
        let channels = self.channels.clone();
        move |push| {
            match (push.kind, &*push.data) {
                (PushKind::Message, [Value::BulkString(channel), Value::BulkString(payload)]) => {
                    channels.dispatch(channel, payload, generation)
                }
                (PushKind::Disconnection, _) => lost.cancel(),
                _ => {}
            }
            Ok(())
        }
    }

    fn incarnation_key(&self) -> String {
        self.name("incarnation")
    }
}
