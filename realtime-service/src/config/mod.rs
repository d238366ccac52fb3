//! Every setting of the gateway: its meaning, variable, unit and default.
//!
//! Defaults in code, then a TOML file, then the environment (`REALTIME__…`). Unknown keys are
//! refused by name. Secrets come from `LATCHKEY_SECRET_FILE` or `LATCHKEY_SECRET` alone.

mod admin;
mod api;
mod auth;
mod backends;
mod cluster;
mod connect;
mod credentials;
mod decisions;
mod drain;
mod events;
mod heartbeat;
mod history;
mod issuer_check;
mod issuers;
mod keys;
mod lifecycle;
mod limits;
mod lists;
mod load;
mod namespaces;
mod optional_address;
mod presence;
mod revocations;
mod rooms;
mod secret_file;
mod tls;
mod webhooks;

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shared_claims::{
    claims::MAXIMUM_LIFETIME_SECS, forwarded::ForwardedHeader, origin::OriginList,
    secret::SecretError,
};

pub use admin::AdminSettings;
pub use api::ApiSettings;
pub use auth::{AuthSettings, SessionBinding};
pub use backends::{BackendSettings, is_denied, usual_denied_networks};
pub use cluster::{ClusterSettings, WhileAway};
pub use connect::{ConnectSettings, OnFailure};
pub use credentials::CredentialSource;
pub use decisions::DecisionSettings;
pub use drain::DrainSettings;
pub use events::{EventMode, EventRule};
pub use heartbeat::Heartbeat;
pub use history::HistorySettings;
pub use issuers::{ClaimSettings, IssuerSettings, SigningAlgorithm};
pub use keys::{KeyMode, KeySettings, KeySource, ReloadSecrets, load_keys};
pub use lifecycle::{LifecycleRule, LifecycleType};
pub use limits::Limits;
pub use namespaces::{NamespaceSettings, NamespaceView};
pub use optional_address::OptionalAddress;
pub use presence::PresenceSettings;
pub use revocations::RevocationSettings;
pub use rooms::{ANY_ISSUER, Authority, RoomRule};
pub(crate) use secret_file::read as read_secret_file;
pub use tls::TlsSettings;
pub use webhooks::WebhookSettings;

/// The settings of one gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port on which clients connect. `REALTIME__LISTEN`, default `127.0.0.1:9000`.
    pub listen: SocketAddr,
    /// The `iss` that tokens must have, byte for byte: auth-service's public URL. The gateway's
    /// page signs in there. `REALTIME__ISSUER`, default `http://localhost:8080`.
    pub issuer: String,
    /// The keys that verify tokens.
    pub keys: KeySettings,
    /// Further issuers whose tokens are accepted. Only in the TOML file, as `[[issuers]]` with
    /// `issuer`, `tenants`, `audience`, `audience_claim`, `client_id`, `jwks_uri`, `algorithms`,
    /// `types`, `maximum_lifetime_secs`, `grants_rooms`, `require_claims`, `accept_id_tokens` and
    /// `claims`; by default none: see [providers](providers.md).
    pub issuers: Vec<IssuerSettings>,
    /// How sockets authenticate.
    pub auth: AuthSettings,
    /// Where revocations are kept.
    pub revocations: RevocationSettings,
    /// Origins whose pages may connect, separated by commas: as browsers write them, of any scheme,
    /// such as `https://example.org` or `capacitor://localhost`; in `https://*.example.org` the star stands
    /// for one label. A request
    /// without an `Origin` header does not come from a browser and is accepted, and so is one that
    /// names the server itself, as some clients outside of browsers do. The setting
    /// replaces the default. `REALTIME__ORIGINS`, default
    /// `http://localhost:9000,http://127.0.0.1:9000`, the gateway's own page.
    #[serde(deserialize_with = "lists::texts")]
    pub origins: Vec<String>,
    /// Places in which the gateway looks for a token, separated by commas: `auth`, `header`,
    /// `query` and `cookie`. A token in any other place is ignored. `REALTIME__CREDENTIALS`,
    /// default `auth,header,query`.
    #[serde(deserialize_with = "lists::credentials")]
    pub credentials: Vec<CredentialSource>,
    /// Rules that grant actions in rooms, in addition to a token's own grants. Only in the TOML
    /// file, as `[[rooms]]` with `rooms`, `actions`, `issuers`, `scope`, `guests`, `authorize` and `backend`;
    /// by default every user may use `lobby` and their own room `user:{sub}`:
    /// see [policy](policy.md).
    pub rooms: Vec<RoomRule>,
    /// Back ends that answer events of clients. Only in the TOML file, as `[[backends]]` with `name`,
    /// `url`, `secret_file`, `timeout_ms`, `concurrency`, `queue`, `bytes`, `batch`, `ca_file`,
    /// `client_cert_file` and `client_key_file`; by default none: see [back ends](backends.md#calls).
    pub backends: Vec<BackendSettings>,
    /// Networks in which no back end is called, whatever the name in its URL resolves to, separated
    /// by commas. `REALTIME__BACKEND_DENY_NETWORKS`, default
    /// `169.254.0.0/16,100.100.100.200/32,168.63.129.16/32,192.0.0.192/32,fe80::/10,fd00:ec2::254/128,fd20:ce::254/128,64:ff9b::a9fe:0/112`,
    /// link-local addresses and the metadata services of clouds. The setting replaces the default.
    #[serde(deserialize_with = "lists::networks")]
    pub backend_deny_networks: Vec<IpNet>,
    /// Events of clients that a back end answers. Only in the TOML file, as `[[events]]` with
    /// `events`, `backend`, `mode`, `issuers`, `scope`, `claims`, `guests` and `rate`; the first entry
    /// with a pattern for the name counts. By default none: see [back ends](backends.md#calls).
    pub events: Vec<EventRule>,
    /// The back end that is asked when a client connects.
    pub connect: ConnectSettings,
    /// Decisions of back ends about rooms that are kept.
    pub decisions: DecisionSettings,
    /// Lifecycle events that back ends are sent. Only in the TOML file, as `[[lifecycle]]` with `backend`,
    /// `types` and `rooms`; by default none: see [back ends](backends.md#what-happened).
    pub lifecycle: Vec<LifecycleRule>,
    /// Further namespaces. Only in the TOML file, as `[[namespaces]]` with `name`, `issuers`, `scope`, `claims`
    /// and `guests`, and in each `[[namespaces.rooms]]`, `[[namespaces.events]]`, `[namespaces.connect]` and
    /// `[[namespaces.lifecycle]]`, which mean in it what `[[rooms]]`, `[[events]]`, `[connect]` and
    /// `[[lifecycle]]` mean in `/`; by default none: see [namespaces](namespaces.md).
    pub namespaces: Vec<NamespaceSettings>,
    /// The queue of events for back ends.
    pub webhooks: WebhookSettings,
    /// How many messages of each room are kept for clients that reconnect.
    pub history: HistorySettings,
    /// What clients hear about the users in a room.
    pub presence: PresenceSettings,
    /// The Redis server that several gateways share.
    pub cluster: ClusterSettings,
    /// The header in which the trusted proxies name the client: `x-forwarded-for`, or `forwarded`
    /// (RFC 7239). The other one is not read, since a client can write it.
    /// `REALTIME__FORWARDED_HEADER`, default `x-forwarded-for`.
    pub forwarded_header: ForwardedHeader,
    /// Proxies whose `forwarded_header` is believed: networks such as `10.0.0.0/8`, separated
    /// by commas. `REALTIME__TRUSTED_PROXIES`, default ``.
    #[serde(deserialize_with = "lists::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// TLS of the listener for clients.
    pub tls: TlsSettings,
    /// The listener for back ends.
    pub api: ApiSettings,
    /// The listener for the operator.
    pub admin: AdminSettings,
    /// Limits on everything that a client can make grow or last.
    pub limits: Limits,
    /// How clients are handed over to other gateways.
    pub drain: DrainSettings,
    /// The heartbeat.
    pub heartbeat: Heartbeat,
    /// Transport of clients: `engine`, the gateway's own, or `socketioxide`, for tests and comparison.
    /// `REALTIME__CARRIER`, default `engine`.
    pub carrier: Carrier,
    /// Whether the gateway serves the stock client in JavaScript, as `/socket.io/socket.io.js`,
    /// `socket.io.min.js` and `socket.io.esm.min.js`. `REALTIME__SERVE_CLIENT`, default true.
    pub serve_client: bool,
    /// Format of log lines: `text` or `json`. `REALTIME__LOG_FORMAT`, default `text`.
    pub log_format: LogFormat,
}

/// The transport of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// The gateway's own engine.
    Engine,
    /// socketioxide, which also carries the namespaces of applications.
    Socketioxide,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9000)),
            issuer: "http://localhost:8080".into(),
            keys: KeySettings::default(),
            issuers: Vec::new(),
            auth: AuthSettings::default(),
            revocations: RevocationSettings::default(),
            origins: vec![
                "http://localhost:9000".into(),
                "http://127.0.0.1:9000".into(),
            ],
            credentials: vec![
                CredentialSource::Auth,
                CredentialSource::Header,
                CredentialSource::Query,
            ],
            rooms: RoomRule::defaults(),
            backends: Vec::new(),
            backend_deny_networks: usual_denied_networks(),
            events: Vec::new(),
            connect: ConnectSettings::default(),
            decisions: DecisionSettings::default(),
            lifecycle: Vec::new(),
            namespaces: Vec::new(),
            webhooks: WebhookSettings::default(),
            history: HistorySettings::default(),
            presence: PresenceSettings::default(),
            cluster: ClusterSettings::default(),
            forwarded_header: ForwardedHeader::default(),
            trusted_proxies: Vec::new(),
            tls: TlsSettings::default(),
            api: ApiSettings::default(),
            admin: AdminSettings::default(),
            limits: Limits::default(),
            drain: DrainSettings::default(),
            heartbeat: Heartbeat::default(),
            carrier: Carrier::Engine,
            serve_client: true,
            log_format: LogFormat::Text,
        }
    }
}

/// Why the settings cannot be used: one line, without the value, which could be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is no TOML.
    #[error("--config: {0}")]
    File(String),
    /// A key or a variable that does not exist.
    #[error("{0}")]
    Unknown(String),
    /// A setting has a value that cannot work.
    #[error("{setting}: {problem}")]
    Invalid {
        /// The setting, as in the TOML file.
        setting: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no usable secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Config {
    /// The cookie that may hold a token; the empty text when none is read.
    #[must_use]
    pub fn cookie_name(&self) -> &str {
        match self.credentials.contains(&CredentialSource::Cookie) {
            true => &self.auth.cookie_name,
            false => "",
        }
    }

    /// The longest time that a token of any issuer can be accepted, in seconds.
    #[must_use]
    pub fn longest_lifetime_secs(&self) -> u64 {
        let others = self.issuers.iter().map(|one| one.maximum_lifetime_secs);
        others.fold(MAXIMUM_LIFETIME_SECS, u64::max)
    }

    /// The origins whose pages may connect; none when the settings were not [checked](Self::check) and
    /// one of them is no origin.
    #[must_use]
    pub fn listed_origins(&self) -> OriginList {
        OriginList::parse(&self.origins).unwrap_or_default()
    }

    /// Checks what no single setting can check for itself.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_issuers()?;
        // The error repeats the text, in which a password could stand.
        let is_bare = !self.origins.iter().any(|origin| origin.contains('@'));
        check("origins", is_bare, "an origin has no user and no password")?;
        if let Err(error) = OriginList::parse(&self.origins) {
            check("origins", false, &error.to_string())?;
        }
        let has_source = !self.credentials.is_empty();
        check(
            "credentials",
            has_source,
            "must name at least one of auth, header, query, cookie",
        )?;
        let reads_cookies = self.credentials.contains(&CredentialSource::Cookie);
        let is_named = !self.auth.cookie_name.is_empty();
        let rule = "must be set when credentials list cookie, and only then";
        check("auth.cookie_name", reads_cookies == is_named, rule)?;
        let is_fine = (1..=3600).contains(&self.auth.deferred_secs);
        check("auth.deferred_secs", is_fine, "must be 1 to 3600")?;
        self.heartbeat.check()?;
        let is_count = (1..=1 << 30).contains(&self.revocations.entries);
        check("revocations.entries", is_count, "must be 1 to 1073741824")?;
        self.check_backends()?;
        self.check_namespaces()?;
        self.decisions.check()?;
        self.webhooks.check()?;
        self.history.check(self.cluster.is_on())?;
        self.presence.check()?;
        self.cluster.check()?;
        self.api.check()?;
        self.tls.check()?;
        self.drain.check()?;
        self.limits.check()
    }
}

/// Says which setting cannot work, unless it can.
fn check(setting: &str, is_fine: bool, problem: &str) -> Result<(), ConfigError> {
    match is_fine {
        true => Ok(()),
        false => Err(ConfigError::Invalid {
            setting: setting.into(),
            problem: problem.into(),
        }),
    }
}
