//! A gateway that speaks TLS, and clients that know its certificate.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use reqwest::Client;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

/// A connection, in the clear or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A certificate for this machine that signs itself, and its key.
pub struct Certificate {
    directory: TempDir,
    pem: String,
}

impl Default for Certificate {
    fn default() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let this = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            pem: made.cert.pem(),
        };
        std::fs::write(this.cert_file(), &this.pem).expect("a written file");
        std::fs::write(this.key_file(), made.signing_key.serialize_pem()).expect("a written file");
        this
    }
}

impl Certificate {
    /// The file with the certificate.
    #[must_use]
    pub fn cert_file(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// The file with its key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Does the handshakes of a server with this certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(self.key_file()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a certificate with its key");
        TlsAcceptor::from(Arc::new(config))
    }

    /// What clients of the gateway know.
    #[must_use]
    pub fn root(&self) -> Root {
        Root(Some(self.pem.clone()))
    }
}

/// The one certificate that clients know, or none: then they speak in the clear.
#[derive(Clone, Debug, Default)]
pub struct Root(Option<String>);

impl Root {
    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.0.is_some() { "https" } else { "http" }
    }

    /// A client for HTTP, from an address of this machine.
    pub(crate) fn http(&self, from: Option<IpAddr>) -> Client {
        let builder = Client::builder().local_address(from);
        let builder = match &self.0 {
            None => builder,
            Some(pem) => {
                let certificate = reqwest::Certificate::from_pem(pem.as_bytes());
                builder.tls_certs_only([certificate.expect("a certificate")])
            }
        };
        builder.build().expect("an HTTP client")
    }

    /// What does the TLS handshake, with these protocols in ALPN; `None` in the clear.
    ///
    /// # Panics
    ///
    /// When no client can be made.
    #[must_use]
    pub fn connector(&self, protocols: &[&str]) -> Option<TlsConnector> {
        let pem = self.0.as_ref()?;
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        roots.add(certificate).expect("a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        Some(TlsConnector::from(Arc::new(config)))
    }

    pub(crate) async fn wrap(&self, tcp: TcpStream) -> std::io::Result<Box<dyn Stream>> {
        match self.connector(&["http/1.1"]) {
            None => Ok(Box::new(tcp)),
            Some(connector) => {
                let name = ServerName::try_from("localhost").expect("a name");
                Ok(Box::new(connector.connect(name, tcp).await?))
            }
        }
    }
}
