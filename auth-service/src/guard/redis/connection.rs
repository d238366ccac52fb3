//! Connections to the Redis servers that the settings name: one server, the primary that sentinels name, or
//! a Redis Cluster.

use anyhow::Context as _;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _,
    RedisError, RedisResult, ScriptInvocation, TlsCertificates, TlsMode,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use shared_claims::redis_servers::{Deployment, RedisServers};

use crate::config::ClusterSettings;

/// A connection. Clones share it, and their requests are pipelined.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To the servers of a Redis Cluster.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Runs a script, which is loaded when the server does not have it.
    pub(super) async fn invoke<T: FromRedisValue>(
        &mut self,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        match self {
            Self::Server(connection) => script.invoke_async(connection).await,
            Self::Cluster(connection) => script.invoke_async(connection).await,
        }
    }
}

/// Connects to the servers of the settings.
pub(super) struct Connector {
    settings: ClusterSettings,
    servers: RedisServers,
    /// The PEM text of `cluster.ca_file`.
    root_certificates: Option<Vec<u8>>,
}

impl Connector {
    /// Reads the files of the settings. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// When the URL, a password or the certificates cannot be used.
    pub(super) fn open(settings: &ClusterSettings) -> anyhow::Result<Self> {
        let servers = settings.servers();
        let ca_file = Some(&settings.ca_file).filter(|file| !file.as_os_str().is_empty());
        let root_certificates = ca_file.map(std::fs::read).transpose();
        let connector = Self {
            servers: servers.context("cluster.url is no URL of Redis servers")?,
            root_certificates: root_certificates.context("cluster.ca_file")?,
            settings: settings.clone(),
        };
        match &connector.servers.deployment {
            Deployment::Single => drop(connector.server()?),
            Deployment::Sentinel { primary } => drop(connector.sentinels(primary)?),
            Deployment::Cluster => drop(connector.cluster()?),
        }
        Ok(connector)
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When no server can be reached, or a password is refused.
    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let limit = Some(self.settings.timeout());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(limit)
            .set_response_timeout(limit);
        Ok(match &self.servers.deployment {
            Deployment::Single => {
                let client = self.server()?;
                let connecting = client.get_multiplexed_async_connection_with_config(&config);
                Connection::Server(connecting.await.map_err(connection_error)?)
            }
            Deployment::Sentinel { primary } => {
                let mut client = self.sentinels(primary)?;
                let connecting = client.get_async_connection_with_config(&config);
                Connection::Server(connecting.await.map_err(connection_error)?)
            }
            Deployment::Cluster => {
                let connected = self.cluster()?.get_async_connection().await;
                Connection::Cluster(connected.map_err(connection_error)?)
            }
        })
    }

    fn server(&self) -> anyhow::Result<Client> {
        let mut info = self.info(&self.servers.addresses[0])?;
        if let Some(password) = self.password()? {
            let settings = info.redis_settings().clone().set_password(&*password);
            info = info.set_redis_settings(settings);
        }
        let client = match self.servers.has_tls() {
            true => Client::build_with_tls(info, self.certificates()),
            false => Client::open(info),
        };
        client.context("cluster.url")
    }

    fn sentinels(&self, primary: &str) -> anyhow::Result<SentinelClient> {
        let mut sentinels = Vec::new();
        for address in &self.servers.addresses {
            sentinels.push(self.info(address)?.addr().clone());
        }
        let info = self.info(&self.servers.addresses[0])?;
        let mut builder =
            SentinelClientBuilder::new(sentinels, primary, SentinelServerType::Master)?
                .set_client_to_redis_db(info.redis_settings().db());
        if let Some(user) = info.redis_settings().username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = self.password()? {
            builder = builder.set_client_to_redis_password(&*password);
        }
        let password = self.settings.sentinel_password();
        if let Some(password) = password.context("cluster.sentinel_password_file")? {
            builder = builder.set_client_to_sentinel_password(&*password);
        }
        if self.servers.has_tls() {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(self.certificates())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(self.certificates());
        }
        builder.build().context("cluster.url")
    }

    fn cluster(&self) -> anyhow::Result<ClusterClient> {
        let mut nodes = Vec::new();
        for address in &self.servers.addresses {
            nodes.push(self.info(address)?);
        }
        let limit = self.settings.timeout();
        let mut builder = ClusterClientBuilder::new(nodes)
            .connection_timeout(limit)
            .response_timeout(limit)
            .overall_response_timeout(Some(limit))
            // A slot that moves is followed; a server that is away is left to the next connection.
            .retries(2)
            .min_retry_wait(10)
            .max_retry_wait(50);
        if let Some(password) = self.password()? {
            builder = builder.password(&*password);
        }
        if self.servers.has_tls() {
            builder = builder.certs(self.certificates());
        }
        builder.build().context("cluster.url")
    }

    fn info(&self, address: &str) -> anyhow::Result<ConnectionInfo> {
        let info = self.servers.url_of(address).into_connection_info();
        // The error could repeat the URL.
        info.map_err(|_| anyhow::anyhow!("cluster.url is no URL of Redis servers"))
    }

    fn password(&self) -> anyhow::Result<Option<zeroize::Zeroizing<String>>> {
        self.settings.password().context("cluster.password_file")
    }

    fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: None,
            root_cert: self.root_certificates.clone(),
        }
    }
}

/// Returns the error of a connection that failed, without the text of a server that does not know a command: it
/// repeats the arguments, of which one may be the password.
fn connection_error(error: RedisError) -> anyhow::Error {
    match error.detail() {
        Some(detail) if detail.contains("unknown command") => {
            anyhow::anyhow!("the server does not know a command of the login")
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use redis::ServerErrorKind;

    use super::*;

    #[test]
    fn the_error_of_a_login_does_not_repeat_the_password() {
        for (detail, is_told) in [
            (
                "unknown command 'AUTH', with args beginning with: 'PASSWORD' ",
                false,
            ),
            (
                "unknown command `AUTH`, with args beginning with: `PASSWORD`, ",
                false,
            ),
            ("invalid username-password pair or user is disabled.", true),
        ] {
            let error = RedisError::from((
                ServerErrorKind::ResponseError.into(),
                "the server refused",
                detail.to_owned(),
            ));
            let text = format!("{:#}", connection_error(error));
            assert_eq!(text.contains(detail), is_told, "{text}");
        }
    }
}
