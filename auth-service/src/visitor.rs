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
use shared_claims::address::{FORWARDED_FOR, client_address};

use crate::{error::ApiError, state::AppState};

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

/// Where a request comes from, as [`client_address`] has it.
fn origin_of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let values: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    client_address(peer, values.into_iter(), trusted)
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
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let request = headers.iter().fold(TestRequest::get(), |request, header| {
            request.append_header(*header)
        });
        let peer = peer.parse().expect("an address");
        origin_of(peer, request.to_http_request().headers(), &trusted).to_string()
    }

    #[test]
    fn the_lines_of_the_one_header_are_read_and_no_other_header() {
        for (lines, expected) in [
            (&[("x-forwarded-for", "192.0.2.1")][..], "192.0.2.1"),
            (
                &[
                    ("x-forwarded-for", "203.0.113.9"),
                    ("x-forwarded-for", "192.0.2.1, 10.1.1.1"),
                ],
                "192.0.2.1",
            ),
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
        assert_eq!(
            origin("198.51.100.1", &[("x-forwarded-for", "192.0.2.1")]),
            "198.51.100.1"
        );
    }
}
