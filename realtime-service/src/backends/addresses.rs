//! The resolver of back ends' names, which leaves out addresses in denied networks.
//!
//! A connection is opened to an address that the resolver returned, so that a name that changes its
//! addresses between a check and the connection cannot lead elsewhere. Addresses that stand in a URL
//! itself are checked with the settings.

use std::{io, sync::Arc};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::is_denied;

/// A resolver that returns no address in `denied`.
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

impl Resolve for AllowedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let denied = self.denied.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = found.filter(|one| !is_denied(&denied, one.ip())).collect();
            if allowed.is_empty() {
                let problem = "every address of the name is in backend_deny_networks";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolves(denied: &[&str]) -> bool {
        let denied: Vec<IpNet> = denied
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect();
        let name = "localhost".parse().expect("a name");
        AllowedAddresses::new(&denied).resolve(name).await.is_ok()
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
