//! Requests that the engine refuses, and the HTTP responses for them.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

/// Why the engine refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The query names no transport that the engine has.
    #[error("Transport unknown")]
    UnknownTransport,
    /// The session does not exist, or has ended.
    #[error("Session ID unknown")]
    UnknownSession,
    /// A session is opened by another method than GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// The request does not fit the state of the session, or its body is not valid.
    #[error("Bad request")]
    BadRequest,
    /// The query names another version of Engine.IO than 3 or 4.
    #[error("Unsupported protocol version")]
    UnsupportedProtocol,
    /// The request names another version of WebSocket than 13.
    #[error("Unsupported WebSocket version")]
    UnsupportedWebSocket,
    /// The body is larger than the session accepts.
    #[error("Payload too large")]
    TooLarge,
    /// The body did not arrive in time.
    #[error("Request too slow")]
    TooSlow,
    /// The server has no randomness for a session identifier.
    #[error("Internal error")]
    Internal,
}

impl RequestError {
    /// Returns the HTTP status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::UnsupportedWebSocket => StatusCode::UPGRADE_REQUIRED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the code that Engine.IO's server has for this error.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadHandshakeMethod => 2,
            Self::UnsupportedProtocol => 5,
            _ => 3,
        }
    }

    /// Builds the response.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let body = serde_json::json!({ "code": self.code(), "message": self.to_string() });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if self == Self::UnsupportedWebSocket {
            let version = HeaderValue::from_static("13");
            headers.insert(header::SEC_WEBSOCKET_VERSION, version);
            let upgrade = HeaderValue::from_static("websocket");
            headers.insert(header::UPGRADE, upgrade);
            headers.insert(
                header::CONNECTION,
                HeaderValue::from_static("Upgrade, close"),
            );
        }
        response
    }
}
