//! The HTTP client of one back end: posts a request that is processed once at most, and returns the answer as it
//! arrives.
//!
//! Requests to an `http` URL are HTTP/1.1 on connections of our own ([`plain`]). Requests to an `https`
//! URL are HTTP/1.1 or HTTP/2 on those of reqwest ([`tls`]). Neither follows a redirect, uses a proxy of
//! the environment, or connects to an address in a denied network.

mod plain;
mod tls;

use std::{error::Error, time::Duration};

use axum::body::Bytes;
use http::{HeaderMap, StatusCode};
use ipnet::IpNet;
use reqwest::Url;

use self::{plain::PlainClient, tls::TlsClient};
use super::{CallError, Failure};
use crate::config::BackendSettings;

/// Maximum time until a connection is open.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Time for which an unused connection is kept: less than the 5 s after which servers in Node and
/// Python close one, so that no request is written to a connection that is about to end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A setting that cannot work, and its fault.
pub(super) type Problem = (&'static str, String);

/// The client of one back end, by the scheme of the URL.
pub(super) enum Client {
    /// `http`.
    Plain(PlainClient),
    /// `https`.
    Tls(TlsClient),
}

/// The answer to one request, whose body is read in chunks.
pub(super) enum Answer {
    /// From a connection without TLS.
    Plain(plain::Answer),
    /// From a connection with TLS.
    Tls(reqwest::Response),
}

impl Client {
    /// Builds the client. No connection is opened.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be used. The files of certificates are read for either scheme.
    pub(super) fn new(settings: &BackendSettings, denied: &[IpNet]) -> Result<Self, Problem> {
        // The settings were checked.
        let url = Url::parse(&settings.url).map_err(|error| ("url", error.to_string()))?;
        let tls = TlsClient::new(settings, denied, url.clone())?;
        match url.scheme() {
            "https" => Ok(Self::Tls(tls)),
            _ => PlainClient::new(&url, denied).map(Self::Plain),
        }
    }

    /// Posts one request, and returns the answer when its head has arrived. A request of which something was
    /// written is not sent again over HTTP/1.1. Over HTTP/2 it is, after a `REFUSED_STREAM` or a `GOAWAY` by which
    /// the server says that it has not processed the request (RFC 9113, section 8.7). Dropping the future, or the
    /// answer before its end, closes the connection unless other requests share it.
    ///
    /// # Errors
    ///
    /// When there is no connection, or it fails.
    pub(super) async fn post(
        &self,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, CallError> {
        match self {
            Self::Plain(plain) => plain.post(headers, body).await.map(Answer::Plain),
            Self::Tls(tls) => tls.post(headers, body).await.map(Answer::Tls),
        }
    }
}

impl Answer {
    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Plain(answer) => answer.status(),
            Self::Tls(answer) => answer.status(),
        }
    }

    /// The headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Plain(answer) => answer.headers(),
            Self::Tls(answer) => answer.headers(),
        }
    }

    /// Waits for the next part of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the connection fails before the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        match self {
            Self::Plain(answer) => answer.chunk().await,
            Self::Tls(answer) => answer.chunk().await.map_err(tls::failure),
        }
    }
}

/// Returns the failure of a request without an answer. The reason names the step and its innermost cause,
/// and no URL.
fn unreachable(step: &str, error: &(dyn Error + 'static)) -> CallError {
    let mut source = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    CallError::temporary(Failure::Failed, format!("{step}: {source}"))
}

/// The step of a request that fails before there is a connection.
const CONNECTING: &str = "cannot connect";

/// The step of a request that fails on its connection.
const CONNECTED: &str = "the connection failed";
