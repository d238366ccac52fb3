//! The map of a Redis Cluster: which server has which slots.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use futures_util::future::join_all;
use redis::{AsyncConnectionConfig, Value, aio::ConnectionLike, cmd, from_redis_value};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{Cluster, connection::greeting_error, routes::SlotMap, sentinel::join, shard::Shard};

/// Interval at which the map is read while nothing says that it is outdated, and while a shard is not
/// connected.
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_AWAY: Duration = Duration::from_millis(500);

/// Minimum time between two reads of the map.
const MINIMUM_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of servers that are asked, of those that are not connected.
const MOST_ASKED: usize = 16;

/// The map as one server knows it.
struct Answer {
    /// The greatest epoch of the cluster's configuration that the server knows.
    epoch: u64,
    map: SlotMap,
    /// The replicas, which may become primaries.
    replicas: Vec<String>,
}

/// The tasks of the shards.
#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    handles: HashMap<String, AbortHandle>,
}

impl Tasks {
    fn start(&mut self, shard: Arc<Shard>) {
        let address = shard.address.clone().unwrap_or_default();
        let handle = self.running.spawn(async move { shard.run().await });
        self.handles.insert(address, handle);
    }

    fn stop(&mut self, shard: &Shard) {
        let address = shard.address.clone().unwrap_or_default();
        if let Some(handle) = self.handles.remove(&address) {
            handle.abort();
        }
        shard.disconnect();
    }
}

impl Cluster {
    /// Follows the map of the cluster, and keeps a connection to each shard; never returns.
    pub(super) async fn follow_map(&self) {
        let (mut tasks, mut is_reported) = (Tasks::default(), false);
        let mut others = Vec::new();
        loop {
            match self.read_map(&others).await {
                Ok(answer) => {
                    is_reported = false;
                    others = answer.replicas;
                    others.extend(answer.map.iter().map(|(address, _)| address.clone()));
                    let (new, gone) = self.routes.apply(&answer.map);
                    for shard in &gone {
                        tasks.stop(shard);
                    }
                    new.into_iter().for_each(|shard| tasks.start(shard));
                    self.map_version.send_modify(|version| *version += 1);
                    self.terms.connections_changed.notify_one();
                }
                Err(error) if !std::mem::replace(&mut is_reported, true) => {
                    tracing::warn!("cannot read the slots of the Redis Cluster: {error:#}");
                }
                Err(error) => tracing::debug!("cannot read the slots: {error:#}"),
            }
            let interval = match self.is_connected() {
                true => INTERVAL,
                false => INTERVAL_AWAY,
            };
            sleep(MINIMUM_INTERVAL).await;
            // The time is up, or somebody has seen an outdated map.
            let _ = timeout(interval, self.terms.map_outdated.notified()).await;
        }
    }

    /// Reads the map from all servers that are connected, or else from those of the settings and `others`.
    /// The newest one counts.
    async fn read_map(&self, others: &[String]) -> anyhow::Result<Answer> {
        let links = self.routes.shards().into_iter();
        let links: Vec<_> = links.filter_map(|shard| shard.link().ok()).collect();
        let answers = links
            .iter()
            .map(|link| ask(link.connection.clone(), &link.address));
        let mut answers: Vec<_> = join_all(answers).await;
        if answers.iter().all(Result::is_err) {
            let seeds = self.terms.servers.addresses.iter().chain(others);
            let asked = seeds.take(MOST_ASKED).map(|address| self.ask_at(address));
            answers = join_all(asked).await;
        }
        let mut problem = None;
        let mut newest: Option<Answer> = None;
        for answer in answers {
            match answer {
                Ok(answer) if newest.as_ref().is_none_or(|it| it.epoch < answer.epoch) => {
                    newest = Some(answer);
                }
                Ok(_) => {}
                Err(error) => problem = Some(error),
            }
        }
        newest.ok_or_else(|| problem.unwrap_or_else(|| anyhow::anyhow!("no server")))
    }

    async fn ask_at(&self, address: &str) -> anyhow::Result<Answer> {
        let limit = self.terms.settings.timeout();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(limit));
        let client = self.terms.client(address)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(limit, connecting).await;
        let connection = connection.context("no answer in time")?;
        ask(connection.map_err(greeting_error)?, address).await
    }
}

/// Asks one server for its map.
async fn ask(mut connection: impl ConnectionLike, address: &str) -> anyhow::Result<Answer> {
    let mut info = cmd("CLUSTER");
    let info: String = info.arg("INFO").query_async(&mut connection).await?;
    let epoch = info
        .lines()
        .find_map(|line| line.strip_prefix("cluster_current_epoch:"));
    let epoch = epoch.and_then(|epoch| epoch.trim().parse().ok());
    let mut slots = cmd("CLUSTER");
    let slots: Vec<Vec<Value>> = slots.arg("SLOTS").query_async(&mut connection).await?;
    let (map, replicas) = parse(slots, address).context("CLUSTER SLOTS has another form")?;
    anyhow::ensure!(
        !map.is_empty(),
        "the server is in no cluster that has slots"
    );
    Ok(Answer {
        epoch: epoch.context("CLUSTER INFO names no epoch")?,
        map,
        replicas,
    })
}

/// Reads an answer of `CLUSTER SLOTS`: the slots of each primary, and the replicas. A server that does not
/// know its own name is the one that was asked, at `address`.
fn parse(slots: Vec<Vec<Value>>, address: &str) -> Option<(SlotMap, Vec<String>)> {
    let (mut map, mut replicas) = (SlotMap::new(), Vec::new());
    for entry in slots {
        let mut values = entry.into_iter();
        let first: u16 = from_redis_value(values.next()?).ok()?;
        let last: u16 = from_redis_value(values.next()?).ok()?;
        let primary = node(values.next()?, address)?;
        replicas.extend(values.filter_map(|value| node(value, address)));
        let range = first..=last.min(super::slots::SLOTS - 1);
        match map.iter_mut().find(|(known, _)| *known == primary) {
            Some((_, ranges)) => ranges.push(range),
            None => map.push((primary, vec![range])),
        }
    }
    Some((map, replicas))
}

fn node(value: Value, asked: &str) -> Option<String> {
    let Value::Array(values) = value else {
        return None;
    };
    let mut values = values.into_iter();
    let host: Option<String> = from_redis_value(values.next()?).ok()?;
    let port: u16 = from_redis_value(values.next()?).ok()?;
    match host.filter(|host| !host.is_empty() && host != "?") {
        Some(host) => Some(join(&host, port)),
        None => {
            let (host, _) = asked.rsplit_once(':')?;
            Some(format!("{host}:{port}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn server(host: Value, port: i64) -> Value {
        Value::Array(vec![
            host,
            Value::Int(port),
            text("id"),
            Value::Array(vec![]),
        ])
    }

    #[test]
    fn the_slots_of_a_primary_belong_together_and_a_server_without_a_name_was_asked() {
        let entry = |first, last, servers: Vec<Value>| {
            let mut entry = vec![Value::Int(first), Value::Int(last)];
            entry.extend(servers);
            entry
        };
        let slots = vec![
            entry(0, 99, vec![server(text("a"), 1), server(text("::1"), 2)]),
            entry(100, 199, vec![server(Value::Nil, 3), server(text(""), 4)]),
            entry(200, 16383, vec![server(text("a"), 1)]),
        ];
        let (map, replicas) = parse(slots, "asked:9").expect("a map");
        let expected: SlotMap = vec![
            ("a:1".to_owned(), vec![0..=99, 200..=16383]),
            ("asked:3".to_owned(), vec![100..=199]),
        ];
        assert_eq!(map, expected);
        assert_eq!(replicas, ["[::1]:2", "asked:4"]);
        assert!(parse(vec![vec![Value::Int(1)]], "asked:9").is_none());
    }
}
