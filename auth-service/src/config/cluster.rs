//! The Redis servers in which several issuers count attempts together.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shared_claims::redis_servers::RedisServers;
use zeroize::Zeroizing;

use super::{ConfigError, check, secret_file};

/// The Redis servers in which several issuers count attempts together; without them, PostgreSQL counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// URL of the Redis 7 or Valkey 8 server in which several issuers count attempts together:
    /// `redis://HOST:PORT/DB`, `redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB` or
    /// `redis+cluster://HOST:PORT,HOST:PORT`, or the same with `rediss` for TLS, with a user name before
    /// the hosts if the server asks for one. It may be the gateways' Redis. Without it, issuers with one
    /// PostgreSQL database count there. `AUTH__CLUSTER__URL`, default ``.
    pub url: String,
    /// File with the password of the Redis server, in its first line; it is read for each connection. A
    /// password in `cluster.url` is refused. `AUTH__CLUSTER__PASSWORD_FILE`, default ``.
    pub password_file: PathBuf,
    /// File with the password of the sentinels, in its first line, if they ask for one.
    /// `AUTH__CLUSTER__SENTINEL_PASSWORD_FILE`, default ``.
    pub sentinel_password_file: PathBuf,
    /// PEM file with the certificates that verify the Redis server's; without it, those of the system
    /// do. `AUTH__CLUSTER__CA_FILE`, default ``.
    pub ca_file: PathBuf,
    /// First part of the name of every key. Issuers with the same server and the same prefix count
    /// together. `AUTH__CLUSTER__PREFIX`, default `latchkey`.
    pub prefix: String,
    /// Maximum time that Redis may take to answer, in milliseconds, 50 to 10000. When it takes longer, the
    /// attempt is counted without it, and the issuer connects again. `AUTH__CLUSTER__TIMEOUT_MS`, default 500.
    pub timeout_ms: u64,
    /// Maximum number of attempts that wait for Redis, 16 to 100000; further ones are counted without it.
    /// `AUTH__CLUSTER__PENDING`, default 4096.
    pub pending: usize,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: PathBuf::new(),
            sentinel_password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            prefix: "latchkey".to_owned(),
            timeout_ms: 500,
            pending: 4096,
        }
    }
}

impl ClusterSettings {
    /// Whether the issuer counts attempts in Redis.
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
        let is_fine = (50..=10_000).contains(&self.timeout_ms);
        check("cluster.timeout_ms", is_fine, "must be 50 to 10000")?;
        let is_fine = (16..=100_000).contains(&self.pending);
        check("cluster.pending", is_fine, "must be 16 to 100000")
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

    #[test]
    fn a_url_has_no_password_and_is_not_repeated() {
        let checked = |url: &str| {
            let url = url.to_owned();
            let settings = ClusterSettings {
                url,
                ..ClusterSettings::default()
            };
            settings.check()
        };
        for url in [
            "",
            "redis://127.0.0.1:6379",
            "rediss://latchkey@redis.internal:6380/3",
            "redis+sentinel://a,b/main",
            "rediss+cluster://a:7000,b:7000",
        ] {
            assert!(checked(url).is_ok(), "{url}");
        }
        for url in [
            "redis://:hunter2@127.0.0.1",
            "redis+cluster://:hunter2@a",
            "rediss://127.0.0.1/#insecure",
            "hunter2",
        ] {
            let error = checked(url).expect_err(url).to_string();
            assert!(error.contains("(cluster.url)"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
