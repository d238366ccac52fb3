//! The query of an Engine.IO request.

use http::Uri;

use super::error::RequestError;
use crate::transport::{Dialect, ProtocolVersion};

/// The transport that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

/// The query of an Engine.IO request, in the one form that stock clients send.
///
/// socketioxide reads queries more liberally, for example `transport=websocket=x` as a WebSocket. A
/// query that the two could read differently is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineQuery {
    /// The dialect of the client.
    pub dialect: Dialect,
    /// The transport that the request asks for.
    pub transport: TransportKind,
    /// The identifier of the session that the request belongs to; `None` opens a session.
    pub sid: Option<String>,
}

impl EngineQuery {
    /// Parses the query of `uri`. A parameter that is given twice is refused.
    ///
    /// # Errors
    ///
    /// When `EIO` is neither 3 nor 4, the transport is unknown, or a script is asked for (`j`).
    pub fn parse(uri: &Uri) -> Result<Self, RequestError> {
        let [mut transport, mut version, mut script, mut base64, mut sid] = [None; 5];
        let mut rest = uri.query().unwrap_or_default();
        while !rest.is_empty() {
            let (pair, others) = split_at(rest, b'&').unwrap_or((rest, ""));
            rest = others;
            let Some((name, value)) = split_at(pair, b'=') else {
                continue;
            };
            let parameter = match name {
                "transport" => &mut transport,
                "EIO" => &mut version,
                "j" => &mut script,
                "b64" => &mut base64,
                "sid" => &mut sid,
                _ => continue,
            };
            if parameter.replace(value).is_some() {
                return Err(RequestError::BadRequest);
            }
        }
        let transport = match transport {
            Some("polling") => TransportKind::Polling,
            Some("websocket") => TransportKind::WebSocket,
            _ => return Err(RequestError::UnknownTransport),
        };
        let version = match version {
            Some("3") => ProtocolVersion::V3,
            Some("4") => ProtocolVersion::V4,
            _ => return Err(RequestError::UnsupportedProtocol),
        };
        if script.is_some() {
            return Err(RequestError::BadRequest);
        }
        Ok(Self {
            dialect: Dialect {
                version,
                uses_base64: base64.is_some(),
            },
            transport,
            sid: sid.map(str::to_owned),
        })
    }
}

/// Splits a short text at the first `separator`, an ASCII character: for many requests, a search for any character
/// would take longer.
fn split_at(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(separator, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<EngineQuery, RequestError> {
        let uri = format!("/socket.io/?{query}").parse().expect("a URI");
        EngineQuery::parse(&uri)
    }

    #[test]
    fn a_query_names_version_transport_and_perhaps_a_session() {
        let opening = parse("EIO=4&transport=polling&t=abc").expect("valid");
        assert_eq!(opening.transport, TransportKind::Polling);
        assert_eq!((opening.dialect, opening.sid), (Dialect::DEFAULT, None));
        let upgrade = parse("transport=websocket&b64=1&EIO=3&sid=a").expect("valid");
        assert_eq!(upgrade.transport, TransportKind::WebSocket);
        assert_eq!(upgrade.sid.as_deref(), Some("a"));
        let dialect = Dialect {
            version: ProtocolVersion::V3,
            uses_base64: true,
        };
        assert_eq!(upgrade.dialect, dialect);
    }

    #[test]
    fn a_query_that_no_stock_client_sends_is_refused() {
        for (query, error) in [
            ("transport=polling", RequestError::UnsupportedProtocol),
            ("EIO=5&transport=polling", RequestError::UnsupportedProtocol),
            (
                "EIO=4=3&transport=polling",
                RequestError::UnsupportedProtocol,
            ),
            ("EIO=4", RequestError::UnknownTransport),
            ("EIO=4&transport=abc", RequestError::UnknownTransport),
            (
                "EIO=4&transport=websocket=x",
                RequestError::UnknownTransport,
            ),
            ("EIO=4&transport=polling&j=0", RequestError::BadRequest),
            (
                "EIO=4&transport=polling&transport=websocket",
                RequestError::BadRequest,
            ),
            ("EIO=4&EIO=3&transport=polling", RequestError::BadRequest),
            (
                "EIO=4&transport=polling&sid=a&sid=b",
                RequestError::BadRequest,
            ),
        ] {
            assert_eq!(parse(query), Err(error), "{query}");
        }
    }
}
