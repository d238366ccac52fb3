//! The gateway's command line.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use realtime_service::{
    auth::policy::Policy,
    backends::BackEnds,
    cli::{self, CheckArguments, ExplainArguments, WebhookCommand},
    config::{Config, ConfigError, KeySource, load_keys},
    http::health,
    metrics::Metrics,
    own_app, telemetry,
};
use tokio::{
    net::TcpSocket,
    signal::unix::{SignalKind, signal},
};
use zeroizing_alloc::ZeroAlloc;

/// The system's own gives memory back with the end of each burst and takes it again with the next,
/// which costs a gateway a third of its time when many connections end at once.
///
/// Memory is overwritten when it is freed, so that no token is left in it.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// How many connections may wait to be accepted: as many as come back at once after a cut.
const BACKLOG: u32 = 4096;

/// Admits Socket.IO clients by their token, and carries their messages.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A TOML file with settings.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM; this is the default.
    Serve,
    /// Print the effective settings, or what is wrong with them.
    CheckConfig(CheckArguments),
    /// Ask the gateway on this machine whether it is ready.
    Health,
    /// Say whether the bearer of a token may do something in a room, and why, or why not.
    Explain(ExplainArguments),
    /// Look at the events that wait for their back ends, replay or drop them.
    #[command(subcommand)]
    Webhooks(WebhookCommand),
    /// Work with the rules for rooms.
    #[command(subcommand)]
    Policy(PolicyCommand),
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Try the cases in a TOML file on the rules.
    Test {
        /// The file; it may have rules of its own
        file: PathBuf,
    },
}

/// The exit code for settings or secrets that cannot be used.
const UNUSABLE_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The only failure is that another provider is installed, and there is no other.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let loaded = Config::load(arguments.config.as_deref());
    // The rules for rooms are understood by the policy alone.
    let loaded = loaded.and_then(|config| Policy::all(&config).map(|_| config));
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => loaded.and_then(serve_with_log),
        Command::CheckConfig(arguments) if arguments.online => {
            return answer(loaded, |config| cli::check_online(config, &arguments));
        }
        Command::CheckConfig(_) => loaded.and_then(|config| {
            load_keys(&config)?;
            BackEnds::new(&config, &Metrics::new())?;
            Ok(show(&config))
        }),
        Command::Health => loaded.map(ask_health),
        Command::Explain(arguments) => {
            return answer(loaded, |config| cli::explain(config, &arguments));
        }
        Command::Webhooks(command) => {
            return answer(loaded, |config| cli::webhooks(config, &command));
        }
        Command::Policy(PolicyCommand::Test { file }) => {
            return answer(loaded, |config| cli::test_policy(config, &file));
        }
    };
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("realtime-service: {error:#}");
            ExitCode::FAILURE
        }
        Err(error) => report(&error.into()),
    }
}

/// The answer to a question: 0 for yes, 1 for no.
fn answer(
    loaded: Result<Config, ConfigError>,
    ask: impl FnOnce(&Config) -> anyhow::Result<bool>,
) -> ExitCode {
    match loaded
        .map_err(anyhow::Error::from)
        .and_then(|config| ask(&config))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => report(&error),
    }
}

/// Says in one line what cannot be used, and why.
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!(
        "realtime-service: {}",
        format!("{error:#}").replace('\n', " ")
    );
    ExitCode::from(UNUSABLE_CONFIGURATION)
}

/// Listens on `address`. Must be called in a runtime.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Serves until SIGTERM. What went wrong is written when the log is complete.
fn serve_with_log(config: Config) -> Result<anyhow::Result<()>, ConfigError> {
    let log = match telemetry::init(config.log_format) {
        Ok(log) => log,
        Err(error) => return Ok(Err(error.into())),
    };
    // Now, so that a warning about the file with the secrets is heard.
    let served = load_keys(&config).map(|keys| run(config, keys));
    drop(log);
    served
}

#[tokio::main]
async fn run(config: Config, keys: KeySource) -> anyhow::Result<()> {
    let listener =
        listen(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let (mut terminated, mut interrupted) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let scheme = if config.tls.is_on() { "https" } else { "http" };
    // From here on a SIGHUP does not end the gateway, and is not lost.
    let app = own_app(config, keys)?;
    writeln!(std::io::stdout(), "listening on {scheme}://{address}")?;
    let shutdown = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    app.serve(listener, shutdown).await
}

#[tokio::main(flavor = "current_thread")]
async fn ask_health(config: Config) -> anyhow::Result<()> {
    health::ask(config.listen, config.tls.is_on()).await
}

fn show(config: &Config) -> anyhow::Result<()> {
    writeln!(
        std::io::stdout(),
        "{}",
        serde_json::to_string_pretty(config)?
    )?;
    Ok(())
}
