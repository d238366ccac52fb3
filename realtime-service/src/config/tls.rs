//! TLS of the listener for clients.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// TLS of the listener for clients. Without it a proxy in front has to speak it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM file with the certificate, followed by its intermediate certificates. Together with
    /// `tls.key_file` it turns TLS on. `REALTIME__TLS__CERT_FILE`, default ``.
    pub cert_file: PathBuf,
    /// PEM file with the private key of the certificate. `REALTIME__TLS__KEY_FILE`, default ``.
    pub key_file: PathBuf,
}

impl TlsSettings {
    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let has_key = !self.key_file.as_os_str().is_empty();
        let rule = "must be set with tls.cert_file, or neither of them";
        check("tls.key_file", has_key == self.is_on(), rule)
    }
}
