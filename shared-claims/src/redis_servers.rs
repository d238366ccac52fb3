//! The text of the setting `cluster.url` of both services: one Redis server, a primary that Sentinel names, or
//! a Redis Cluster.

use std::fmt;

use url::Url;

/// Servers that `cluster.url` names. The text has no secret, and is not shown all the same: it may have one
/// before it is checked.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisServers {
    /// Relation of the servers to one another.
    pub deployment: Deployment,
    /// Servers as `HOST:PORT`, at least one: the server itself, the sentinels, or some nodes of the cluster.
    pub addresses: Vec<String>,
    has_tls: bool,
    user: Option<String>,
    database: Option<String>,
}

/// Relation of servers of Redis to one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// One server, or one name for the server that is the primary at the time.
    Single,
    /// A primary and replicas, watched by sentinels.
    Sentinel {
        /// Name of the primary in the configuration of the sentinels.
        primary: String,
    },
    /// A Redis Cluster: each server has a part of the 16384 slots.
    Cluster,
}

impl RedisServers {
    /// Reads a URL: `redis://HOST:PORT/DB`, `redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB`,
    /// `redis+cluster://HOST:PORT,HOST:PORT`, and the same with `rediss` for TLS, each with a user name
    /// before the hosts if the servers ask for one. Returns `None` for any other text, and for one with a
    /// password, a query or a fragment.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (protocol, kind) = match scheme.split_once('+') {
            Some((protocol, kind)) => (protocol, Some(kind)),
            None => (scheme, None),
        };
        let has_tls = match protocol {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user.to_owned()), hosts),
            None => (None, authority),
        };
        let mut path = path.split('/').filter(|part| !part.is_empty());
        let (deployment, default_port) = match kind {
            None => (Deployment::Single, 6379),
            Some("sentinel") => {
                let primary = path.next()?.to_owned();
                (Deployment::Sentinel { primary }, 26379)
            }
            Some("cluster") => (Deployment::Cluster, 6379),
            Some(_) => return None,
        };
        let database = path.next().map(str::to_owned);
        let has_one = deployment != Deployment::Single || !hosts.contains(',');
        let has_database = database.is_none() || deployment != Deployment::Cluster;
        let addresses: Option<Vec<_>> = hosts
            .split(',')
            .map(|host| address(host, default_port))
            .collect();
        let servers = Self {
            deployment,
            addresses: addresses?,
            has_tls,
            user,
            database,
        };
        let is_complete = path.next().is_none() && has_one && has_database;
        (is_complete && servers.are_usable()).then_some(servers)
    }

    /// Whether the connections are encrypted.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// Returns the URL of the server with data at `address`.
    #[must_use]
    pub fn url_of(&self, address: &str) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@"));
        let database = self.database.as_deref().unwrap_or_default();
        let (scheme, user) = (self.scheme(), user.unwrap_or_default());
        format!("{scheme}://{user}{address}/{database}")
    }

    /// Returns the URL of the sentinel at `address`.
    #[must_use]
    pub fn url_of_sentinel(&self, address: &str) -> String {
        format!("{}://{address}", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        if self.has_tls { "rediss" } else { "redis" }
    }

    fn are_usable(&self) -> bool {
        let urls = self.addresses.iter().map(|address| self.url_of(address));
        let mut urls = urls.map(|url| Url::parse(&url));
        let is_number = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let has_name = match &self.deployment {
            Deployment::Sentinel { primary } => is_name(primary) && !primary.contains(['?', '#']),
            _ => true,
        };
        has_name
            && self.database.as_ref().is_none_or(is_number)
            && urls.all(|url| {
                url.is_ok_and(|url| {
                    url.password().is_none() && url.query().is_none() && url.fragment().is_none()
                })
            })
    }
}

impl fmt::Debug for RedisServers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RedisServers")
    }
}

/// Returns `HOST:PORT` of a host that may name a port.
fn address(host: &str, default_port: u16) -> Option<String> {
    let url = Url::parse(&format!("redis://{host}")).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.path().len() <= 1;
    let (name, port) = (url.host_str()?, url.port().unwrap_or(default_port));
    (is_bare && !name.is_empty()).then(|| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> RedisServers {
        RedisServers::parse(url).unwrap_or_else(|| panic!("{url}"))
    }

    #[test]
    fn one_server_has_a_user_a_port_and_a_database() {
        let servers = parsed("rediss://latchkey@redis.internal/3");
        assert_eq!(servers.deployment, Deployment::Single);
        assert!(servers.has_tls());
        assert_eq!(servers.addresses, ["redis.internal:6379"]);
        assert_eq!(
            servers.url_of(&servers.addresses[0]),
            "rediss://latchkey@redis.internal:6379/3"
        );
        assert_eq!(parsed("redis://[::1]:7000").addresses, ["[::1]:7000"]);
    }

    #[test]
    fn sentinels_name_the_primary_and_have_no_user() {
        let servers = parsed("redis+sentinel://latchkey@a,b:5000/main/2");
        let primary = "main".to_owned();
        assert_eq!(servers.deployment, Deployment::Sentinel { primary });
        assert_eq!(servers.addresses, ["a:26379", "b:5000"]);
        assert_eq!(servers.url_of("c:1"), "redis://latchkey@c:1/2");
        assert_eq!(servers.url_of_sentinel("a:26379"), "redis://a:26379");
    }

    #[test]
    fn a_cluster_has_some_of_its_nodes_and_no_database() {
        let servers = parsed("rediss+cluster://a:7000,b:7001/");
        assert_eq!(servers.deployment, Deployment::Cluster);
        assert!(servers.has_tls());
        assert_eq!(servers.addresses, ["a:7000", "b:7001"]);
    }

    #[test]
    fn other_texts_are_refused() {
        for url in [
            "hunter2",
            "unix:///run/redis.sock",
            "redis://",
            "redis://a,b",
            "redis://a/x",
            "redis://a/1/2",
            "redis://:hunter2@a",
            "redis://user:hunter2@a",
            "redis://a/?password=hunter2",
            "rediss://a/#insecure",
            "redis+sentinel://a,b",
            "redis+sentinel://a/main?password=hunter2",
            "redis+sentinel://:hunter2@a/main",
            "redis+sentinel://a,/main",
            "redis+cluster://a/1",
            "redis+cluster://user:hunter2@a,b",
            "redis+ring://a",
            "http+cluster://a",
        ] {
            assert!(RedisServers::parse(url).is_none(), "{url}");
        }
    }
}
