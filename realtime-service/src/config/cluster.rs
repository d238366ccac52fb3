//! The Redis server that several gateways share.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shared_claims::redis_servers::RedisServers;
use zeroize::Zeroizing;

use super::{ConfigError, check, secret_file};

/// The Redis server that several gateways share; without it, a gateway stands alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// URL of the Redis 7 or Valkey 8 server by which several gateways share rooms, histories and
    /// revocations: `redis://HOST:PORT/DB`, `redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB` or
    /// `redis+cluster://HOST:PORT,HOST:PORT`, or the same with `rediss` for TLS, with a user name before
    /// the hosts if the server asks for one; without it the gateway stands alone. See
    /// [cluster](cluster.md). `REALTIME__CLUSTER__URL`, default ``.
    pub url: String,
    /// File with the password of the Redis server, in its first line. A password in `cluster.url` is
    /// refused. `REALTIME__CLUSTER__PASSWORD_FILE`, default ``.
    pub password_file: PathBuf,
    /// File with the password of the sentinels, in its first line, if they ask for one.
    /// `REALTIME__CLUSTER__SENTINEL_PASSWORD_FILE`, default ``.
    pub sentinel_password_file: PathBuf,
    /// PEM file with the certificates that verify the Redis server's; without it, those of the system
    /// do. `REALTIME__CLUSTER__CA_FILE`, default ``.
    pub ca_file: PathBuf,
    /// First part of the name of every key and channel. Gateways with the same server and the same
    /// prefix are one cluster. `REALTIME__CLUSTER__PREFIX`, default `latchkey`.
    pub prefix: String,
    /// First part of the name of this gateway in answers, logs and keys; a random part follows it.
    /// `REALTIME__CLUSTER__GATEWAY`, default `gateway`.
    pub gateway: String,
    /// Time after which a gateway that Redis has not heard of is dead, in seconds. Another gateway then
    /// removes its members from the presence of rooms, and sends the events that it owes to back ends.
    /// `REALTIME__CLUSTER__LEASE_SECS`, default 10.
    pub lease_secs: u64,
    /// Behaviour of a publish while Redis cannot be reached: `refuse` answers `unavailable`, and
    /// `local` delivers the message to the subscribers of this gateway alone, in a new epoch.
    /// `REALTIME__CLUSTER__WHILE_AWAY`, default `refuse`.
    pub while_away: WhileAway,
    /// Maximum time that Redis may take to answer, in milliseconds. When it takes longer, the request
    /// has failed; when it does not answer a heartbeat for so long, the gateway connects again.
    /// `REALTIME__CLUSTER__TIMEOUT_MS`, default 2000.
    pub timeout_ms: u64,
    /// Maximum size of the requests that wait for Redis, in bytes. Further ones fail immediately.
    /// `REALTIME__CLUSTER__PENDING_BYTES`, default 67108864.
    pub pending_bytes: usize,
}

/// Behaviour of a publish while Redis cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhileAway {
    /// It is answered `unavailable`.
    Refuse,
    /// Only the subscribers of this gateway get the message, in a new epoch.
    Local,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: PathBuf::new(),
            sentinel_password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            prefix: "latchkey".to_owned(),
            gateway: "gateway".to_owned(),
            lease_secs: 10,
            while_away: WhileAway::Refuse,
            timeout_ms: 2000,
            pending_bytes: 64 * 1024 * 1024,
        }
    }
}

impl ClusterSettings {
    /// Whether the gateway is one of several.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    /// Reads [`Self::url`]; `None` when it names no servers.
    #[must_use]
    pub fn servers(&self) -> Option<RedisServers> {
        RedisServers::parse(&self.url)
    }

    /// Maximum time that Redis may take to answer.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Time after which a gateway that Redis has not heard of is dead.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_secs)
    }

    /// Reads the password of the servers from its file; `None` when no file is named.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn password(&self) -> io::Result<Option<Zeroizing<String>>> {
        first_line(&self.password_file)
    }

    /// Reads the password of the sentinels from its file; `None` when no file is named.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn sentinel_password(&self) -> io::Result<Option<Zeroizing<String>>> {
        first_line(&self.sentinel_password_file)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_fine = !self.is_on() || self.servers().is_some();
        let problem = "must be a URL such as redis://redis.internal:6379, \
                       redis+sentinel://a:26379,b:26379/NAME or redis+cluster://a:6379,b:6379, or \
                       rediss for TLS; without a password, query or fragment: the password belongs into \
                       the file that cluster.password_file names";
        check("cluster.url", is_fine, problem)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let is_fine = (1..=64).contains(&self.prefix.len()) && self.prefix.bytes().all(is_name);
        let problem = "must have 1 to 64 letters, digits, or characters of - _ . :";
        check("cluster.prefix", is_fine, problem)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_fine = (1..=64).contains(&self.gateway.len()) && self.gateway.bytes().all(is_name);
        let problem = "must have 1 to 64 letters, digits, or characters of - _";
        check("cluster.gateway", is_fine, problem)?;
        let is_fine = (3..=300).contains(&self.lease_secs);
        check("cluster.lease_secs", is_fine, "must be 3 to 300")?;
        let is_fine = (100..=60_000).contains(&self.timeout_ms);
        check("cluster.timeout_ms", is_fine, "must be 100 to 60000")?;
        let is_fine = (1 << 20..=1 << 40).contains(&self.pending_bytes);
        let problem = "must be 1048576 to 1099511627776";
        check("cluster.pending_bytes", is_fine, problem)
    }
}

/// Reads the first line of a file with a secret.
fn first_line(file: &Path) -> io::Result<Option<Zeroizing<String>>> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = Zeroizing::new(secret_file::read(file)?);
    let line = text.lines().next().unwrap_or_default();
    Ok(Some(Zeroizing::new(line.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str) -> Result<(), ConfigError> {
        let settings = ClusterSettings {
            url: url.to_owned(),
            ..ClusterSettings::default()
        };
        settings.check()
    }

    #[test]
    fn a_url_has_no_password_and_is_not_repeated() {
        for url in [
            "",
            "redis://127.0.0.1:6379",
            "redis://redis.internal/3",
            "rediss://latchkey@redis.internal:6380",
            "redis+sentinel://a,b/main",
            "rediss+cluster://a:7000,b:7000",
        ] {
            assert!(checked(url).is_ok(), "{url}");
        }
        for url in [
            "redis://:hunter2@127.0.0.1",
            "redis://latchkey:hunter2@127.0.0.1",
            "redis://127.0.0.1/?password=hunter2",
            "rediss://127.0.0.1/#insecure",
            "unix:///run/hunter2.sock",
            "hunter2",
            "redis+cluster://:hunter2@a",
            "redis+sentinel://a/",
        ] {
            let error = checked(url).expect_err(url).to_string();
            assert!(error.starts_with("cluster.url"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
