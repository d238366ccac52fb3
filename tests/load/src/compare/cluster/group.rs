//! Servers that share rooms by one Redis, and that Redis.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;

use super::calls;
use crate::compare::prepare::{ACCOUNT, Home};
use crate::compare::process::{Cores, Process, free_address};
use crate::compare::servers::{Programs, gateway, plain};
use crate::target::Target;

/// Maximum time until a gateway says that Redis is connected.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Commands that gateways send for messages and heartbeats. Scripts run none of these.
const REQUESTS: [&str; 8] = [
    "evalsha",
    "eval",
    "script|load",
    "get",
    "ping",
    "subscribe",
    "unsubscribe",
    "ssubscribe",
];

/// The servers of a group.
#[derive(Clone, Copy)]
pub(in crate::compare) enum Kind {
    /// Gateways without Redis.
    Alone,
    /// Gateways with Redis.
    Ours,
    /// Gateways without Redis that store events for a back end.
    Storing,
    /// Gateways that store events, and copy their queues to Redis.
    Copying,
    /// Socket.IO on Node, with this adapter.
    Node(&'static str),
}

/// Servers that share rooms. They are killed when the value is dropped.
pub(in crate::compare) struct Group {
    pub(super) nodes: Vec<Process>,
    redis: Option<Process>,
}

impl Group {
    /// Starts Redis, if the kind needs it, and `count` servers.
    ///
    /// # Errors
    ///
    /// Returns an error if one does not start.
    pub(in crate::compare) fn start(
        kind: Kind,
        count: usize,
        programs: &Programs,
        home: &Home,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        let redis = match kind {
            Kind::Alone | Kind::Storing => None,
            _ => Some(start_redis(home, cores)?),
        };
        let url = redis
            .as_ref()
            .map(|redis| format!("redis://{}", redis.address));
        let mut nodes = Vec::new();
        for _ in 0..count {
            let (address, state) = (free_address()?, home.new_state()?);
            let mut command = match kind {
                Kind::Node(adapter) => {
                    let mut command = plain(Path::new("node"));
                    command.arg(programs.peers.join("socketio.mjs"));
                    command.env("PORT", address.port().to_string());
                    command
                        .env("LATCHKEY_SECRET", &home.secret)
                        .env("ADAPTER", adapter);
                    command.env("NODE_ENV", "production");
                    command.envs(url.iter().map(|url| ("REDIS_URL", url)));
                    command
                }
                _ => {
                    let file = match kind {
                        Kind::Storing | Kind::Copying => home.storing_file(),
                        _ => home.gateway_file(),
                    };
                    let mut command = gateway(&programs.gateway, home, address, &file);
                    command.envs(url.iter().map(|url| ("REALTIME__CLUSTER__URL", url)));
                    // A logout token each few milliseconds is no attack here.
                    command.env("REALTIME__LIMITS__LOGOUT_REFUSALS_PER_ADDRESS", "1000000");
                    command
                }
            };
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
            command.current_dir(&state);
            let log = state.join("log");
            let node = Process::start(command, (cores.clone(), 1), address, &log)?;
            if matches!(kind, Kind::Ours | Kind::Copying) {
                calls::until_ready(address, READY_TIMEOUT)?;
            }
            nodes.push(node);
        }
        Ok(Self { nodes, redis })
    }

    /// Describes the servers to a mode: the sender is at the first one, and its receivers are at the last.
    pub(in crate::compare) fn target(&self, home: &Home) -> anyhow::Result<Target> {
        #[derive(Parser)]
        struct Defaults {
            #[command(flatten)]
            target: Target,
        }
        let mut target = Defaults::try_parse_from(["load"])?.target;
        let (last, others) = self
            .nodes
            .split_last()
            .context("a group without a server")?;
        (target.address, target.pid) = (last.address, Some(last.pid()));
        let others = others.iter().map(|node| (node.address, node.pid()));
        target.others = others.collect();
        target.tokens = vec![home.token(ACCOUNT)?];
        Ok(target)
    }

    /// Returns the process of Redis.
    pub(super) fn redis(&self) -> anyhow::Result<&Process> {
        self.redis.as_ref().context("the group has no Redis")
    }

    /// Returns how many commands Redis has got from the servers, without those that scripts run.
    pub(super) fn redis_requests(&self) -> anyhow::Result<u64> {
        let mut stream = BufReader::new(TcpStream::connect(self.redis()?.address)?);
        stream
            .get_mut()
            .write_all(b"INFO commandstats\r\nQUIT\r\n")?;
        let mut sum = 0;
        for line in stream.lines() {
            let line = line?;
            sum += requests_of(&line).unwrap_or_default();
        }
        ensure!(sum > 0, "Redis has got no command");
        Ok(sum)
    }
}

/// Reads a line of `INFO commandstats`: how often a gateway sent the command.
fn requests_of(line: &str) -> Option<u64> {
    let (name, counts) = line.strip_prefix("cmdstat_")?.split_once(':')?;
    let calls = counts.strip_prefix("calls=")?.split(',').next()?;
    REQUESTS.contains(&name).then(|| calls.parse().ok())?
}

fn start_redis(home: &Home, cores: &Cores) -> anyhow::Result<Process> {
    let (address, state) = (free_address()?, home.new_state()?);
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(&state);
    Process::start(command, (cores.clone(), 1), address, &state.join("log"))
        .context("redis-server, which Debian has in the package redis-server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_scripts_are_not_counted() {
        let line = "cmdstat_evalsha:calls=12,usec=3,usec_per_call=1.00";
        assert_eq!(requests_of(line), Some(12));
        assert_eq!(requests_of("cmdstat_xadd:calls=12,usec=3"), None);
        assert_eq!(requests_of("cmdstat_xrange:calls=12,usec=3"), None);
        assert_eq!(requests_of("# Commandstats"), None);
    }
}
