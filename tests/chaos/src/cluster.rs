//! The cluster of a run: three gateways, Redis, and the proxies between all of them. Faults are done to
//! it here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    plan::{Event, Fault, GATEWAYS, Harm},
    ports::free_address,
    processes::Process,
    proxy::Proxy,
    shards::Shards,
    tokens::Issuer,
};

/// Time over which a gateway that is sent SIGTERM hands its clients over.
pub(crate) const DRAIN_WINDOW: Duration = Duration::from_secs(10);
/// Maximum time between the end of that and the end of the process.
const DRAIN_GRACE: Duration = Duration::from_secs(20);

/// Value of the gateway's limits on connections, which no run reaches.
const UNLIMITED: &str = "200000";

/// A gateway and the ways to it.
pub(crate) struct Gateway {
    /// Address of its listener for clients, without a proxy.
    pub(crate) direct: SocketAddr,
    /// Address of its listener for back ends.
    pub(crate) api: SocketAddr,
    /// Address that clients use.
    pub(crate) public: SocketAddr,
    process: Process,
    to_clients: Proxy,
    /// A proxy for each server of Redis, with the number of its shard.
    to_redis: Vec<(usize, Proxy)>,
}

/// The processes and proxies.
pub(crate) struct Cluster {
    /// The gateways.
    pub(crate) gateways: Vec<Gateway>,
    /// The Redis servers.
    pub(crate) shards: Shards,
}

/// Parts that all gateways share.
struct Common<'a> {
    program: &'a Path,
    folder: &'a Path,
    issuer: &'a Issuer,
    /// Path of the file of settings.
    settings: String,
}

impl Cluster {
    /// Starts everything, with a single Redis server or a Redis Cluster. Events of clients named `chaos:**`
    /// are stored for the back end at `back_end`.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        issuer: &Issuer,
        (is_cluster, back_end): (bool, SocketAddr),
    ) -> anyhow::Result<Self> {
        let shards = Shards::start(is_cluster, folder).await?;
        let common = Common {
            program,
            folder,
            issuer,
            settings: write_settings(folder, back_end)?,
        };
        let mut gateways = Vec::new();
        for number in 0..GATEWAYS {
            gateways.push(Gateway::start(number, &common, &shards).await?);
        }
        Ok(Self { gateways, shards })
    }

    /// Does a fault, waits for its length, and mends the cluster.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start again, or Redis does not answer.
    pub(crate) async fn suffer(&self, event: Event) -> anyhow::Result<()> {
        let length = event.length;
        match event.fault {
            Fault::KillGateway(number) => self.gateways[number].process.be_dead_for(length).await,
            Fault::Redis(shard, fault) => {
                let lead = |address| {
                    for gateway in &self.gateways {
                        gateway.lead_to_redis(address);
                    }
                };
                self.shards.suffer((shard, fault), length, lead).await
            }
            Fault::ReplaceGateway(number) => {
                let limit = DRAIN_WINDOW + DRAIN_GRACE;
                self.gateways[number].process.replace(limit).await
            }
            Fault::PauseGateway(number) => {
                self.gateways[number].process.be_paused_for(length).await;
                Ok(())
            }
            Fault::ToRedis(number, shard, harm) => {
                self.gateways[number].be_harmed(shard, harm, length).await;
                Ok(())
            }
            Fault::ToClients(number, harm) => {
                let proxy = &self.gateways[number].to_clients;
                proxy.harm(harm);
                sleep(length).await;
                proxy.mend();
                Ok(())
            }
        }
    }

    /// Returns the processes that ended by themselves, each with the end of its log.
    pub(crate) async fn ended(&self) -> Vec<String> {
        let mut ended = Vec::new();
        let gateways = self.gateways.iter().map(|gateway| &gateway.process);
        for process in gateways.chain(self.shards.processes()) {
            ended.extend(process.ended().await);
        }
        ended
    }
}

impl Gateway {
    async fn start(number: usize, common: &Common<'_>, shards: &Shards) -> anyhow::Result<Self> {
        let to_redis = proxies_to_redis(number, shards).await?;
        let (direct, api) = (free_address()?, free_address()?);
        let servers: Vec<_> = to_redis
            .iter()
            .map(|(_, it)| it.address.to_string())
            .collect();
        let scheme = match shards.is_cluster() {
            true => "redis+cluster",
            false => "redis",
        };
        let file = |name: &str| {
            let path = common.folder.join(format!("{name}-{number}"));
            path.display().to_string()
        };
        let mut variables = common_variables(common.issuer);
        variables.extend([
            ("REALTIME__LISTEN", direct.to_string()),
            ("REALTIME__API__LISTEN", api.to_string()),
            (
                "REALTIME__CLUSTER__URL",
                format!("{scheme}://{}", servers.join(",")),
            ),
            ("REALTIME__REVOCATIONS__FILE", file("revocations")),
            ("REALTIME__WEBHOOKS__FILE", file("webhooks")),
        ]);
        let variables = variables.into_iter();
        let process = Process::new(
            &format!("gateway-{number}"),
            common.program,
            vec!["--config".to_owned(), common.settings.clone()],
            variables
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            common.folder,
            direct,
        );
        process.start().await?;
        let to_clients = Proxy::start(direct).await?;
        Ok(Self {
            direct,
            api,
            public: to_clients.address,
            process,
            to_clients,
            to_redis,
        })
    }

    /// Leads new connections to another Redis server.
    fn lead_to_redis(&self, address: SocketAddr) {
        if let [(_, proxy)] = &self.to_redis[..] {
            proxy.lead_to(address);
        }
    }

    /// Harms the connections to a shard, or all shards, and mends them after `length`.
    async fn be_harmed(&self, shard: Option<usize>, harm: Harm, length: Duration) {
        let proxies = || {
            let all = self.to_redis.iter();
            let harmed = all.filter(move |(of, _)| shard.is_none_or(|shard| shard == *of));
            harmed.map(|(_, proxy)| proxy)
        };
        proxies().for_each(|proxy| proxy.harm(harm));
        sleep(length).await;
        proxies().for_each(Proxy::mend);
    }
}

/// Starts the proxies between a gateway and Redis. Those to a Redis Cluster have a host of their own for each
/// gateway, and the port of the server that they lead to: a gateway finds the proxy to a server from the
/// port.
async fn proxies_to_redis(number: usize, shards: &Shards) -> anyhow::Result<Vec<(usize, Proxy)>> {
    let mut proxies = Vec::new();
    for (shard, server) in shards.addresses() {
        let address = match shards.is_cluster() {
            true => {
                let host = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number as u32);
                (host, server.port()).into()
            }
            false => (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let proxy = Proxy::start_for_redis(address, server).await;
        let proxy = proxy.with_context(|| format!("a proxy at {address}"))?;
        proxies.push((shard, proxy));
    }
    Ok(proxies)
}

/// The settings that all gateways share and a variable can hold.
fn common_variables(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("RUST_LOG", "warn".to_owned()),
        ("LATCHKEY_SECRET", issuer.secret.clone()),
        ("REALTIME__ISSUER", issuer.url.clone()),
        // A run of ten minutes fits, so that a gap inside of an epoch would be a loss.
        ("REALTIME__HISTORY__MESSAGES", "10000".to_owned()),
        (
            "REALTIME__DRAIN__WINDOW_SECS",
            DRAIN_WINDOW.as_secs().to_string(),
        ),
        ("REALTIME__HEARTBEAT__INTERVAL_SECS", "5".to_owned()),
        ("REALTIME__HEARTBEAT__TIMEOUT_SECS", "5".to_owned()),
    ];
    let unlimited = [
        "REALTIME__LIMITS__CONNECTIONS",
        "REALTIME__LIMITS__CONNECTIONS_PER_ADDRESS",
        "REALTIME__LIMITS__SESSIONS",
        "REALTIME__LIMITS__SESSIONS_PER_ADDRESS",
        // Clients of revoked sessions try again and again.
        "REALTIME__LIMITS__REFUSALS_PER_ADDRESS",
        "REALTIME__API__REQUESTS_PER_SEC",
        "REALTIME__API__REQUESTS_BURST",
    ];
    variables.extend(unlimited.map(|name| (name, UNLIMITED.to_owned())));
    variables
}

/// Writes the settings that no variable can hold, and returns the path of the file.
fn write_settings(folder: &Path, back_end: SocketAddr) -> anyhow::Result<String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("no random bytes")?;
    let secret = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("whsec_{}", STANDARD.encode(secret))
    };
    let secret_file = folder.join("back-end-secret");
    std::fs::write(&secret_file, secret).context("the secret of the back end")?;
    let text = format!(
        "[[backends]]\nname = \"chaos\"\nurl = \"http://localhost:{}/events\"\nsecret_file = {}\n\n\
         [[events]]\nevents = [\"chaos:**\"]\nbackend = \"chaos\"\nmode = \"notify\"\n",
        back_end.port(),
        json!(secret_file),
    );
    let path = folder.join("gateway.toml");
    std::fs::write(&path, text).context("the settings of the gateways")?;
    Ok(path.display().to_string())
}
