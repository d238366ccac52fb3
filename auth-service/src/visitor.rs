//! Who asks: where a request comes from, and what the device calls itself.

use std::{
    future::{Ready, ready},
    net::{IpAddr, Ipv4Addr},
};

use actix_web::{
    FromRequest, HttpRequest, dev,
    http::header::{self, HeaderMap},
    web,
};
use ipnet::IpNet;

use crate::{error::ApiError, state::AppState};

/// The header in which a proxy says whom it speaks for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The longest name of a device that is kept, in characters.
const MAXIMUM_DEVICE_CHARACTERS: usize = 200;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// Where the request comes from.
    pub(crate) address: IpAddr,
    /// What the device calls itself, shortened, and without characters that hide or reorder text.
    pub(crate) device: String,
}

impl FromRequest for Visitor {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let peer = request.peer_addr().map(|peer| peer.ip());
        let trusted = request
            .app_data::<web::Data<AppState>>()
            .map_or(&[][..], |state| &state.settings().trusted_proxies);
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        ready(Ok(Self {
            address: origin_of(
                peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                request.headers(),
                trusted,
            ),
            device: shorten(agent.unwrap_or_default()),
        }))
    }
}

/// Where a request comes from. Each proxy adds to `X-Forwarded-For` whom it heard from, so the list
/// is read from its end, as long as whoever wrote there is trusted. No other header is read: only
/// one of them can be what the proxy in front of us writes.
fn origin_of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut origin = peer.to_canonical();
    let lines: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !is_trusted(&origin) {
            break;
        }
        // What is no address was written by nobody whom we trust.
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        origin = address.to_canonical();
    }
    origin
}

fn shorten(agent: &str) -> String {
    agent
        .chars()
        .filter(|character| character.is_ascii_graphic() || *character == ' ')
        .take(MAXIMUM_DEVICE_CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn origin(peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/64"]
            .map(|text| text.parse().expect("a network"))
            .to_vec();
        let request = headers.iter().fold(TestRequest::get(), |request, header| {
            request.append_header(*header)
        });
        let peer = peer.parse().expect("an address");
        origin_of(peer, request.to_http_request().headers(), &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed_and_a_trusted_proxy_is() {
        let says = [("x-forwarded-for", "192.0.2.1")];
        assert_eq!(origin("198.51.100.1", &says), "198.51.100.1");
        assert_eq!(origin("10.0.0.1", &says), "192.0.2.1");
        assert_eq!(origin("::ffff:10.0.0.1", &says), "192.0.2.1");
        assert_eq!(origin("2001:db8::1", &says), "192.0.2.1");
        assert_eq!(origin("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_counts() {
        for (lines, expected) in [
            (
                &[("x-forwarded-for", "203.0.113.9, 192.0.2.1")][..],
                "192.0.2.1",
            ),
            (
                &[("x-forwarded-for", "203.0.113.9, 192.0.2.1, 10.1.1.1")],
                "192.0.2.1",
            ),
            (
                &[
                    ("x-forwarded-for", "203.0.113.9"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
                "192.0.2.1",
            ),
            (&[("x-forwarded-for", "192.0.2.1, rubbish")], "10.0.0.1"),
            (&[("x-forwarded-for", "rubbish, 10.1.1.1")], "10.1.1.1"),
            (&[("x-forwarded-for", "")], "10.0.0.1"),
            (
                &[
                    ("forwarded", "for=192.0.2.1"),
                    ("x-real-ip", "192.0.2.1"),
                    ("cf-connecting-ip", "192.0.2.1"),
                ],
                "10.0.0.1",
            ),
        ] {
            assert_eq!(origin("10.0.0.1", lines), expected, "{lines:?}");
        }
    }
}
