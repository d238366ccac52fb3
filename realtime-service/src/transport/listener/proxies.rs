//! The proxies that are believed whom they speak for.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;
use shared_claims::{
    address::is_trusted,
    forwarded::{ForwardedHeader, ReportInterval, client_of},
};
use tokio::time::Instant;

use crate::config::Config;

/// The proxies that are believed whom they speak for, and the header in which they name the client.
pub struct Proxies {
    networks: Box<[IpNet]>,
    header: ForwardedHeader,
    started_at: Instant,
    reports: ReportInterval,
}

impl Proxies {
    /// The proxies of a gateway with these settings.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::new(&config.trusted_proxies, config.forwarded_header)
    }

    /// The proxies of `networks`, which name the client in `header`.
    #[must_use]
    pub fn new(networks: &[IpNet], header: ForwardedHeader) -> Self {
        Self {
            networks: networks.into(),
            header,
            started_at: Instant::now(),
            reports: ReportInterval::default(),
        }
    }

    /// Whether `address` is that of a proxy.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        is_trusted(address, &self.networks)
    }

    /// Returns the address of the client that a request of `peer` with these headers comes from. A header
    /// that cannot be parsed is logged, one a minute at most.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values = headers.get_all(self.header.name()).iter();
        let values = values.map(|value| value.as_bytes());
        let client = client_of(peer, self.header, values, &self.networks);
        if client.is_malformed && self.reports.is_due(self.started_at.elapsed().as_secs()) {
            tracing::warn!(
                proxy = %client.address,
                header = self.header.name(),
                "a trusted proxy sends a header that cannot be parsed; its clients share one limit"
            );
        }
        client.address
    }
}

impl Default for Proxies {
    /// No proxies.
    fn default() -> Self {
        Self::new(&[], ForwardedHeader::default())
    }
}
