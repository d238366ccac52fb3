//! The settings: what they mean, what they are by default, and which values make no sense.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    thread::available_parallelism,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shared_claims::{forwarded::ForwardedHeader, origin::OriginList, secret::Secrets};

mod admin;
mod claims_webhook;
mod cluster;
mod database;
mod events;
mod grants;
mod keys;
mod limits;
mod load;
mod mail;
mod parse;
mod passkeys;
mod password;
mod revocation;
mod secret_file;
mod session;
mod tls;
mod token;
mod webhook;

pub use admin::{AdminListen, AdminSettings};
pub use claims_webhook::{ClaimsWebhookSettings, OnFailure};
pub use cluster::ClusterSettings;
pub use database::DatabaseUrl;
pub use events::EventSettings;
pub use grants::GrantRule;
pub use keys::{KeyMode, KeySettings};
pub use limits::LimitSettings;
pub use load::ConfigError;
pub use mail::{MailSettings, MailUrl, SmtpUrl, StartTls};
pub use passkeys::PasskeySettings;
pub use password::PasswordSettings;
pub use revocation::RevocationSettings;
pub use session::SessionSettings;
pub use tls::TlsSettings;
pub use token::{RESERVED_CLAIMS, TokenSettings};
pub use webhook::WebhookUrl;

pub(crate) use passkeys::RelyingParty;
pub(crate) use secret_file::read as read_secret_file;

/// All that [`serve`](crate::serve) needs: the settings, and the secrets, which come apart from
/// them and are shown by nothing.
#[derive(Clone, Debug)]
pub struct Config {
    /// Settings of a file and of the environment.
    pub settings: Settings,
    /// Secrets that sign or encrypt; from `LATCHKEY_SECRET_FILE` or `LATCHKEY_SECRET`.
    pub secrets: Secrets,
    /// Where they come from, for when they are to be read again.
    pub reload: Reload,
}

/// Reads the secrets again.
#[derive(Clone)]
pub struct Reload(Arc<dyn Fn() -> Result<Secrets, ConfigError> + Send + Sync>);

impl Reload {
    /// Reads them by calling `read`.
    pub fn by(read: impl Fn() -> Result<Secrets, ConfigError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn read(&self) -> Result<Secrets, ConfigError> {
        (self.0)()
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reload")
    }
}

impl Config {
    /// A configuration for tests: a database of their own, one worker, and the defaults
    /// otherwise. The fields are public, so that a test sets what it is about.
    #[must_use]
    pub fn for_testing(database_path: &Path, secrets: Secrets) -> Self {
        let settings = Settings {
            database_url: DatabaseUrl::sqlite(database_path),
            workers: 1,
            docs: true,
            ..Settings::default()
        };
        let same = secrets.clone();
        Self {
            settings,
            secrets,
            reload: Reload::by(move || Ok(same.clone())),
        }
    }
}

/// The settings of the service. Defaults, then the file given by `--config`, then variables that
/// start with `AUTH__`: the last one that speaks wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port to listen on. `AUTH__LISTEN`, default `127.0.0.1:8080`.
    #[serde(deserialize_with = "parse::from_text")]
    pub listen: SocketAddr,
    /// The URL under which others reach the service, and the `iss` of every token, byte for byte:
    /// an http or https origin, with a path such as `/auth` or without one, and without a slash at
    /// its end. The proxy may send the path along or take it away. `AUTH__PUBLIC_URL`, default
    /// `http://localhost:8080`.
    pub public_url: String,
    /// The database: `sqlite://PATH`, made when it is missing, or `postgres://USER:PASSWORD@HOST/NAME`,
    /// whose password is shown by nothing. `AUTH__DATABASE_URL`, default `sqlite://latchkey.db`.
    #[serde(deserialize_with = "parse::from_text")]
    pub database_url: DatabaseUrl,
    /// The origins whose pages may call the service, separated by commas: as browsers write them, of
    /// any scheme, such as `https://example.org` or `capacitor://localhost`; in `https://*.example.org`
    /// the star stands for one label. `AUTH__ORIGINS`, default
    /// `http://localhost:9000,http://127.0.0.1:9000`, the gateway's page.
    #[serde(deserialize_with = "parse::list")]
    pub origins: Vec<String>,
    /// The page to which the links in mails point, an http or https URL such as
    /// `https://app.example.org/`: `#verify=TOKEN` or `#reset=TOKEN` is added to it, and the page posts
    /// the token to `/email/verify` or `/password/reset`. `AUTH__APP_URL`, default ``.
    pub app_url: String,
    /// The header in which the trusted proxies name the client: `x-forwarded-for`, or `forwarded`
    /// (RFC 7239). The other one is not read, since a client can write it.
    /// `AUTH__FORWARDED_HEADER`, default `x-forwarded-for`.
    #[serde(deserialize_with = "parse::from_text")]
    pub forwarded_header: ForwardedHeader,
    /// HTTP worker threads; 0 is one per core. `AUTH__WORKERS`, default 0.
    pub workers: usize,
    /// Maximum time in which a request's headers arrive, in seconds.
    /// `AUTH__HEADER_DEADLINE_SECS`, default 5.
    pub header_deadline_secs: u64,
    /// Time for which a connection without a request is kept open, in seconds, 1 to 3600. It must be longer
    /// than a load balancer keeps its idle connections, which is 60 for most.
    /// `AUTH__KEEP_ALIVE_SECS`, default 75.
    pub keep_alive_secs: u64,
    /// Time for which the service still takes connections after the stop signal, in seconds, up to 300, while
    /// `/health/ready` answers 503: load balancers need that time to notice. Behind one, set it to its
    /// interval between two checks times the failures that it waits for. `AUTH__DRAIN_SECS`, default 0.
    pub drain_secs: u64,
    /// Maximum time in which open requests end after that, in seconds. `AUTH__SHUTDOWN_SECS`, default
    /// 3.
    pub shutdown_secs: u64,
    /// Whether `/docs/` serves a page that shows the description at `/openapi.json` and calls the endpoints:
    /// `true` or `false`. `cargo dev` turns it on. `AUTH__DOCS`, default `false`.
    pub docs: bool,
    /// The shape of log lines: `text` or `json`. `AUTH__LOG_FORMAT`, default `text`.
    #[serde(deserialize_with = "parse::from_text")]
    pub log_format: LogFormat,
    /// Whether people can make an account by themselves: `closed` or `open`.
    /// `AUTH__REGISTRATION`, default `closed`.
    #[serde(deserialize_with = "parse::from_text")]
    pub registration: Registration,
    /// The proxies whose `forwarded_header` is believed: networks such as `10.0.0.0/8`, separated by
    /// commas. `AUTH__TRUSTED_PROXIES`, default ``.
    #[serde(deserialize_with = "parse::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Rights of everybody who signs in to rooms. Only in the TOML file, as `[[grants]]` with
    /// `rooms` and `actions`; by default nothing beyond the gateway's own rules.
    pub grants: Vec<GrantRule>,
    /// Limits of attempts.
    pub limits: LimitSettings,
    /// Redis, in which several issuers count attempts together.
    pub cluster: ClusterSettings,
    /// Keys that sign tokens.
    pub keys: KeySettings,
    /// Contents of a token.
    pub token: TokenSettings,
    /// The threads that hash passwords.
    pub password: PasswordSettings,
    /// The limits of `POST /login`, and of every other body.
    pub login: LoginSettings,
    /// Sign-in with passkeys.
    pub passkeys: PasskeySettings,
    /// Lifetimes of sessions.
    pub session: SessionSettings,
    /// Gateways that are told that a session has ended.
    pub revocation: RevocationSettings,
    /// Delivery of mail.
    pub mail: MailSettings,
    /// The service that is told what happened.
    pub events: EventSettings,
    /// TLS of the public listener.
    pub tls: TlsSettings,
    /// The operator's listener, which visitors do not reach.
    pub admin: AdminSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: "http://localhost:8080".to_owned(),
            database_url: DatabaseUrl::sqlite(Path::new("latchkey.db")),
            origins: ["http://localhost:9000", "http://127.0.0.1:9000"]
                .map(str::to_owned)
                .to_vec(),
            app_url: String::new(),
            workers: 0,
            forwarded_header: ForwardedHeader::default(),
            header_deadline_secs: 5,
            keep_alive_secs: 75,
            drain_secs: 0,
            shutdown_secs: 3,
            docs: false,
            log_format: LogFormat::Text,
            registration: Registration::Closed,
            trusted_proxies: Vec::new(),
            grants: Vec::new(),
            limits: LimitSettings::default(),
            cluster: ClusterSettings::default(),
            keys: KeySettings::default(),
            token: TokenSettings::default(),
            password: PasswordSettings::default(),
            login: LoginSettings::default(),
            passkeys: PasskeySettings::default(),
            session: SessionSettings::default(),
            revocation: RevocationSettings::default(),
            mail: MailSettings::default(),
            events: EventSettings::default(),
            tls: TlsSettings::default(),
            admin: AdminSettings::default(),
        }
    }
}

/// The limits of `POST /login`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginSettings {
    /// The longest body, in bytes, up to 1 MiB. `AUTH__LOGIN__BODY_LIMIT_BYTES`, default 16384.
    pub body_limit_bytes: usize,
    /// Maximum time in which a body arrives, in seconds. `AUTH__LOGIN__BODY_DEADLINE_SECS`,
    /// default 10.
    pub body_deadline_secs: u64,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self {
            body_limit_bytes: 16 * 1024,
            body_deadline_secs: 10,
        }
    }
}

/// Makers of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// The operator alone, by a command.
    Closed,
    /// Everybody, by `POST /register`.
    Open,
}

impl std::str::FromStr for Registration {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "closed" => Ok(Self::Closed),
            "open" => Ok(Self::Open),
            _ => Err(()),
        }
    }
}

impl parse::TextValue for Registration {
    const RULE: &str = "must be closed or open";
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

impl parse::TextValue for LogFormat {
    const RULE: &str = "must be text or json";
}

impl Settings {
    /// The path of the public URL, without a slash at its end; the empty text when it has none.
    pub(crate) fn public_path(&self) -> &str {
        parse::path_of(&self.public_url)
    }

    pub(crate) fn worker_count(&self) -> usize {
        or_one_per_core(self.workers)
    }

    /// The cross-checks that types cannot make.
    fn check(&self) -> Result<(), ConfigError> {
        let url = "must be an http or https origin, such as https://example.org, in lower case and \
                   without a default port; after it a path such as /auth, of letters, digits and \
                   -._~, or nothing; and no slash at its end";
        check("public_url", parse::is_public_url(&self.public_url), url)?;
        OriginList::parse(&self.origins)
            .map_err(|error| ConfigError::value("origins", error.to_string()))?;
        check("workers", self.workers <= 1024, "must be at most 1024")?;
        let deadline = 1..=300;
        for (key, secs) in [
            ("header_deadline_secs", self.header_deadline_secs),
            ("login.body_deadline_secs", self.login.body_deadline_secs),
        ] {
            check(key, deadline.contains(&secs), "must be 1 to 300")?;
        }
        check(
            "shutdown_secs",
            self.shutdown_secs <= 300,
            "must be at most 300",
        )?;
        let keep_alive = (1..=3600).contains(&self.keep_alive_secs);
        check("keep_alive_secs", keep_alive, "must be 1 to 3600")?;
        check("drain_secs", self.drain_secs <= 300, "must be at most 300")?;
        self.token.check()?;
        self.password.check()?;
        self.limits.check()?;
        self.cluster.check()?;
        self.keys.check()?;
        self.admin.check()?;
        let is_apart = self.listen.port() == 0 || self.admin.listen.0 != Some(self.listen);
        check(
            "admin.listen",
            is_apart,
            "must be another address than `listen`",
        )?;
        self.tls.check()?;
        self.mail.check(&self.app_url)?;
        self.events.check()?;
        grants::check_rules(&self.grants)?;
        self.check_subject_bytes()?;
        let limit_fine = (1..=1024 * 1024).contains(&self.login.body_limit_bytes);
        check("login.body_limit_bytes", limit_fine, "must be 1 to 1048576")?;
        self.relying_party()?;
        self.session.check()?;
        self.revocation.check()
    }
}

/// Refuses a setting that is not `fine`, by its name and the `rule` that it breaks.
fn check(key: &str, fine: bool, rule: &str) -> Result<(), ConfigError> {
    if fine {
        Ok(())
    } else {
        Err(ConfigError::value(key, rule))
    }
}

fn or_one_per_core(count: usize) -> usize {
    match count {
        0 => available_parallelism().map_or(1, usize::from),
        count => count,
    }
}
