//! How addresses are counted, and which networks are trusted.
//!
//! Both services stand behind the same proxies, and a limit of one must mean the same client as a
//! limit of the other.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;

/// An address as limits count it: IPv6 by its /64, which is what one customer is given and can
/// choose from at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(IpAddr);

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

impl From<AddressKey> for IpAddr {
    fn from(key: AddressKey) -> Self {
        key.0
    }
}

/// An IPv6 address by its /48, the site that one customer is given at most: counted beside its /64, so
/// that 65,536 of those are not as many lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteKey(Ipv6Addr);

impl SiteKey {
    /// Returns the site of an address; `None` for IPv4, whose addresses are counted one by one.
    #[must_use]
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                Some(Self(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
            }
            IpAddr::V4(_) => None,
        }
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for SiteKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Whether `address` is in one of the `trusted` networks.
#[must_use]
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The networks that `texts` name; an address alone is one of itself. `None` when a text is neither.
#[must_use]
pub fn parse_networks<T: AsRef<str>>(texts: &[T]) -> Option<Vec<IpNet>> {
    let parse = |text: &T| {
        let text = text.as_ref();
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(address)
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> AddressKey {
        address.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn ipv6_counts_by_its_64_bit_prefix_and_mapped_ipv4_as_ipv4() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }

    #[test]
    fn a_site_is_an_ipv6_prefix_of_48_bits() {
        let site = |address: &str| SiteKey::of(address.parse().expect("an address"));
        assert_eq!(site("2001:db8:1:2::1"), site("2001:db8:1:ffff::1"));
        assert_ne!(site("2001:db8:1::1"), site("2001:db8:2::1"));
        assert_eq!(site("192.0.2.1"), None);
        assert_eq!(site("::ffff:192.0.2.1"), None);
    }

    #[test]
    fn a_network_is_a_prefix_or_one_address() {
        let networks = parse_networks(&["10.0.0.0/8", "192.0.2.1", "::1"]).expect("networks");
        assert_eq!(networks[1].to_string(), "192.0.2.1/32");
        assert_eq!(networks[2].to_string(), "::1/128");
        for bad in ["", "10.0.0.0/33", "localhost", "10.0.0.1:80"] {
            assert_eq!(parse_networks(&[bad]), None, "{bad}");
        }
    }
}
