//! The requests that the gate answers by itself.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{metrics::Limit, transport::engine::RequestError};

/// How long a client should wait for a place to become free.
const RETRY_AFTER_SECS: u64 = 5;

/// Wait of a client that no other gateway was found for.
const RETRY_AFTER_DRAIN_SECS: u64 = 1;

/// Maximum length of a refused origin in the answer, in characters.
const MAXIMUM_ORIGIN_CHARACTERS: usize = 256;

/// Why the gate answers by itself. The numbers are Engine.IO's own error codes.
pub(super) enum Refusal {
    /// There is no such session, or it is somebody else's: the two look the same.
    UnknownSession,
    /// A request that no client sends.
    BadRequest,
    /// A page of this origin, which is not listed.
    Origin(HeaderValue),
    /// The body is larger than a message may be.
    TooLarge,
    /// The body takes too long.
    TooSlow,
    /// This address has as many sessions as it may.
    TooMany,
    /// This address had too many refusals, and has to wait for so long.
    Flood(Duration),
    /// The gateway has as many sessions as it can.
    Overloaded,
    /// The gateway hands its clients over to other gateways, and takes no new ones.
    Draining,
    /// The engine refuses the request.
    Engine(RequestError),
}

impl Refusal {
    /// The limit that was met, if it was one.
    pub(super) fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooLarge => Some(Limit::MessageBytes),
            Self::TooSlow => Some(Limit::BodyRead),
            Self::TooMany => Some(Limit::SessionsPerAddress),
            Self::Flood(_) => Some(Limit::RefusalsPerAddress),
            Self::Overloaded => Some(Limit::Sessions),
            Self::Engine(RequestError::TooLarge) => Some(Limit::MessageBytes),
            Self::Engine(RequestError::TooSlow) => Some(Limit::BodyRead),
            Self::UnknownSession
            | Self::BadRequest
            | Self::Origin(_)
            | Self::Draining
            | Self::Engine(_) => None,
        }
    }

    /// How many seconds a client should wait before it tries again.
    fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::TooMany | Self::Overloaded => Some(RETRY_AFTER_SECS),
            Self::Flood(wait) => Some(wait.as_secs() + 1),
            Self::Draining => Some(RETRY_AFTER_DRAIN_SECS),
            _ => None,
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        if let Self::Engine(error) = self {
            return error.into_response();
        }
        if let Self::Origin(origin) = &self {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            let origin: String = origin.chars().take(MAXIMUM_ORIGIN_CHARACTERS).collect();
            let message = format!("Origin not allowed: {origin}");
            return respond(StatusCode::FORBIDDEN, 4, &message);
        }
        let (status, code, message) = match self {
            Self::UnknownSession => (StatusCode::BAD_REQUEST, 1, "Session ID unknown"),
            Self::BadRequest | Self::Engine(_) | Self::Origin(_) => {
                (StatusCode::BAD_REQUEST, 3, "Bad request")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 3, "Message too large"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, 3, "Request too slow"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, 3, "Too many sessions"),
            Self::Flood(_) => (StatusCode::TOO_MANY_REQUESTS, 3, "Too many refusals"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, 3, "Too many sessions"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, 3, "Draining"),
        };
        let mut response = respond(status, code, message);
        if let Some(secs) = self.retry_after_secs() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, secs.into());
        }
        response
    }
}

fn respond(status: StatusCode, code: u8, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
