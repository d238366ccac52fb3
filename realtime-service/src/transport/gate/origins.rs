//! The origin of a request: of a listed page, of the gateway itself, or of somebody else's page.
//!
//! Browsers do not apply the same-origin policy to WebSockets, so it is applied here, to every request
//! (RFC 6455, section 10.2).

use http::{HeaderMap, HeaderValue, header};
use shared_claims::{forwarded::ReportInterval, origin::OriginList};
use tokio::time::Instant;

use crate::transport::listener::Connection;

/// The header in which a proxy tells the `Host` that its client has asked for.
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Schemes in which clients name the server as the origin, each with its default port.
const SCHEMES: [(&str, &str); 4] = [
    ("http://", ":80"),
    ("https://", ":443"),
    ("ws://", ":80"),
    ("wss://", ":443"),
];

/// The origins of a gateway.
pub(super) struct Origins {
    listed: OriginList,
    started_at: Instant,
    reports: ReportInterval,
}

/// The origin of a request that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// None: the client is no page.
    Absent,
    /// A page of the list, whose cookies count.
    Listed,
    /// The gateway's own, as the client has asked for it. Clients outside of browsers name it: a page
    /// that does has a name of its own for this address, so its cookies do not count.
    Own,
}

impl Origins {
    pub(super) fn new(listed: OriginList) -> Self {
        Self {
            listed,
            started_at: Instant::now(),
            reports: ReportInterval::default(),
        }
    }

    /// Returns the origin of a request with these headers, by `connection`.
    ///
    /// # Errors
    ///
    /// The origin of a page that may not connect.
    pub(super) fn of(
        &self,
        headers: &HeaderMap,
        connection: &Connection,
    ) -> Result<Origin, HeaderValue> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(Origin::Absent);
        };
        match text(only(headers, header::ORIGIN)) {
            Some(origin) if self.listed.contains(origin) => Ok(Origin::Listed),
            Some(origin) if is_own(origin, headers, connection) => Ok(Origin::Own),
            _ => Err(origin.clone()),
        }
    }

    /// Logs a refused origin, one a minute at most.
    pub(super) fn log(&self, refused: &HeaderValue) {
        if self.reports.is_due(self.started_at.elapsed().as_secs()) {
            tracing::warn!(origin = ?refused, "a page of an origin that is not listed was refused");
        }
    }
}

/// Whether `origin` is that of the server which the client has asked for.
fn is_own(origin: &str, headers: &HeaderMap, connection: &Connection) -> bool {
    let is_proxy = connection.proxies.contain(connection.peer.ip());
    let forwarded = headers.get(FORWARDED_HOST).filter(|_| is_proxy);
    let host = forwarded.or_else(|| only(headers, header::HOST));
    let Some(host) = text(host) else {
        return false;
    };
    SCHEMES.iter().any(|(scheme, default_port)| {
        let bare = |authority: &str| {
            let authority = authority.strip_suffix(default_port).unwrap_or(authority);
            authority.to_ascii_lowercase()
        };
        let authority = origin.strip_prefix(scheme);
        authority.is_some_and(|authority| !authority.is_empty() && bare(authority) == bare(host))
    })
}

/// Returns the value of a header that is given once.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use shared_claims::forwarded::ForwardedHeader;

    use super::*;
    use crate::transport::listener::{KillSwitch, Proxies};

    /// A connection from a proxy that is trusted, or from anybody else.
    fn connection(is_proxy: bool) -> Connection {
        let trusted = match is_proxy {
            true => vec!["127.0.0.0/8".parse().expect("a network")],
            false => Vec::new(),
        };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let switch = KillSwitch::default();
        let proxies = Proxies::new(&trusted, ForwardedHeader::default());
        Connection::new(peer, Arc::new(proxies), switch)
    }

    fn origin_of(
        headers: &[(&'static str, &'static str)],
        is_proxy: bool,
    ) -> Result<Origin, HeaderValue> {
        let listed = [
            "https://app.example",
            "https://*.pages.example",
            "capacitor://localhost",
        ];
        let listed = OriginList::parse(&listed).expect("origins");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Origins::new(listed).of(&map, &connection(is_proxy))
    }

    #[tokio::test]
    async fn a_client_may_name_the_server_that_it_has_asked_for_and_no_other() {
        for (origin, host, expected) in [
            ("https://app.example", "gw.example", Some(Origin::Listed)),
            (
                "https://a.pages.example",
                "gw.example",
                Some(Origin::Listed),
            ),
            ("https://a.b.pages.example", "gw.example", None),
            ("https://pages.example", "gw.example", None),
            ("capacitor://localhost", "gw.example", Some(Origin::Listed)),
            ("wss://gw.example", "gw.example", Some(Origin::Own)),
            ("https://gw.example:443", "gw.example", Some(Origin::Own)),
            ("http://GW.example", "gw.example:80", Some(Origin::Own)),
            ("ws://127.0.0.1:9000", "127.0.0.1:9000", Some(Origin::Own)),
            ("http://[::1]:9000", "[::1]:9000", Some(Origin::Own)),
            ("ws://127.0.0.1:9001", "127.0.0.1:9000", None),
            ("https://gw.example:80", "gw.example", None),
            ("https://gw.example.evil", "gw.example", None),
            ("https://evil@gw.example", "gw.example", None),
            ("https://gw.example/", "gw.example", None),
            ("file://gw.example", "gw.example", None),
            ("https://", "", None),
            ("null", "null", None),
        ] {
            let found = origin_of(&[("origin", origin), ("host", host)], false);
            assert_eq!(found.ok(), expected, "{origin} at {host}");
        }
        assert_eq!(origin_of(&[("host", "a")], false), Ok(Origin::Absent));
        let twice = [("host", "a"), ("origin", "ws://a"), ("origin", "ws://a")];
        assert!(origin_of(&twice, false).is_err());
        let two_hosts = [("host", "a"), ("host", "b"), ("origin", "ws://a")];
        assert!(origin_of(&two_hosts, false).is_err());
    }

    #[tokio::test]
    async fn a_proxy_tells_the_host_if_it_is_trusted() {
        let headers = [
            ("host", "10.0.0.1:9000"),
            ("x-forwarded-host", "gw.example"),
            ("origin", "wss://gw.example"),
        ];
        assert_eq!(origin_of(&headers, true), Ok(Origin::Own));
        assert!(origin_of(&headers, false).is_err());
    }
}
