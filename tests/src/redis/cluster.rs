//! A Redis Cluster for one test.

use futures_util::future::join_all;

use super::Redis;
use crate::{eventually, free_address};

/// Time after which a server that does not answer has failed, in milliseconds.
const NODE_TIMEOUT_MS: u32 = 1000;

/// Number of slots of a Redis Cluster.
const SLOTS: usize = 16384;

/// A Redis Cluster on loopback: some primaries, each with as many slots as another, and replicas.
pub struct RedisCluster {
    /// The primaries, and then the replicas in the same order.
    pub nodes: Vec<Redis>,
    primaries: usize,
}

impl RedisCluster {
    /// Starts `primaries` primaries without a replica, or with one each.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(primaries: usize, with_replicas: bool) -> Self {
        let number = if with_replicas {
            2 * primaries
        } else {
            primaries
        };
        let nodes = join_all((0..number).map(|_| async {
            let address = free_address();
            let (_, bus_port) = address.rsplit_once(':').expect("a host and a port");
            let options = [
                ("--cluster-enabled", "yes".to_owned()),
                ("--cluster-port", bus_port.to_owned()),
                ("--cluster-node-timeout", NODE_TIMEOUT_MS.to_string()),
                ("--cluster-require-full-coverage", "no".to_owned()),
                ("--repl-diskless-sync-delay", "0".to_owned()),
            ];
            let options = options.into_iter();
            let options = options.flat_map(|(name, value)| [name.to_owned(), value]);
            (
                Redis::start_with(options.collect()).await,
                bus_port.to_owned(),
            )
        }))
        .await;
        let (nodes, bus_ports): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
        let cluster = Self { nodes, primaries };
        cluster.join(&bus_ports).await;
        cluster
    }

    /// The URL of the cluster, with all its nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// Returns the number of the primary that has the slot of `key` from the beginning.
    pub async fn node_of(&self, key: &str) -> usize {
        let slot = self.slot_of(key).await;
        (0..self.primaries)
            .find(|node| self.slots(*node).contains(&slot))
            .expect("a primary")
    }

    /// Returns the slot of a key.
    ///
    /// # Panics
    ///
    /// When the first node does not answer.
    pub async fn slot_of(&self, key: &str) -> usize {
        let answer = self.nodes[0]
            .command(&format!("CLUSTER KEYSLOT {key}"))
            .await;
        let slot = answer.strip_prefix(':').expect("a number");
        slot.parse().expect("a slot")
    }

    /// Returns the id of a node.
    pub async fn id_of(&self, node: usize) -> String {
        let answer = self.nodes[node].text("CLUSTER MYID").await;
        answer.lines().nth(1).expect("an id").to_owned()
    }

    /// Begins to move the slot of `key` from one primary to another: its keys are moved one at a time.
    pub async fn begin_move(&self, key: &str, (from, to): (usize, usize)) {
        let slot = self.slot_of(key).await;
        let (source, target) = (self.id_of(from).await, self.id_of(to).await);
        self.must(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}"))
            .await;
        self.must(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}"))
            .await;
    }

    /// Moves the keys of a slot, which [`Self::begin_move`] has begun to move, and ends the move.
    pub async fn finish_move(&self, key: &str, (from, to): (usize, usize)) {
        let slot = self.slot_of(key).await;
        let address = self.nodes[to].address();
        let (host, port) = address.rsplit_once(':').expect("a host and a port");
        let keys = self.nodes[from]
            .text(&format!("CLUSTER GETKEYSINSLOT {slot} 100"))
            .await;
        let lines = keys
            .lines()
            .filter(|line| !line.starts_with(['*', '$', '+']));
        for name in lines {
            let name = name.replace('"', "\\\"");
            self.must(from, &format!("MIGRATE {host} {port} \"{name}\" 0 5000"))
                .await;
        }
        let target = self.id_of(to).await;
        for node in [to, from] {
            self.must(node, &format!("CLUSTER SETSLOT {slot} NODE {target}"))
                .await;
        }
    }

    async fn must(&self, node: usize, command: &str) {
        let answer = self.nodes[node].command(command).await;
        assert!(answer == "+OK" || answer == "+NOKEY", "{command}: {answer}");
    }

    fn slots(&self, primary: usize) -> std::ops::Range<usize> {
        primary * SLOTS / self.primaries..(primary + 1) * SLOTS / self.primaries
    }

    /// Makes one cluster of the nodes.
    async fn join(&self, bus_ports: &[String]) {
        for node in 0..self.primaries {
            let slots = self.slots(node);
            let (first, last) = (slots.start, slots.end - 1);
            self.must(node, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"))
                .await;
            self.must(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", node + 1))
                .await;
        }
        for (node, bus_port) in self.nodes.iter().zip(bus_ports).skip(1) {
            let (host, port) = node.address().rsplit_once(':').expect("a host and a port");
            self.must(0, &format!("CLUSTER MEET {host} {port} {bus_port}"))
                .await;
        }
        for node in self.primaries..self.nodes.len() {
            let primary = self.id_of(node - self.primaries).await;
            eventually("a node that knows its primary", async || {
                let command = format!("CLUSTER REPLICATE {primary}");
                self.nodes[node].command(&command).await == "+OK"
            })
            .await;
        }
        for (number, node) in self.nodes.iter().enumerate() {
            eventually("a cluster that is complete", async || {
                let info = node.text("CLUSTER INFO").await;
                let known = format!("cluster_known_nodes:{}\r", self.nodes.len());
                let is_linked = number < self.primaries
                    || node
                        .text("INFO replication")
                        .await
                        .contains("master_link_status:up");
                info.contains("cluster_state:ok") && info.contains(&known) && is_linked
            })
            .await;
        }
    }
}
