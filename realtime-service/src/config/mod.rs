//! Every setting of the gateway: its meaning, variable, unit and default.
//!
//! Defaults in code, then a TOML file, then the environment (`REALTIME__…`). Unknown keys are
//! refused by name. Secrets come from `LATCHKEY_SECRET_FILE` or `LATCHKEY_SECRET` alone.

mod auth;
mod issuers;
mod keys;
mod load;
mod revocations;
mod secret_file;

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use http::Uri;
use serde::{Deserialize, Serialize};
use shared_claims::secret::SecretError;

use crate::rooms::policy::RoomRule;

pub use auth::AuthSettings;
pub use issuers::{ClaimSettings, IssuerSettings, SigningAlgorithm};
pub use keys::{KeyMode, KeySettings, load_keys};
pub use revocations::RevocationSettings;

/// The settings of one gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect: an address and a port. `REALTIME__LISTEN`, default `127.0.0.1:9000`.
    pub listen: SocketAddr,
    /// The `iss` that tokens must have: auth-service's public URL, byte for byte; the page signs in
    /// there. `REALTIME__ISSUER`, default `http://localhost:8080`.
    pub issuer: String,
    /// By which keys tokens are verified.
    pub keys: KeySettings,
    /// Other issuers whose tokens are accepted. Only in the TOML file, as `[[issuers]]` with
    /// `issuer`, `audience`, `client_id`, `jwks_uri`, `algorithms`, `types`,
    /// `maximum_lifetime_secs`, `grants_rooms` and `claims`; by default none.
    pub issuers: Vec<IssuerSettings>,
    /// How sockets say who they are.
    pub auth: AuthSettings,
    /// Where revocations are kept.
    pub revocations: RevocationSettings,
    /// The origins whose pages may connect, compared byte for byte. A request without an `Origin`
    /// comes from no browser and is let through. `REALTIME__ORIGINS`, default
    /// `http://localhost:9000,http://127.0.0.1:9000`, the gateway's own page; what is set replaces
    /// that.
    pub origins: Vec<String>,
    /// Where credentials are looked for; what is not listed is ignored. `REALTIME__CREDENTIALS`,
    /// default `auth,header,query`.
    pub credentials: Vec<CredentialSource>,
    /// Who may do what in which rooms, whatever their token says. Only in the TOML file, as
    /// `[[rooms]]`; by default everybody may use `lobby`, and each their own `user:{sub}`.
    pub rooms: Vec<RoomRule>,
    /// Bounds; there is one for everything that a client can make grow.
    pub limits: Limits,
    /// The heartbeat.
    pub heartbeat: Heartbeat,
    /// How log lines look. `REALTIME__LOG_FORMAT`, default `text`.
    pub log_format: LogFormat,
}

/// A place where a client can put its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialSource {
    /// The payload of CONNECT: `auth: {token}`.
    Auth,
    /// `Authorization: Bearer TOKEN`.
    Header,
    /// `?token=`, which ends up in the logs of proxies.
    Query,
    /// The cookie that `auth.cookie_name` names, from a page whose origin is listed.
    Cookie,
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

/// Bounds on what clients can make grow or last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// TCP connections in all. `REALTIME__LIMITS__CONNECTIONS`, default 20000.
    pub connections: usize,
    /// TCP connections of one address (IPv6: of one /64).
    /// `REALTIME__LIMITS__CONNECTIONS_PER_ADDRESS`, default 1000.
    pub connections_per_address: usize,
    /// Engine.IO sessions in all; one connection can open many. `REALTIME__LIMITS__SESSIONS`,
    /// default 20000.
    pub sessions: usize,
    /// Engine.IO sessions of one address. `REALTIME__LIMITS__SESSIONS_PER_ADDRESS`, default 1000.
    pub sessions_per_address: usize,
    /// Seconds that a request's headers may take, and that a connection may idle between requests.
    /// `REALTIME__LIMITS__HEADER_READ_SECS`, default 10.
    pub header_read_secs: u64,
    /// Seconds that a request's body may take. `REALTIME__LIMITS__BODY_READ_SECS`, default 15.
    pub body_read_secs: u64,
    /// Seconds after which a client that takes nothing is let go.
    /// `REALTIME__LIMITS__WRITE_STALL_SECS`, default 10.
    pub write_stall_secs: u64,
    /// Seconds that a session may have no admitted socket, at its start and after its last one
    /// left. `REALTIME__LIMITS__UNAUTHENTICATED_SECS`, default 10.
    pub unauthenticated_secs: u64,
    /// Milliseconds that a session is kept after a refusal, for the client to read it or to try
    /// another token. `REALTIME__LIMITS__REFUSAL_LINGER_MS`, default 2000.
    pub refusal_linger_ms: u64,
    /// How many refusals one session gets; it ends with the last. `REALTIME__LIMITS__REFUSALS`,
    /// default 3.
    pub refusals: u32,
    /// Bytes of one message, and of one polling request. `REALTIME__LIMITS__MESSAGE_BYTES`, default
    /// 1048576.
    pub message_bytes: usize,
    /// Packets that wait for one client; a client that lets more pile up is closed.
    /// `REALTIME__LIMITS__OUTBOUND_PACKETS`, default 4096.
    pub outbound_packets: usize,
    /// Bytes that wait for one client; a client that lets more pile up is closed.
    /// `REALTIME__LIMITS__OUTBOUND_BYTES`, default 4194304.
    pub outbound_bytes: usize,
    /// Events of one client that wait to be handled; a client that sends more is closed.
    /// `REALTIME__LIMITS__INBOUND_EVENTS`, default 4096.
    pub inbound_events: usize,
    /// Bytes of the events that wait. `REALTIME__LIMITS__INBOUND_BYTES`, default 4194304.
    pub inbound_bytes: usize,
    /// Rooms that one socket may be in. `REALTIME__LIMITS__ROOMS_PER_SOCKET`, default 100.
    pub rooms_per_socket: usize,
    /// Milliseconds that clients have at a shutdown to take what was sent to them.
    /// `REALTIME__LIMITS__DRAIN_MS`, default 500.
    pub drain_ms: u64,
}

/// The Engine.IO heartbeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Seconds between two pings. `REALTIME__HEARTBEAT__INTERVAL_SECS`, default 25.
    pub interval_secs: u64,
    /// Seconds that a client has to answer one. `REALTIME__HEARTBEAT__TIMEOUT_SECS`, default 20.
    pub timeout_secs: u64,
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
            limits: Limits::default(),
            heartbeat: Heartbeat {
                interval_secs: 25,
                timeout_secs: 20,
            },
            log_format: LogFormat::Text,
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Config::default().heartbeat
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 1000,
            sessions: 20_000,
            sessions_per_address: 1000,
            header_read_secs: 10,
            body_read_secs: 15,
            write_stall_secs: 10,
            unauthenticated_secs: 10,
            refusal_linger_ms: 2000,
            refusals: 3,
            message_bytes: 1024 * 1024,
            outbound_packets: 4096,
            outbound_bytes: 4 * 1024 * 1024,
            inbound_events: 4096,
            inbound_bytes: 4 * 1024 * 1024,
            rooms_per_socket: 100,
            drain_ms: 500,
        }
    }
}

impl Limits {
    /// See [`Limits::header_read_secs`].
    #[must_use]
    pub const fn header_read(&self) -> Duration {
        Duration::from_secs(self.header_read_secs)
    }

    /// See [`Limits::body_read_secs`].
    #[must_use]
    pub const fn body_read(&self) -> Duration {
        Duration::from_secs(self.body_read_secs)
    }

    /// See [`Limits::write_stall_secs`].
    #[must_use]
    pub const fn write_stall(&self) -> Duration {
        Duration::from_secs(self.write_stall_secs)
    }

    /// See [`Limits::unauthenticated_secs`].
    #[must_use]
    pub const fn unauthenticated(&self) -> Duration {
        Duration::from_secs(self.unauthenticated_secs)
    }

    /// See [`Limits::refusal_linger_ms`].
    #[must_use]
    pub const fn refusal_linger(&self) -> Duration {
        Duration::from_millis(self.refusal_linger_ms)
    }

    /// See [`Limits::drain_ms`].
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
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

    /// Checks what no single setting can check for itself.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let check = |setting: &str, is_fine: bool, problem: &str| match is_fine {
            true => Ok(()),
            false => Err(ConfigError::Invalid {
                setting: setting.into(),
                problem: problem.into(),
            }),
        };
        let is_url = self.issuer.starts_with("http://") || self.issuer.starts_with("https://");
        check("issuer", is_url, "must begin with http:// or https://")?;
        let uri = self.jwks_uri();
        let is_url = uri.starts_with("http://") || uri.starts_with("https://");
        check(
            "keys.jwks_uri",
            is_url,
            "must begin with http:// or https://",
        )?;
        let origins_fine = self.origins.iter().all(|origin| is_origin(origin));
        check(
            "origins",
            origins_fine,
            "each must be SCHEME://HOST[:PORT], as a browser writes it",
        )?;
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
        let problem = self.rooms.iter().find_map(RoomRule::problem);
        check("rooms", problem.is_none(), problem.unwrap_or_default())?;
        let problem = self.issuers.iter().find_map(IssuerSettings::problem);
        check("issuers", problem.is_none(), problem.unwrap_or_default())?;
        let names: HashSet<&str> = self.issuers.iter().map(|one| one.issuer.as_str()).collect();
        let is_unique = names.len() == self.issuers.len() && !names.contains(self.issuer.as_str());
        check("issuers", is_unique, "an issuer stands there twice")?;
        let limits = &self.limits;
        for (setting, secs) in [
            ("limits.header_read_secs", limits.header_read_secs),
            ("limits.body_read_secs", limits.body_read_secs),
            ("limits.write_stall_secs", limits.write_stall_secs),
            ("limits.unauthenticated_secs", limits.unauthenticated_secs),
            ("heartbeat.interval_secs", self.heartbeat.interval_secs),
            ("heartbeat.timeout_secs", self.heartbeat.timeout_secs),
            ("auth.deferred_secs", self.auth.deferred_secs),
        ] {
            check(setting, (1..=3600).contains(&secs), "must be 1 to 3600")?;
        }
        let linger = limits.refusal_linger_ms;
        check(
            "limits.refusal_linger_ms",
            (100..=60_000).contains(&linger),
            "must be 100 to 60000",
        )?;
        check(
            "limits.drain_ms",
            limits.drain_ms <= 3000,
            "must be at most 3000",
        )?;
        check("limits.refusals", limits.refusals > 0, "must not be 0")?;
        for (setting, count) in [
            ("limits.connections", limits.connections),
            (
                "limits.connections_per_address",
                limits.connections_per_address,
            ),
            ("limits.sessions", limits.sessions),
            ("limits.sessions_per_address", limits.sessions_per_address),
            ("limits.message_bytes", limits.message_bytes),
            ("limits.outbound_packets", limits.outbound_packets),
            ("limits.outbound_bytes", limits.outbound_bytes),
            ("limits.inbound_events", limits.inbound_events),
            ("limits.inbound_bytes", limits.inbound_bytes),
            ("limits.rooms_per_socket", limits.rooms_per_socket),
            ("revocations.entries", self.revocations.entries),
        ] {
            check(
                setting,
                (1..=1 << 30).contains(&count),
                "must be 1 to 1073741824",
            )?;
        }
        let fits = limits.outbound_bytes >= limits.message_bytes;
        check(
            "limits.outbound_bytes",
            fits,
            "must not be less than limits.message_bytes",
        )
    }
}

/// Whether `text` is an origin as browsers write it (RFC 6454, section 6.2): others never match.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    !authority.as_str().contains(['@', '*'])
        && text == format!("{scheme}://{authority}").to_ascii_lowercase()
}
