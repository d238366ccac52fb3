//! The resolver of back ends' names, which leaves out addresses in denied networks.
//!
//! A connection is opened to an address that the resolver returned, so that a name that changes its
//! addresses between a check and the connection cannot lead elsewhere. Addresses that stand in a URL
//! itself are checked with the settings.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower::Service;

use crate::config::is_denied;

/// A resolver that returns no address in `denied`.
#[derive(Clone)]
pub(super) struct AllowedAddresses {
    denied: Arc<[IpNet]>,
}

impl AllowedAddresses {
    pub(super) fn new(denied: &[IpNet]) -> Self {
        Self {
            denied: denied.into(),
        }
    }
}

/// Finds the addresses of a name, with any port, that are in no network in `denied`.
async fn resolve(denied: Arc<[IpNet]>, name: &str) -> io::Result<vec::IntoIter<SocketAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    let allowed: Vec<_> = found.filter(|one| !is_denied(&denied, one.ip())).collect();
    if allowed.is_empty() {
        let problem = "every address of the name is in backend_deny_networks";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    Ok(allowed.into_iter())
}

/// For connections with TLS.
impl Resolve for AllowedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let denied = self.denied.clone();
        Box::pin(async move {
            let allowed = resolve(denied, name.as_str()).await?;
            Ok(Box::new(allowed) as Addrs)
        })
    }
}

/// For connections without TLS.
impl Service<dns::Name> for AllowedAddresses {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        let denied = self.denied.clone();
        Box::pin(async move { resolve(denied, name.as_str()).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether both resolvers find an address of this machine.
    async fn resolves(denied: &[&str]) -> bool {
        let denied: Vec<IpNet> = denied
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect();
        let mut addresses = AllowedAddresses::new(&denied);
        let with_tls = addresses
            .resolve("localhost".parse().expect("a name"))
            .await;
        let without_tls = addresses.call("localhost".parse().expect("a name")).await;
        assert_eq!(with_tls.is_ok(), without_tls.is_ok());
        with_tls.is_ok()
    }

    #[tokio::test]
    async fn a_name_does_not_lead_into_a_denied_network() {
        assert!(resolves(&["10.0.0.0/8"]).await);
        assert!(!resolves(&["127.0.0.0/8", "::1/128"]).await);
    }

    #[test]
    fn an_address_is_denied_in_each_of_its_forms() {
        let usual = crate::config::usual_denied_networks();
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "fe80::1",
            "fd00:ec2::254",
        ] {
            assert!(
                is_denied(&usual, address.parse().expect("an address")),
                "{address}"
            );
        }
        for address in [
            "169.253.169.254",
            "64:ff9b::100.100.100.201",
            "10.0.0.1",
            "127.0.0.1",
            "::1",
            "fd00:ec2::255",
        ] {
            assert!(
                !is_denied(&usual, address.parse().expect("an address")),
                "{address}"
            );
        }
    }
}
