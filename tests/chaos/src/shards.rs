//! The Redis servers of a run: a single server, or a Redis Cluster of three shards, each with a replica.
//! Faults of the servers are done here.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use crate::{
    plan::RedisFault,
    ports::free_address,
    processes::{Process, command, redis},
};

/// Number of shards of a Redis Cluster.
const SHARDS: usize = 3;
/// Number of slots of a Redis Cluster.
const SLOTS: usize = 16384;
/// Time after which the other servers replace a primary that does not answer, in milliseconds.
const NODE_TIMEOUT_MS: u32 = 2000;
/// Maximum time until a replica is a primary, and until servers agree on their cluster.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(20);
/// Time after which Redis gives `CLUSTER FAILOVER` up, and a bit.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(6);
/// Maximum number of times that it is sent.
const SWITCH_ATTEMPTS: u32 = 4;
/// Asks a server for its role.
const REPLICATION: &str = "INFO replication";
/// Role of a primary in the answer.
const PRIMARY: &str = "role:master";
/// Interval between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// A Redis server.
struct Server {
    process: Process,
    address: SocketAddr,
}

/// A primary and its replica. Which one is the primary changes.
struct Shard {
    servers: [Server; 2],
    /// Held during a fault: the shard suffers one at a time.
    turn: Mutex<()>,
}

/// The shards: one for a single server.
pub(crate) struct Shards {
    shards: Vec<Shard>,
    is_cluster: bool,
}

impl Shards {
    /// Starts the servers of a Redis Cluster, or a single server and its replica.
    ///
    /// # Errors
    ///
    /// Returns an error if a server does not start, or the servers do not agree on a cluster in time.
    pub(crate) async fn start(is_cluster: bool, folder: &Path) -> anyhow::Result<Self> {
        let count = if is_cluster { SHARDS } else { 1 };
        let (mut shards, mut bus_ports) = (Vec::new(), Vec::new());
        for shard in 0..count {
            let mut server = async |number: usize| {
                let (address, bus) = (free_address()?, free_address()?.port());
                let number = shard + number * count;
                let options = match is_cluster {
                    true => cluster_options(number, bus),
                    false => Vec::new(),
                };
                let process = redis(number, folder, address, &options);
                process.start().await?;
                bus_ports.push((address, bus));
                anyhow::Ok(Server { process, address })
            };
            shards.push(Shard {
                servers: [server(0).await?, server(1).await?],
                turn: Mutex::default(),
            });
        }
        let this = Self { shards, is_cluster };
        match is_cluster {
            true => this.form_cluster(&bus_ports).await?,
            false => {
                let [primary, replica] = &this.shards[0].servers;
                must(replica.address, &replica_of(primary.address)).await?;
            }
        }
        Ok(this)
    }

    /// Whether the servers are a Redis Cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Number of shards.
    pub(crate) fn count(&self) -> usize {
        self.shards.len()
    }

    /// Returns the addresses that clients connect to, each with the number of its shard: all servers of a
    /// Redis Cluster, and the primary of a single server.
    pub(crate) fn addresses(&self) -> Vec<(usize, SocketAddr)> {
        let used = if self.is_cluster { 2 } else { 1 };
        let shards = self.shards.iter().enumerate();
        let all = shards.flat_map(|(number, shard)| {
            let servers = shard.servers.iter().take(used);
            servers.map(move |server| (number, server.address))
        });
        all.collect()
    }

    /// Returns the processes.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        let servers = self.shards.iter().flat_map(|shard| &shard.servers);
        servers.map(|server| &server.process)
    }

    /// Returns the primary of a shard.
    ///
    /// # Errors
    ///
    /// Returns an error if no server says in time that it is the primary.
    pub(crate) async fn primary(&self, shard: usize) -> anyhow::Result<&Process> {
        Ok(&self.shards[shard].roles().await?.0.process)
    }

    /// Does a fault to a shard, waits for `length`, and mends it. `lead` gets the address of the new primary
    /// of a single server.
    ///
    /// # Errors
    ///
    /// Returns an error if a server does not start again, or does not do its part in time.
    pub(crate) async fn suffer(
        &self,
        (shard, fault): (usize, RedisFault),
        length: Duration,
        lead: impl Fn(SocketAddr),
    ) -> anyhow::Result<()> {
        let shard = &self.shards[shard];
        let _turn = shard.turn.lock().await;
        let (primary, replica) = shard.roles().await?;
        match fault {
            RedisFault::Kill => primary.process.be_dead_for(length).await,
            RedisFault::Pause => {
                primary.process.be_paused_for(length).await;
                Ok(())
            }
            RedisFault::Flush => must(primary.address, "FLUSHALL").await,
            RedisFault::FailOver => {
                primary.process.kill().await;
                let promoted = match self.is_cluster {
                    // The other shards decide.
                    true => until_primary(replica.address).await,
                    false => must(replica.address, "REPLICAOF NO ONE").await,
                };
                lead(replica.address);
                sleep(length).await;
                primary.process.start().await?;
                promoted?;
                self.follow(primary, replica).await
            }
            RedisFault::SwitchOver if self.is_cluster => switch_over(replica.address).await,
            RedisFault::SwitchOver => {
                must(replica.address, "REPLICAOF NO ONE").await?;
                lead(replica.address);
                self.follow(primary, replica).await
            }
        }
    }

    /// Makes `server` the replica of `primary`, unless the servers of a Redis Cluster do so themselves.
    async fn follow(&self, server: &Server, primary: &Server) -> anyhow::Result<()> {
        match self.is_cluster {
            true => Ok(()),
            false => must(server.address, &replica_of(primary.address)).await,
        }
    }

    /// Makes one cluster of all servers. `bus_ports` has the address and the bus port of each.
    async fn form_cluster(&self, bus_ports: &[(SocketAddr, u16)]) -> anyhow::Result<()> {
        for (number, shard) in self.shards.iter().enumerate() {
            let address = shard.servers[0].address;
            let (first, end) = (number * SLOTS / SHARDS, (number + 1) * SLOTS / SHARDS);
            let last = end - 1;
            must(address, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await?;
            must(address, &format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await?;
        }
        let first = self.shards[0].servers[0].address;
        for (address, bus) in bus_ports.iter().filter(|(address, _)| *address != first) {
            let (host, port) = (address.ip(), address.port());
            must(first, &format!("CLUSTER MEET {host} {port} {bus}")).await?;
        }
        for shard in &self.shards {
            let [primary, replica] = &shard.servers;
            let id = command(primary.address, "CLUSTER MYID").await?;
            let line = format!("CLUSTER REPLICATE {id}");
            until(replica.address, &line, |answer| answer == "+OK").await?;
        }
        let known = format!("cluster_known_nodes:{}\r", bus_ports.len());
        for (address, _) in bus_ports {
            let is_complete =
                |info: &str| info.contains("cluster_state:ok") && info.contains(&known);
            until(*address, "CLUSTER INFO", is_complete).await?;
            let is_linked = |info: &str| !info.contains("master_link_status:down");
            until(*address, REPLICATION, is_linked).await?;
        }
        Ok(())
    }
}

impl Shard {
    /// Returns the primary and the replica.
    async fn roles(&self) -> anyhow::Result<(&Server, &Server)> {
        let begin = Instant::now();
        loop {
            for (server, other) in [(0, 1), (1, 0)] {
                let info = command(self.servers[server].address, REPLICATION).await;
                if info.is_ok_and(|info| info.contains(PRIMARY)) {
                    return Ok((&self.servers[server], &self.servers[other]));
                }
            }
            ensure!(
                begin.elapsed() < AGREEMENT_TIMEOUT,
                "a shard has no primary"
            );
            sleep(PAUSE).await;
        }
    }
}

/// Options of a server of a Redis Cluster. `CLUSTER SLOTS` names ports and no hosts, so that each gateway
/// reaches all servers at the host that it was given, which has its proxies.
fn cluster_options(number: usize, bus_port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("cluster-enabled", "yes".to_owned()),
        ("cluster-config-file", format!("nodes-{number}.conf")),
        ("cluster-port", bus_port.to_string()),
        ("cluster-node-timeout", NODE_TIMEOUT_MS.to_string()),
        ("cluster-require-full-coverage", "no".to_owned()),
        ("cluster-replica-validity-factor", "0".to_owned()),
        (
            "cluster-preferred-endpoint-type",
            "unknown-endpoint".to_owned(),
        ),
    ]
}

/// Has a replica of a Redis Cluster and its primary change places. The other shards vote on it; when too few
/// do, it is tried again.
async fn switch_over(replica: SocketAddr) -> anyhow::Result<()> {
    // Refused while the replica has no connection to its primary, and when it is the primary.
    let is_begun = |answer: &str| answer == "+OK" || answer.contains("to a replica");
    for _ in 1..SWITCH_ATTEMPTS {
        until(replica, "CLUSTER FAILOVER", is_begun).await?;
        if let Ok(done) = timeout(SWITCH_TIMEOUT, until_primary(replica)).await {
            return done;
        }
    }
    until(replica, "CLUSTER FAILOVER", is_begun).await?;
    until_primary(replica).await
}

async fn until_primary(server: SocketAddr) -> anyhow::Result<()> {
    until(server, REPLICATION, |info| info.contains(PRIMARY)).await
}

/// Sends a command until its answer is as it should be.
async fn until(
    server: SocketAddr,
    line: &str,
    is_right: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let answer = command(server, line).await?;
        if is_right(&answer) {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < AGREEMENT_TIMEOUT,
            "{line} was answered {answer} for too long"
        );
        sleep(PAUSE).await;
    }
}

/// Sends a command that is answered with `OK`.
async fn must(server: SocketAddr, line: &str) -> anyhow::Result<()> {
    let answer = command(server, line).await;
    let answer = answer.with_context(|| format!("Redis at {server}"))?;
    ensure!(answer == "+OK", "{line} was answered {answer}");
    Ok(())
}

fn replica_of(primary: SocketAddr) -> String {
    format!("REPLICAOF {} {}", primary.ip(), primary.port())
}
