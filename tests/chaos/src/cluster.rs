//! The cluster of a run: three gateways, a Redis server and its replica, and the proxies between all of
//! them. Faults are done to it here.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Context;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    plan::{Event, Fault, GATEWAYS},
    processes::{Process, command, redis},
    proxy::Proxy,
    tokens::Issuer,
};

/// Ports of processes, below those that the system gives to clients: a process that is started again
/// finds its port free.
const PORTS: std::ops::Range<u16> = 21_000..31_000;

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
    to_redis: Proxy,
}

/// The processes and proxies.
pub(crate) struct Cluster {
    /// The gateways.
    pub(crate) gateways: Vec<Gateway>,
    servers: [(Process, SocketAddr); 2],
    /// Index of the server that is the primary.
    primary: AtomicUsize,
}

impl Cluster {
    /// Starts everything. Events of clients named `chaos:**` are stored for the back end at `back_end`.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        issuer: &Issuer,
        back_end: SocketAddr,
    ) -> anyhow::Result<Self> {
        let addresses = (free_address()?, free_address()?);
        let servers = [
            (redis(0, folder, addresses.0), addresses.0),
            (redis(1, folder, addresses.1), addresses.1),
        ];
        for (server, _) in &servers {
            server.start().await?;
        }
        command(addresses.1, &replica_of(addresses.0)).await?;
        let settings = write_settings(folder, back_end)?;
        let mut gateways = Vec::new();
        for number in 0..GATEWAYS {
            let to_redis = Proxy::start_for_redis(addresses.0).await?;
            let (direct, api) = (free_address()?, free_address()?);
            let mut variables = common_variables(issuer);
            let file = |name: &str| {
                folder
                    .join(format!("{name}-{number}"))
                    .display()
                    .to_string()
            };
            variables.extend([
                ("REALTIME__LISTEN", direct.to_string()),
                ("REALTIME__API__LISTEN", api.to_string()),
                (
                    "REALTIME__CLUSTER__URL",
                    format!("redis://{}", to_redis.address),
                ),
                ("REALTIME__REVOCATIONS__FILE", file("revocations")),
                ("REALTIME__WEBHOOKS__FILE", file("webhooks")),
            ]);
            let variables = variables.into_iter();
            let variables = variables
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            let arguments = vec!["--config".to_owned(), settings.clone()];
            let name = format!("gateway-{number}");
            let process = Process::new(&name, program, arguments, variables, folder, direct);
            process.start().await?;
            let to_clients = Proxy::start(direct).await?;
            gateways.push(Gateway {
                direct,
                api,
                public: to_clients.address,
                process,
                to_clients,
                to_redis,
            });
        }
        Ok(Self {
            gateways,
            servers,
            primary: AtomicUsize::new(0),
        })
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
            Fault::KillRedis => self.primary().0.be_dead_for(length).await,
            Fault::ReplaceGateway(number) => {
                let limit = DRAIN_WINDOW + DRAIN_GRACE;
                self.gateways[number].process.replace(limit).await
            }
            Fault::PauseGateway(number) => {
                self.gateways[number].process.be_paused_for(length).await;
                Ok(())
            }
            Fault::PauseRedis => {
                self.primary().0.be_paused_for(length).await;
                Ok(())
            }
            Fault::FlushRedis => {
                let answer = command(self.primary().1, "FLUSHALL").await?;
                anyhow::ensure!(answer == "+OK", "FLUSHALL was answered {answer}");
                Ok(())
            }
            Fault::FailOver => {
                let former = self.primary();
                former.0.kill().await;
                self.promote_replica().await?;
                sleep(length).await;
                former.0.start().await?;
                self.follow_primary(former.1).await
            }
            Fault::SwitchOver => {
                let former = self.primary().1;
                self.promote_replica().await?;
                self.follow_primary(former).await
            }
            Fault::ToRedis(number, harm) => {
                let proxy = &self.gateways[number].to_redis;
                proxy.harm(harm);
                sleep(length).await;
                proxy.mend();
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
        let servers = self.servers.iter().map(|(process, _)| process);
        for process in gateways.chain(servers) {
            ended.extend(process.ended().await);
        }
        ended
    }

    fn primary(&self) -> &(Process, SocketAddr) {
        &self.servers[self.primary.load(Ordering::Relaxed)]
    }

    /// Makes the replica the primary, and leads new connections to it.
    async fn promote_replica(&self) -> anyhow::Result<()> {
        self.primary.fetch_xor(1, Ordering::Relaxed);
        let address = self.primary().1;
        let answer = command(address, "REPLICAOF NO ONE").await?;
        anyhow::ensure!(answer == "+OK", "REPLICAOF NO ONE was answered {answer}");
        for gateway in &self.gateways {
            gateway.to_redis.lead_to(address);
        }
        Ok(())
    }

    /// Makes a server the replica of the primary.
    async fn follow_primary(&self, address: SocketAddr) -> anyhow::Result<()> {
        let answer = command(address, &replica_of(self.primary().1)).await?;
        anyhow::ensure!(answer == "+OK", "REPLICAOF was answered {answer}");
        Ok(())
    }
}

fn replica_of(primary: SocketAddr) -> String {
    format!("REPLICAOF {} {}", primary.ip(), primary.port())
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

/// Finds a port of loopback that no process listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    /// The next port that is tried.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let count = usize::from(PORTS.end - PORTS.start);
    let first = std::process::id() as usize * 16;
    let free = (0..count).find_map(|_| {
        let index = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(index).ok()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        listener.local_addr().ok()
    });
    free.context("no port of loopback is free")
}
