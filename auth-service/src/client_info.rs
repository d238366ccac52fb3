//! The client of a request: its address, and the name that the device gives itself.

use std::{
    future::{Ready, ready},
    net::{IpAddr, Ipv4Addr},
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{
    FromRequest, HttpRequest, dev,
    http::header::{self, HeaderMap},
    web,
};
use ipnet::IpNet;
use shared_claims::forwarded::{ClientAddress, ForwardedHeader, client_of};

use crate::{error::ApiError, state::AppState};

/// The longest name of a device that is kept, in characters.
const MAXIMUM_DEVICE_CHARACTERS: usize = 200;

/// The client of a request.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    /// Where the request comes from.
    pub(crate) address: IpAddr,
    /// Name that the device gives itself, shortened, and without characters that hide or reorder text.
    pub(crate) device: String,
}

impl FromRequest for ClientInfo {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let peer = request.peer_addr().map(|peer| peer.ip());
        let state = request.app_data::<web::Data<AppState>>();
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let address = state.map_or(peer, |state| {
            let settings = state.settings();
            let client = client(
                peer,
                request.headers(),
                settings.forwarded_header,
                &settings.trusted_proxies,
            );
            if client.is_malformed {
                report(state, client);
            }
            client.address
        });
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        ready(Ok(Self {
            address,
            device: shorten(agent.unwrap_or_default()),
        }))
    }
}

/// The client of a request, as [`client_of`] finds it in the `header`.
fn client(
    peer: IpAddr,
    headers: &HeaderMap,
    header: ForwardedHeader,
    trusted: &[IpNet],
) -> ClientAddress {
    let values: Vec<&[u8]> = headers
        .get_all(header.name())
        .map(|value| value.as_bytes())
        .collect();
    client_of(peer, header, values.into_iter(), trusted)
}

/// Tells the operator, once a minute, of a proxy whose header cannot be parsed.
fn report(state: &AppState, client: ClientAddress) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let secs = since.map_or(0, |since| since.as_secs());
    if state.malformed_headers().is_due(secs) {
        tracing::warn!(
            proxy = %client.address,
            header = state.settings().forwarded_header.name(),
            "a trusted proxy sends a header that cannot be parsed; all of its clients share one limit"
        );
    }
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

    fn origin(
        peer: &str,
        header: ForwardedHeader,
        headers: &[(&'static str, &'static str)],
    ) -> String {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let request = headers.iter().fold(TestRequest::get(), |request, header| {
            request.append_header(*header)
        });
        let peer = peer.parse().expect("an address");
        let request = request.to_http_request();
        client(peer, request.headers(), header, &trusted)
            .address
            .to_string()
    }

    const BOTH: [(&str, &str); 4] = [
        ("x-forwarded-for", "192.0.2.1:443, 10.1.1.1"),
        ("forwarded", "for=\"[2001:db8::1]:443\""),
        ("x-real-ip", "192.0.2.3"),
        ("cf-connecting-ip", "192.0.2.4"),
    ];

    #[test]
    fn the_lines_of_the_one_header_are_read_and_no_other_header() {
        let (default, other) = (ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded);
        let lines = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "192.0.2.1, 10.1.1.1"),
        ];
        assert_eq!(origin("10.0.0.1", default, &lines), "192.0.2.1");
        assert_eq!(origin("10.0.0.1", default, &BOTH), "192.0.2.1");
        assert_eq!(origin("10.0.0.1", other, &BOTH), "2001:db8::1");
        assert_eq!(origin("10.0.0.1", default, &BOTH[1..]), "10.0.0.1");
        assert_eq!(origin("198.51.100.1", default, &BOTH), "198.51.100.1");
    }
}
