//! What goes wrong at the API: one enum, one match to a status and a code.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use shared_claims::Rejection;
use utoipa::ToSchema;

/// The media type of an error's body (RFC 9457).
pub(crate) const PROBLEM_TYPE: &str = "application/problem+json";

/// When to come back after what is our own fault, in seconds.
const RETRY_AFTER_SECS: u64 = 1;

/// Every way in which a request fails.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The request is not what the endpoint takes; says what it takes.
    InvalidRequest(Cow<'static, str>),
    /// The body is no JSON by its type.
    UnsupportedMediaType,
    /// The body is longer than a message may be.
    BodyTooLarge,
    /// The bearer token was refused.
    TokenRejected(Rejection),
    /// The token lacks this scope.
    InsufficientScope(&'static str),
    /// The token's rights do not reach so far.
    Forbidden,
    /// No such path.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The first request with this `Idempotency-Key` is not answered yet.
    StillRunning,
    /// What was asked with this `Idempotency-Key` was done, and the answer was too long to be kept.
    AnswerNotKept,
    /// The `Idempotency-Key` was used for another request.
    KeyReused,
    /// Too many requests of this back end; the next is taken after so many seconds.
    RateLimited(u64),
    /// We are at fault; it may come again.
    Unavailable,
}

/// The body of an error (RFC 9457). `code` is stable, `title` and `detail` are for people.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `code` says more.
    r#type: &'static str,
    /// The name of the status.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, for people.
    detail: Cow<'static, str>,
    /// What is wrong, for programs.
    code: &'static str,
    /// What is wrong with a token, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::TokenRejected(rejection) => (StatusCode::UNAUTHORIZED, rejection.code()),
            Self::InsufficientScope(_) => (StatusCode::FORBIDDEN, "insufficient_scope"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::StillRunning => (StatusCode::CONFLICT, "still_running"),
            Self::AnswerNotKept => (StatusCode::CONFLICT, "answer_not_kept"),
            Self::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::InvalidRequest(detail) => detail.clone(),
            Self::UnsupportedMediaType => "the Content-Type must be application/json".into(),
            Self::BodyTooLarge => "the body is longer than limits.message_bytes plus 64 KiB".into(),
            Self::TokenRejected(rejection) => rejection.message().into(),
            Self::InsufficientScope(scope) => format!("the token lacks the scope {scope}").into(),
            Self::Forbidden => "the grants of the token do not cover this".into(),
            Self::NotFound => "there is nothing at this path".into(),
            Self::MethodNotAllowed => "this path does not take this method".into(),
            Self::StillRunning => {
                "the first request with this Idempotency-Key is still running".into()
            }
            Self::AnswerNotKept => {
                "the request was carried out, and its answer was too long to be kept".into()
            }
            Self::KeyReused => "this Idempotency-Key was used for another request".into(),
            Self::RateLimited(secs) => {
                format!("too many requests; try again in {secs} seconds").into()
            }
            Self::Unavailable => "the gateway cannot do this now; try again in a moment".into(),
        }
    }

    /// The header that the status asks for, besides the body's.
    fn header(&self) -> Option<(header::HeaderName, String)> {
        match self {
            Self::RateLimited(secs) => Some((header::RETRY_AFTER, secs.to_string())),
            Self::Unavailable | Self::StillRunning => {
                Some((header::RETRY_AFTER, RETRY_AFTER_SECS.to_string()))
            }
            // Without a token, RFC 6750 (section 3.1) wants no error information.
            Self::TokenRejected(Rejection::TokenMissing) => {
                Some((header::WWW_AUTHENTICATE, "Bearer".to_owned()))
            }
            Self::TokenRejected(rejection) => {
                let description = rejection.message();
                let challenge =
                    format!("Bearer error=\"invalid_token\", error_description=\"{description}\"");
                Some((header::WWW_AUTHENTICATE, challenge))
            }
            Self::InsufficientScope(scope) => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                Some((header::WWW_AUTHENTICATE, challenge))
            }
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.detail(),
            code,
            reason: match &self {
                Self::TokenRejected(rejection) => Some(rejection.reason()),
                _ => None,
            },
        };
        let kind = [
            (header::CONTENT_TYPE, PROBLEM_TYPE),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let mut response = (status, kind, Json(problem)).into_response();
        // `Json` names its own type.
        let kind = HeaderValue::from_static(PROBLEM_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some((name, value)) = self.header()
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
