//! The query of an Engine.IO request.

use http::Uri;

use super::{error::RequestError, sid::Sid};

/// The transport that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

/// The query of an Engine.IO 4 request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineQuery {
    /// The transport that the request asks for.
    pub transport: TransportKind,
    /// The session that the request belongs to; `None` opens a session.
    pub sid: Option<Sid>,
}

impl EngineQuery {
    /// Parses the query of `uri`. A parameter that is given twice is refused.
    ///
    /// # Errors
    ///
    /// When `EIO` is not 4, the transport is unknown, or no session can have the `sid`.
    pub fn parse(uri: &Uri) -> Result<Self, RequestError> {
        let only = |name: &str| {
            let pairs = uri.query().unwrap_or_default().split('&');
            let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            match (values.next(), values.next()) {
                (_, Some(_)) => Err(RequestError::BadRequest),
                (value, None) => Ok(value),
            }
        };
        let transport = match only("transport")? {
            Some("polling") => TransportKind::Polling,
            Some("websocket") => TransportKind::WebSocket,
            _ => return Err(RequestError::UnknownTransport),
        };
        if only("EIO")? != Some("4") {
            return Err(RequestError::UnsupportedProtocol);
        }
        let sid = match only("sid")? {
            None => None,
            Some(text) => Some(Sid::parse(text).ok_or(RequestError::UnknownSession)?),
        };
        Ok(Self { transport, sid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_version_transport_and_perhaps_a_session() {
        let parse = |query: &str| {
            let uri = format!("/socket.io/?{query}").parse().expect("a URI");
            EngineQuery::parse(&uri)
        };
        let opening = parse("EIO=4&transport=polling&t=abc").expect("valid");
        assert_eq!(opening.transport, TransportKind::Polling);
        assert_eq!(opening.sid, None);
        let upgrade = parse("transport=websocket&EIO=4&sid=AAAAAAAAAAAAAAAAAAAA");
        assert!(upgrade.expect("valid").sid.is_some());
        for (query, error) in [
            ("transport=polling", RequestError::UnsupportedProtocol),
            ("EIO=3&transport=polling", RequestError::UnsupportedProtocol),
            ("EIO=4", RequestError::UnknownTransport),
            ("EIO=4&transport=abc", RequestError::UnknownTransport),
            (
                "EIO=4&transport=polling&sid=a",
                RequestError::UnknownSession,
            ),
            ("EIO=4&EIO=4&transport=polling", RequestError::BadRequest),
        ] {
            assert_eq!(parse(query), Err(error), "{query}");
        }
    }
}
