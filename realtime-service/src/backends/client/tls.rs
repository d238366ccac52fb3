//! HTTP/1.1 and HTTP/2 over TLS, by reqwest.

use std::{fs, path::Path, time::Duration};

use http::HeaderMap;
use ipnet::IpNet;
use reqwest::{Certificate, Client, Identity, Response, Url, redirect::Policy, tls::Version};
use zeroize::Zeroizing;

use super::{CONNECT_DEADLINE, CONNECTED, CONNECTING, IDLE_TIMEOUT, Problem, unreachable};
use crate::{
    backends::{CallError, addresses::AllowedAddresses},
    config::BackendSettings,
};

/// Pause between two pings of an HTTP/2 connection with requests under way, and the time that an
/// answer to one may take. All requests share the connection, and none should wait for a dead one.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A client with TLS.
pub(in crate::backends) struct TlsClient {
    client: Client,
    url: Url,
}

impl TlsClient {
    /// Builds the client of the back end with this `url`.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be used.
    pub(super) fn new(
        settings: &BackendSettings,
        denied: &[IpNet],
        url: Url,
    ) -> Result<Self, Problem> {
        let client = client_of(settings, denied)?;
        Ok(Self { client, url })
    }

    /// Posts one request.
    ///
    /// # Errors
    ///
    /// See [`super::Client::post`].
    pub(super) async fn post(
        &self,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, CallError> {
        let request = self.client.post(self.url.clone());
        let sent = request.headers(headers).body(body).send().await;
        sent.map_err(failure)
    }
}

/// Returns the failure of a request without an answer.
pub(super) fn failure(error: reqwest::Error) -> CallError {
    let step = match error.is_connect() {
        true => CONNECTING,
        false => CONNECTED,
    };
    unreachable(step, &error.without_url())
}

/// Builds the client of reqwest. It follows no redirect, uses no proxy of the environment, and connects to
/// no address in `denied`.
fn client_of(settings: &BackendSettings, denied: &[IpNet]) -> Result<Client, Problem> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .dns_resolver(AllowedAddresses::new(denied))
        .tls_version_min(Version::TLS_1_2)
        .connect_timeout(CONNECT_DEADLINE)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(settings.concurrency)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_INTERVAL);
    if is_set(&settings.ca_file) {
        let pem = read("ca_file", &settings.ca_file)?;
        let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(("ca_file", "holds no certificate in PEM".to_owned()));
        }
        builder = builder.tls_certs_only(authorities);
    }
    if is_set(&settings.client_cert_file) {
        let mut pem = read("client_cert_file", &settings.client_cert_file)?;
        let key = read("client_key_file", &settings.client_key_file)?;
        pem.push(b'\n');
        pem.extend_from_slice(&key);
        // The error of the parser may show a piece of the key.
        let identity = Identity::from_pem(&pem).map_err(|_| {
            let problem = "holds no certificate in PEM, or client_key_file no private key";
            ("client_cert_file", problem.to_owned())
        })?;
        builder = builder.identity(identity);
    }
    let client = builder.build();
    client.map_err(|_| {
        (
            "client_cert_file",
            "certificate and key do not fit".to_owned(),
        )
    })
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn read(setting: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let bytes = fs::read(path);
    let bytes = bytes.map_err(|error| (setting, format!("cannot be read: {}", error.kind())))?;
    Ok(Zeroizing::new(bytes))
}
