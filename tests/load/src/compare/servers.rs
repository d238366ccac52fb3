//! The servers of the comparison, and the command that starts each of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::ValueEnum;

use crate::compare::prepare::{ACCOUNT, Home};
use crate::compare::process::{Cores, Process, free_address};

/// Value of the gateway's limits on connections, which no measurement reaches.
const UNLIMITED: &str = "200000";
/// Events that one socket may send in a second.
const EVENTS: &str = "1000000";

/// A server of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Socket.IO on Node.
    Node,
    /// Socket.IO on Bun, with `@socket.io/bun-engine`.
    Bun,
    /// Socketioxide without a gateway.
    Bare,
    /// One ready frame for each member, and nothing else.
    Limit,
    /// An earlier build of our gateway.
    Baseline,
    /// Our gateway.
    Ours,
    /// An issuer on Express.
    Express,
    /// Our issuer.
    Issuer,
}

impl Server {
    /// Returns the name in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Bun => "Bun",
            Self::Bare => "bare socketioxide",
            Self::Limit => "limit",
            Self::Baseline => "baseline",
            Self::Ours => "ours",
            Self::Express => "Express",
            Self::Issuer => "our issuer",
        }
    }

    /// Returns whether the server checks tokens.
    pub(crate) fn takes_tokens(self) -> bool {
        !matches!(self, Self::Bare | Self::Limit)
    }
}

/// The programs of all servers.
pub(crate) struct Programs {
    /// Our gateway.
    pub(crate) gateway: PathBuf,
    /// Our issuer.
    pub(crate) issuer: PathBuf,
    /// Bare socketioxide.
    pub(crate) bare: PathBuf,
    /// The limit.
    pub(crate) limit: PathBuf,
    /// A back end.
    pub(crate) back_end: PathBuf,
    /// The folder of the peers on Node and Bun.
    pub(crate) peers: PathBuf,
    /// Bun, if it is installed.
    pub(crate) bun: Option<PathBuf>,
    /// An earlier build of our gateway, if one is given.
    pub(crate) baseline: Option<PathBuf>,
}

impl Programs {
    /// Returns why a server cannot be measured, or `None` if it can.
    pub(crate) fn missing(&self, server: Server) -> Option<&'static str> {
        match server {
            Server::Bun if self.bun.is_none() => {
                Some("Bun is not installed: `npm ci` in tests/load/peers did not provide it")
            }
            Server::Baseline if self.baseline.is_none() => {
                Some("no baseline is given: name an earlier realtime-service with --baseline")
            }
            _ => None,
        }
    }

    /// Starts a server with a new state on the first `server_cores` cores.
    ///
    /// # Errors
    ///
    /// Returns an error with the end of the server's log if it does not start.
    pub(crate) fn start(
        &self,
        server: Server,
        home: &Home,
        cores: &Cores,
        server_cores: usize,
    ) -> anyhow::Result<Process> {
        let address = free_address()?;
        let state = home.new_state()?;
        let mut command = self.command(server, home, &state, address)?;
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(&state);
        let log = state.join("log");
        Process::start(command, (cores.clone(), server_cores), address, &log)
            .with_context(|| format!("{} cannot be measured", server.label()))
    }

    fn command(
        &self,
        server: Server,
        home: &Home,
        state: &Path,
        address: SocketAddr,
    ) -> anyhow::Result<Command> {
        let port = address.port().to_string();
        let script = |runtime: &Path, name: &str| {
            let mut command = plain(runtime);
            command.arg(self.peers.join(name));
            command
                .env("PORT", &port)
                .env("LATCHKEY_SECRET", &home.secret)
                .env("BACK_END", &home.back_end);
            command.env("NODE_ENV", "production");
            command
        };
        Ok(match server {
            Server::Node => script(Path::new("node"), "socketio.mjs"),
            Server::Bun => script(
                self.bun.as_deref().context("Bun is missing")?,
                "socketio.mjs",
            ),
            Server::Bare => listening(&self.bare, address),
            Server::Limit => listening(&self.limit, address),
            Server::Ours => gateway(&self.gateway, home, address, &home.gateway_file()),
            Server::Baseline => gateway(
                self.baseline
                    .as_deref()
                    .context("the baseline is missing")?,
                home,
                address,
                &home.gateway_file(),
            ),
            Server::Express => {
                let mut command = script(Path::new("node"), "issuer.mjs");
                command.env("DATABASE", state.join("peer.db"));
                command
                    .env("ACCOUNT_NAME", ACCOUNT)
                    .env("ACCOUNT_PASSWORD", &home.password);
                command
            }
            Server::Issuer => {
                home.add_account(&self.issuer, state)?;
                issuer(&self.issuer, home, state, address)
            }
        })
    }
}

/// Creates a command with an empty environment: settings of this shell must not reach a server.
pub(crate) fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}

pub(crate) fn listening(program: &Path, address: SocketAddr) -> Command {
    let mut command = plain(program);
    command.env("LISTEN", address.to_string());
    command
}

/// Returns the gateway with the settings in `file`, and limits that no measurement reaches.
pub(crate) fn gateway(program: &Path, home: &Home, address: SocketAddr, file: &Path) -> Command {
    let mut command = listening(program, address);
    command
        .arg("--config")
        .arg(file)
        .env("RUST_LOG", "warn")
        .env("LATCHKEY_SECRET_FILE", home.secret_file())
        .env("REALTIME__LISTEN", address.to_string())
        .env("REALTIME__LIMITS__EVENTS_PER_SEC", EVENTS)
        .env("REALTIME__LIMITS__EVENTS_BURST", EVENTS)
        .env("REALTIME__LIMITS__OUTBOUND_PACKETS", "65536");
    for limit in [
        "CONNECTIONS",
        "CONNECTIONS_PER_ADDRESS",
        "SESSIONS",
        "SESSIONS_PER_ADDRESS",
    ] {
        command.env(format!("REALTIME__LIMITS__{limit}"), UNLIMITED);
    }
    command.env("REALTIME__LIMITS__SOCKETS_PER_SUBJECT", UNLIMITED);
    command
}

/// Returns a command of our issuer with the database in `state`.
pub(crate) fn issuer_command(program: &Path, home: &Home, state: &Path) -> Command {
    let mut command = plain(program);
    command
        .current_dir(state)
        .env("RUST_LOG", "warn")
        .env("LATCHKEY_SECRET_FILE", home.secret_file())
        .env("AUTH__DATABASE_URL", "sqlite://latchkey.db");
    command
}

fn issuer(program: &Path, home: &Home, state: &Path, address: SocketAddr) -> Command {
    let mut command = issuer_command(program, home, state);
    command
        .env("AUTH__LISTEN", address.to_string())
        .env("AUTH__PASSWORD__QUEUE", "1024")
        .env("AUTH__PASSWORD__QUEUE_DEADLINE_MS", "60000")
        .env("AUTH__LIMITS__WAITING_PER_ADDRESS", "1024")
        .env("AUTH__LIMITS__RIGHT_LOGINS_PER_ACCOUNT", "1000000")
        .env("AUTH__LIMITS__REFRESHES_PER_ACCOUNT", "1000000")
        .env("AUTH__LIMITS__SESSIONS_PER_ACCOUNT", "1000000");
    command
}
