//! TLS: the certificate, which can be replaced while connections are open.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs::default_provider},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use crate::config::TlsSettings;

/// The certificate of the moment.
#[derive(Debug)]
pub struct Certificate {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    key: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Reads the files that the settings name; `None` when they name none.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, holds no PEM, or the two do not belong together.
    pub fn open(settings: &TlsSettings) -> anyhow::Result<Option<Arc<Self>>> {
        if !settings.is_on() {
            return Ok(None);
        }
        let provider = Arc::new(default_provider());
        let key = read(settings, &provider)?;
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            provider,
            key: ArcSwap::from_pointee(key),
        })))
    }

    /// Reads the files again. Connections that are open keep the certificate they have.
    ///
    /// # Errors
    ///
    /// When they cannot be used; the certificate from before is kept.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.key
            .store(Arc::new(read(&self.settings, &self.provider)?));
        Ok(())
    }

    /// What a listener needs: TLS 1.2 and 1.3 with this certificate, for HTTP/1.1 alone.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider cannot do these versions.
    pub fn acceptor(self: &Arc<Self>) -> anyhow::Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .context("cannot do TLS")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

fn read(settings: &TlsSettings, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(&bytes(&settings.cert_file)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .with_context(|| format!("{} holds no certificate", settings.cert_file.display()))?;
    // The error of the parser may show a piece of the key.
    let key = PrivateKeyDer::from_pem_slice(&bytes(&settings.key_file)?)
        .ok()
        .with_context(|| format!("{} holds no private key", settings.key_file.display()))?;
    CertifiedKey::from_der(chain, key, provider).context("certificate and key do not fit")
}

fn bytes(path: &Path) -> anyhow::Result<zeroize::Zeroizing<Vec<u8>>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(zeroize::Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate and its key, and gives the key as PEM.
    fn write_certificate(settings: &TlsSettings) -> String {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let key = made.signing_key.serialize_pem();
        fs::write(&settings.cert_file, made.cert.pem()).expect("written");
        fs::write(&settings.key_file, &key).expect("written");
        key
    }

    #[test]
    fn files_that_do_not_fit_are_refused_and_the_ones_from_before_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = TlsSettings {
            cert_file: directory.path().join("cert.pem"),
            key_file: directory.path().join("key.pem"),
        };
        let other = write_certificate(&settings);
        let good = write_certificate(&settings);
        let certificate = Certificate::open(&settings).expect("good files");
        let certificate = certificate.expect("TLS");
        let kept = certificate.key.load_full();
        let hidden = "-----BEGIN PRIVATE KEY-----\nhidden\n-----END PRIVATE KEY-----\n";
        for (bad, expected) in [
            ("", "holds no private key"),
            (hidden, "private key"),
            (&other, "certificate and key do not fit"),
        ] {
            fs::write(&settings.key_file, bad).expect("written");
            let error = format!("{:#}", certificate.reload().expect_err("another key"));
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hidden"), "{error}");
            assert!(Arc::ptr_eq(&certificate.key.load_full(), &kept));
        }
        fs::write(&settings.key_file, good).expect("written");
        certificate.reload().expect("the good ones again");
        assert!(!Arc::ptr_eq(&certificate.key.load_full(), &kept));
        let none = Certificate::open(&TlsSettings::default());
        assert!(none.expect("nothing").is_none());
    }
}
