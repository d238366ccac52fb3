//! Opening a connection: TCP, TLS, and the greeting.

use std::sync::Arc;

use anyhow::Context as _;
use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisResult, Value, cmd};
use tokio::net::TcpStream;
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
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        stream.set_nodelay(true)?;
        let connection = match has_tls {
            true => {
                let stream = secure(stream, host, root_certificates).await?;
                Self::spawn(stream, receiver, limits)
            }
            false => Self::spawn(stream, receiver, limits),
        };
        connection.greet(info.redis_settings()).await?;
        Ok(connection)
    }

    /// Chooses the protocol, the user and the database.
    ///
    /// # Errors
    ///
    /// When the server refuses one of them.
    pub(in crate::cluster) async fn greet(
        &self,
        settings: &RedisConnectionInfo,
    ) -> RedisResult<()> {
        let mut hello = cmd("HELLO");
        hello.arg(PROTOCOL);
        if let Some(password) = settings.password() {
            let user = settings.username().unwrap_or("default");
            hello.arg("AUTH").arg(user).arg(password);
        }
        self.send(&hello).await?.extract_error()?;
        if settings.db() != 0 {
            let mut select = cmd("SELECT");
            select.arg(settings.db());
            let _: Value = self.send(&select).await?.extract_error()?;
        }
        Ok(())
    }
}

/// Opens a TLS connection over `stream`.
async fn secure(
    stream: TcpStream,
    host: &str,
    root_certificates: Option<&[u8]>,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
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
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.context("the host of the server is no name")?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}
