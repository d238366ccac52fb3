//! Counters of attempts in Redis, which all issuers with one prefix share.
//!
//! A question is one script, so that no two issuers count on the same level. Keys are HMACs, and expire when
//! their counter is empty. A connection that fails a request is given up at once, and made anew by
//! [`RedisCounters::run`]; until a write succeeds there, every question is answered [`Away`] without a wait.

mod connection;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::{FromRedisValue, Script, ScriptInvocation};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use self::connection::{Connection, Connector};
use crate::{
    config::ClusterSettings,
    metrics::{ClusterOutcome, Metrics},
    store::{AttemptCounter, Level},
};

static COUNT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("count.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("read.lua")));
static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("give_back.lua")));

/// Maximum time of a new connection, its first write included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Interval at which a counter of its own proves that the server takes writes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The first wait before a new connection. It doubles until a connection has lasted for [`STABLE`].
const MINIMUM_PAUSE: Duration = Duration::from_millis(50);

/// The longest such wait: a server that has returned is used within it.
const MAXIMUM_PAUSE: Duration = Duration::from_secs(1);

/// Time after which a connection is taken for one that lasts.
const STABLE: Duration = Duration::from_secs(10);

/// Redis cannot be reached, did not answer in time, refused the request, or has too many to answer. The
/// request may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

/// The counters in Redis, and the connection to it.
pub(crate) struct RedisCounters {
    connector: Connector,
    prefix: String,
    limit: Duration,
    /// Places of requests that wait for Redis.
    places: Semaphore,
    state: watch::Sender<State>,
    connections: AtomicU64,
}

#[derive(Clone)]
enum State {
    /// The connection, and its number.
    Connected(Connection, u64),
    /// Reason that there is none.
    Away(String),
}

impl RedisCounters {
    /// Prepares the connection that the settings name; `None` when they name none. Nothing is connected
    /// until [`Self::run`].
    ///
    /// # Errors
    ///
    /// When the URL, a password or the certificates cannot be used.
    pub(crate) fn open(settings: &ClusterSettings) -> anyhow::Result<Option<Self>> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Self {
            connector: Connector::open(settings)?,
            prefix: settings.prefix.clone(),
            limit: settings.timeout(),
            places: Semaphore::new(settings.pending),
            state: watch::Sender::new(State::Away("not connected yet".to_owned())),
            connections: AtomicU64::new(0),
        }))
    }

    /// Returns whether the last write succeeded.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(&*self.state.borrow(), State::Connected(..))
    }

    /// Connects, and connects again whenever a request fails; never returns.
    pub(crate) async fn run(&self, metrics: &Metrics) {
        let (mut pause, mut is_reported) = (MINIMUM_PAUSE, false);
        loop {
            match self.connect().await {
                Ok(connection) => {
                    tracing::info!("Redis is connected: attempts are counted there");
                    metrics.cluster_connected(true);
                    let started = Instant::now();
                    let reason = self.serve(connection).await;
                    metrics.cluster_connected(false);
                    tracing::warn!("Redis is away, attempts are counted without it: {reason}");
                    is_reported = true;
                    if started.elapsed() >= STABLE {
                        pause = MINIMUM_PAUSE;
                    }
                }
                Err(error) if !std::mem::replace(&mut is_reported, true) => {
                    tracing::warn!("Redis is away, attempts are counted without it: {error:#}");
                }
                Err(error) => tracing::debug!("cannot connect to Redis: {error:#}"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAXIMUM_PAUSE);
        }
    }

    /// Returns a connection to a server that takes writes.
    async fn connect(&self) -> anyhow::Result<Connection> {
        let connecting = async {
            let mut connection = self.connector.connect().await?;
            let probed: Vec<(usize, i64)> = connection.invoke(&self.probe()).await?;
            anyhow::ensure!(probed.is_empty(), "it counts wrongly");
            anyhow::Ok(connection)
        };
        let connected = timeout(CONNECT_LIMIT, connecting).await;
        connected.context("no answer in time")?
    }

    /// Serves questions until one fails, and returns the reason.
    async fn serve(&self, connection: Connection) -> String {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        self.state
            .send_replace(State::Connected(connection, number));
        let probing = async {
            loop {
                sleep(PROBE_INTERVAL).await;
                // A failure changes the state.
                let _ = self.invoke::<Vec<(usize, i64)>>(&self.probe()).await;
            }
        };
        tokio::select! {
            reason = self.until_away() => reason,
            never = probing => never,
        }
    }

    /// Waits until there is no connection, and returns the reason.
    async fn until_away(&self) -> String {
        let mut state = self.state.subscribe();
        loop {
            if let State::Away(reason) = &*state.borrow_and_update() {
                return reason.clone();
            }
            // The sender lives as long as this.
            let _ = state.changed().await;
        }
    }

    /// Counts an attempt at each of the counters that has room for it. Returns the counters that had none,
    /// by their place, and their levels.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub(crate) async fn count(
        &self,
        counters: &[AttemptCounter],
        metrics: &Metrics,
    ) -> Result<Vec<(usize, Level)>, Away> {
        let mut count = self.on(&COUNT, counters);
        for counter in counters {
            count.arg(counter.step_ms).arg(counter.window_ms);
        }
        let full: Vec<(usize, i64)> = self.ask(&count, metrics).await?;
        Ok(levels(counters, &full))
    }

    /// Returns the levels of the counters that are not empty, by their place.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub(crate) async fn read(
        &self,
        counters: &[AttemptCounter],
        metrics: &Metrics,
    ) -> Result<Vec<(usize, Level)>, Away> {
        let found: Vec<(usize, i64)> = self.ask(&self.on(&READ, counters), metrics).await?;
        Ok(levels(counters, &found))
    }

    /// Takes an attempt back from each of the counters.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub(crate) async fn give_back(
        &self,
        counters: &[AttemptCounter],
        metrics: &Metrics,
    ) -> Result<(), Away> {
        let mut give_back = self.on(&GIVE_BACK, counters);
        for counter in counters {
            give_back.arg(counter.step_ms);
        }
        self.ask(&give_back, metrics).await
    }

    /// Returns the write of a counter that nobody reads.
    fn probe(&self) -> ScriptInvocation<'static> {
        let mut probe = COUNT.key(self.name("probe"));
        probe.arg(1).arg(60_000);
        probe
    }

    fn on(
        &self,
        script: &'static Script,
        counters: &[AttemptCounter],
    ) -> ScriptInvocation<'static> {
        let mut invocation = script.prepare_invoke();
        for counter in counters {
            invocation.key(self.name(&URL_SAFE_NO_PAD.encode(counter.key)));
        }
        invocation
    }

    /// Returns the name of a key. All have one slot of a Redis Cluster, as the keys of one script must.
    fn name(&self, rest: &str) -> String {
        format!("{}:auth:{{attempts}}:{rest}", self.prefix)
    }

    async fn ask<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
        metrics: &Metrics,
    ) -> Result<T, Away> {
        let Ok(_place) = self.places.try_acquire() else {
            metrics.cluster_request(ClusterOutcome::Refused);
            return Err(Away);
        };
        let answer = self.invoke(script).await;
        metrics.cluster_request(match answer {
            Ok(_) => ClusterOutcome::Answered,
            Err(Away) => ClusterOutcome::Failed,
        });
        answer
    }

    async fn invoke<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Away> {
        let state = self.state.borrow().clone();
        let State::Connected(mut connection, number) = state else {
            return Err(Away);
        };
        let reason = match timeout(self.limit, connection.invoke(script)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.state.send_if_modified(|state| {
            let is_own = matches!(state, State::Connected(_, other) if *other == number);
            if is_own {
                *state = State::Away(reason);
            }
            is_own
        });
        Err(Away)
    }
}

fn levels(counters: &[AttemptCounter], found: &[(usize, i64)]) -> Vec<(usize, Level)> {
    let level = |(place, empty_in_ms): &(usize, i64)| {
        let counter = counters.get(*place)?;
        Some((*place, counter.level(*empty_in_ms)))
    };
    found.iter().filter_map(level).collect()
}

#[cfg(test)]
mod tests;
