//! Opening a connection: TCP, TLS, and the greeting.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use futures_util::future::select_ok;
use redis::{
    ConnectionAddr, ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError, Value, cmd,
};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::{Connection, Limits, Receiver};

/// The protocol version: push messages come with RESP3.
const PROTOCOL: u8 = 3;

/// Error text for a server that does not know `HELLO`.
const NO_RESP3: &str = "the server does not speak RESP3; Redis 6 or later is needed";

impl Connection {
    /// Connects to the server that `info` names. `root_certificates` is a PEM text; without it, the certificates of
    /// the system verify the server's.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or refuses the user or the database.
    pub(in crate::cluster) async fn open(
        info: &ConnectionInfo,
        root_certificates: Option<&[u8]>,
        receiver: impl Receiver,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let (host, port, has_tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host, *port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
            _ => anyhow::bail!("cluster.url is no address of TCP"),
        };
        let host = host.trim_matches(['[', ']']);
        let addresses = lookup_host((host, port)).await?.collect();
        let connection = match has_tls {
            true => {
                let (tls, name) = (tls_connector(root_certificates)?, server_name(host)?);
                let connect = |address| {
                    let (tls, name) = (tls.clone(), name.clone());
                    async move { tls.connect(name, connect(address).await?).await }
                };
                Self::spawn(connect_any(addresses, connect).await?, receiver, limits)
            }
            false => Self::spawn(connect_any(addresses, connect).await?, receiver, limits),
        };
        connection.greet(info.redis_settings()).await?;
        Ok(connection)
    }

    /// Chooses the protocol, the user and the database.
    ///
    /// # Errors
    ///
    /// When the server refuses one of them. The error does not repeat the password.
    pub(in crate::cluster) async fn greet(
        &self,
        settings: &RedisConnectionInfo,
    ) -> anyhow::Result<()> {
        let mut hello = cmd("HELLO");
        hello.arg(PROTOCOL);
        if let Some(password) = settings.password() {
            let user = settings.username().unwrap_or("default");
            hello.arg("AUTH").arg(user).arg(password);
        }
        let answer = self.send(&hello).await?;
        answer.extract_error().map_err(greeting_error)?;
        if settings.db() != 0 {
            let mut select = cmd("SELECT");
            select.arg(settings.db());
            let _: Value = self.send(&select).await?.extract_error()?;
        }
        Ok(())
    }
}

/// Returns the error of a refused greeting without the text of the server, which may repeat the password: a server
/// that does not know `HELLO` answers with its arguments.
pub(in crate::cluster) fn greeting_error(error: RedisError) -> anyhow::Error {
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::Io => error.into(),
        ErrorKind::RESP3NotSupported => anyhow::anyhow!(NO_RESP3),
        _ if repeats_arguments(&error) => anyhow::anyhow!(NO_RESP3),
        _ if detail == "max number of clients reached" => {
            anyhow::anyhow!("the server has as many clients as its setting maxclients allows")
        }
        _ => {
            let code = error.code().unwrap_or(error.category());
            anyhow::anyhow!("the server refused the greeting: {code}")
        }
    }
}

/// Whether the text of an error repeats the arguments of a command that the server does not know.
pub(in crate::cluster) fn repeats_arguments(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with("unknown command")
}

/// Connects to all addresses at the same time, and returns the first connection that is open.
///
/// # Errors
///
/// The error of the last address to fail.
async fn connect_any<T, Connecting: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> Connecting,
) -> io::Result<T> {
    if addresses.is_empty() {
        return Err(io::Error::other("the host of the server has no address"));
    }
    let connecting = addresses
        .into_iter()
        .map(|address| Box::pin(connect(address)));
    let (stream, _) = select_ok(connecting).await?;
    Ok(stream)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn tls_connector(root_certificates: Option<&[u8]>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match root_certificates {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate?)?;
            }
        }
        None => {
            let certificates = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(certificates);
        }
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

fn server_name(host: &str) -> anyhow::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).context("the host of the server is no name")
}

#[cfg(test)]
mod tests;
