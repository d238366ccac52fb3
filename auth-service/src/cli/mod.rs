//! The commands.

use std::{
    fmt,
    io::{self, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::{
    claims_webhook::ClaimsWebhook,
    config::{Config, ConfigError, Settings},
    keys,
    mail::Mailer,
    open_files,
    server::serve_and_tell,
    store::Store,
    telemetry,
    users::normalize_emails,
    webhook::Webhook,
};

mod audit;
mod claims;
mod client;
mod database;
mod dump;
mod grant;
mod health;
mod secret;
mod user;

/// Latchkey's issuer: people sign in over HTTP and get a token. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "auth-service", version)]
pub struct Cli {
    /// A TOML file with settings; variables that start with AUTH__ win over it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    Serve,
    /// Bring the tables of the database up to date, as serving does
    Migrate,
    /// Manage the accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Manage the clients: back ends that ask for tokens of their own
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Manage the keys that sign
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Read the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Manage the shared secret
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Print the effective settings
    CheckConfig,
    /// Ask the service on this machine whether it is ready
    Health,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make an account
    Add(NewUserArgs),
    /// List all accounts
    List,
    /// Set another password
    Passwd {
        /// The name to sign in with
        name: String,
        #[command(flatten)]
        source: PasswordSource,
    },
    /// Shut an account
    Disable {
        /// The name to sign in with
        name: String,
    },
    /// Open an account that was shut
    Enable {
        /// The name to sign in with
        name: String,
    },
    /// End all sessions of an account
    Logout {
        /// The name to sign in with
        name: String,
    },
    /// Change the profile of an account; an empty text removes a part of it
    Edit(EditUserArgs),
    /// Delete an account, and erase what names the person from every table
    Delete {
        /// The name to sign in with
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Take somebody's second factor away
    ResetTotp {
        /// The name to sign in with
        name: String,
    },
    /// Make accounts from a dump of another system, one JSON object a line
    Import {
        /// The dump, or - for stdin
        file: PathBuf,
        /// A JSON file with the hash_config of a Firebase project
        #[arg(long, value_name = "FILE")]
        firebase_config: Option<PathBuf>,
    },
    /// Print all accounts, one JSON object a line
    Export {
        /// With the hashes of the passwords: keep the output as you keep the database
        #[arg(long)]
        with_hashes: bool,
    },
    #[command(flatten)]
    Grant(grant::GrantCommand),
    #[command(flatten)]
    Claims(claims::ClaimsCommand),
}

#[derive(Debug, Args)]
struct NewUserArgs {
    /// The name to sign in with
    username: String,
    /// The person's full name
    #[arg(long)]
    name: Option<String>,
    /// The person's given name
    #[arg(long)]
    given_name: Option<String>,
    /// The person's family name
    #[arg(long)]
    family_name: Option<String>,
    /// The person's address for mail
    #[arg(long)]
    email: Option<String>,
    /// The address was verified: tokens say so
    #[arg(long, requires = "email")]
    email_verified: bool,
    #[command(flatten)]
    source: PasswordSource,
}

#[derive(Debug, Args)]
struct EditUserArgs {
    /// The name to sign in with
    username: String,
    /// The person's full name
    #[arg(long)]
    name: Option<String>,
    /// The person's given name
    #[arg(long)]
    given_name: Option<String>,
    /// The person's family name
    #[arg(long)]
    family_name: Option<String>,
    /// The person's address for mail, which counts as not verified when it is another one
    #[arg(long)]
    email: Option<String>,
    /// Whether the address was verified
    #[arg(long, value_name = "BOOL")]
    email_verified: Option<bool>,
}

#[derive(Debug, Args)]
struct PasswordSource {
    /// Read the password from one line of stdin, also on a terminal
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Make a file with a random secret, unless it is there already
    Init {
        /// Where
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the keys
    List,
    /// Let the next key sign; the one before verifies until its last token has ended
    Rotate {
        /// Throw the key that signs away at once, with everything that it signed
        #[arg(long)]
        emergency: bool,
    },
}

/// Reason that a command failed: one line for people, and an exit code for scripts.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or the secret is at fault: exit code 2.
    Configuration(String),
    /// Anything else: exit code 1.
    Other(String),
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(2),
            Self::Other(_) => ExitCode::FAILURE,
        }
    }

    fn other(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Configuration(text) | Self::Other(text)) = self;
        formatter.write_str(&text.replace('\n', " "))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(format!("{error:#}"))
    }
}

/// Does what the command line asks for.
///
/// # Errors
///
/// One line and an exit code.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let file = cli.config.as_deref();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(Settings::load(file)?).await,
        Command::Migrate => migrate(&Settings::load(file)?).await,
        Command::User(command) => user::run(&settings_with_database(file).await?, command).await,
        Command::Client(command) => {
            client::run(&settings_with_database(file).await?, command).await
        }
        Command::Keys(KeysCommand::List) => list_keys(&settings_with_database(file).await?).await,
        Command::Keys(KeysCommand::Rotate { emergency }) => {
            let config = Config::with_secrets(settings_with_database(file).await?)?;
            keys::rotate_now(&config.settings, &config.secrets, emergency)
                .await
                .map_err(Failure::other)?;
            print_line("rotated")
        }
        Command::Audit(command) => audit::run(&settings_with_database(file).await?, command).await,
        Command::Secret(SecretCommand::Init { file }) => secret::init(&file),
        Command::CheckConfig => print_settings(&Config::load(file)?),
        Command::Health => health::ask(&Settings::load(file)?).await,
    }
}

/// Loads the settings of a command that works on the database of a service.
async fn settings_with_database(file: Option<&Path>) -> Result<Settings, Failure> {
    let settings = Settings::load(file)?;
    database::require(&settings.database_url).await?;
    Ok(settings)
}

async fn migrate(settings: &Settings) -> Result<(), Failure> {
    let store = Store::open(&settings.database_url).await;
    let store = store.map_err(Failure::other)?;
    let normalized = normalize_emails(&store).await;
    store.close().await;
    normalized.map_err(|error| Failure::Other(error.story()))?;
    print_line("the database is up to date")
}

async fn list_keys(settings: &Settings) -> Result<(), Failure> {
    let keys = keys::list_keys(settings).await?;
    let lines: Vec<String> = keys
        .iter()
        .map(|(id, state, since)| format!("{id}  {state:8}  {since}"))
        .collect();
    print_line(&lines.join("\n"))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let rust_log = std::env::var("RUST_LOG").ok();
    let _log = telemetry::start(settings.log_format, rust_log.as_deref())?;
    // Now, so that a warning about the file with the secrets is heard.
    let config = Config::with_secrets(settings)?;
    open_files::raise_limit();
    let address = config.settings.listen;
    let listener = TcpListener::bind(address)
        .map_err(|error| Failure::Other(format!("cannot listen on {address}: {error}")))?;
    let stop = stop_signal()?;
    let address = listener.local_addr().map_err(Failure::other)?;
    let is_tls = config.settings.tls.is_on();
    let scheme = if is_tls { "https" } else { "http" };
    // Clients that wait for this line may connect: the socket queues until the workers run.
    let ready = move || {
        print_line(&format!("listening on {scheme}://{address}"))
            .map_err(|failure| anyhow::anyhow!("{failure}"))
    };
    serve_and_tell(config, listener, stop, ready).await?;
    Ok(())
}

/// Resolves at SIGTERM or SIGINT. Both are caught from now on, and not from the first poll.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    // A signal to read the secrets again must not end the service before it is up.
    let _ = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}

/// Prints the settings as TOML, and of the secrets how many they are and which signs.
fn print_settings(config: &Config) -> Result<(), Failure> {
    // The files that sending mail and events needs.
    let failed = |error| Failure::Configuration(format!("{error:#}"));
    Mailer::open(&config.settings).map_err(failed)?;
    let events = &config.settings.events;
    if events.url.is_on() {
        Webhook::open(&events.url, &events.secret_file).map_err(failed)?;
    }
    ClaimsWebhook::open(&config.settings.token.claims_webhook).map_err(failed)?;
    let settings = serde_json::to_value(&config.settings).map_err(Failure::other)?;
    let mut lines = Vec::new();
    flatten("", &settings, &mut lines);
    let key_id = config.secrets.signing().key_id().map_err(Failure::other)?;
    let count = config.secrets.iter().count();
    lines.push(format!(
        "# secrets: {count} [redacted], signing as {key_id}"
    ));
    print_line(&lines.join("\n"))
}

/// Writes each leaf as `key = value`; texts, numbers and lists of JSON are ones of TOML too.
fn flatten(key: &str, value: &serde_json::Value, lines: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                let dot = if key.is_empty() { "" } else { "." };
                flatten(&format!("{key}{dot}{name}"), member, lines);
            }
        }
        leaf => lines.push(format!("{key} = {leaf}")),
    }
}

fn print_line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::Other(format!("cannot write to stdout: {error}")))
}
