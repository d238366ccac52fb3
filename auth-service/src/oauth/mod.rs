//! The OAuth 2.0 endpoints: tokens for back ends, and what a token is worth.

use std::{borrow::Cow, fmt, pin::Pin};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse, ResponseError, dev,
    http::{StatusCode, header},
};
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{body, error::ApiError, guard::counters::CountError, store::StoreError};

mod client_auth;
pub(crate) mod introspect;
pub(crate) mod revoke;
pub(crate) mod token;

/// The body of a refusal (RFC 6749, section 5.2).
#[derive(Serialize, ToSchema)]
pub(crate) struct OAuthProblem {
    /// Code for programs.
    error: &'static str,
    /// Description for people.
    error_description: Cow<'static, str>,
}

/// The parameters of `/oauth/token`, as a form.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes the form, which is read pair by pair"
)]
pub(crate) struct TokenRequest {
    /// `client_credentials` or `refresh_token`.
    grant_type: String,
    /// The scopes that are asked for; all that the client has, if it is left out.
    scope: Option<String>,
    /// For `refresh_token`.
    refresh_token: Option<String>,
    /// The client, unless the header says it.
    client_id: Option<String>,
    /// Secret of the client, unless the header has it.
    client_secret: Option<String>,
}

/// The parameters of `/oauth/introspect` and `/oauth/revoke`, as a form.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes the form, which is read pair by pair"
)]
pub(crate) struct TokenParameter {
    /// The token that it is about.
    token: String,
    /// The client, unless the header says it.
    client_id: Option<String>,
    /// Secret of the client, unless the header has it.
    client_secret: Option<String>,
}

/// Reason that a request is refused, in the words of RFC 6749 (section 5.2).
#[derive(Debug)]
pub(crate) enum OAuthError {
    /// A parameter is missing, stands twice, or cannot be what it is.
    InvalidRequest(Cow<'static, str>),
    /// Nobody knows the client, or its secret is another.
    InvalidClient,
    /// The refresh token is not accepted.
    InvalidGrant,
    /// The client may not ask for this.
    UnauthorizedClient,
    /// There is no such kind of grant.
    UnsupportedGrantType,
    /// The client was not given these scopes.
    InvalidScope,
    /// Tokens for this audience are not made (RFC 8707, section 2).
    InvalidTarget,
    /// A token that carries its own truth cannot be taken back (RFC 7009, section 2.2.1).
    UnsupportedTokenType,
    /// Something else, which other endpoints say in their own way.
    Other(ApiError),
}

impl OAuthError {
    fn status_and_error(&self) -> (StatusCode, &'static str) {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::InvalidRequest(_) => (bad, "invalid_request"),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::InvalidGrant => (bad, "invalid_grant"),
            Self::UnauthorizedClient => (bad, "unauthorized_client"),
            Self::UnsupportedGrantType => (bad, "unsupported_grant_type"),
            Self::InvalidScope => (bad, "invalid_scope"),
            Self::InvalidTarget => (bad, "invalid_target"),
            Self::UnsupportedTokenType => (bad, "unsupported_token_type"),
            Self::Other(error) => {
                let status = error.status_code();
                let name = match status {
                    StatusCode::INTERNAL_SERVER_ERROR => "server_error",
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                        "temporarily_unavailable"
                    }
                    StatusCode::FORBIDDEN => "access_denied",
                    _ => "invalid_request",
                };
                (status, name)
            }
        }
    }

    fn description(&self) -> Cow<'static, str> {
        match self {
            Self::InvalidRequest(detail) => detail.clone(),
            Self::InvalidClient => "unknown client or wrong secret".into(),
            Self::InvalidGrant => "the refresh token is not accepted".into(),
            Self::UnauthorizedClient => "the client may not ask for this".into(),
            Self::UnsupportedGrantType => {
                "grant_type must be client_credentials or refresh_token".into()
            }
            Self::InvalidScope => "the client does not have these scopes".into(),
            Self::InvalidTarget => "there are no tokens for this audience".into(),
            Self::UnsupportedTokenType => "a client's access token ends at its own time".into(),
            Self::Other(error) => error.detail(),
        }
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.status_and_error().1)
    }
}

impl ResponseError for OAuthError {
    fn status_code(&self) -> StatusCode {
        self.status_and_error().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, error) = self.status_and_error();
        let mut response = HttpResponse::build(status);
        match self {
            Self::InvalidClient => {
                let challenge = "Basic realm=\"latchkey\", charset=\"UTF-8\"";
                response.insert_header((header::WWW_AUTHENTICATE, challenge));
            }
            Self::Other(error) => error.report_and_add_headers(&mut response),
            _ => {}
        }
        response.json(OAuthProblem {
            error,
            error_description: self.description(),
        })
    }
}

impl From<ApiError> for OAuthError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::InvalidGrant => Self::InvalidGrant,
            other => Self::Other(other),
        }
    }
}

impl From<CountError> for OAuthError {
    fn from(error: CountError) -> Self {
        Self::Other(error.into())
    }
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

impl From<anyhow::Error> for OAuthError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error.into())
    }
}

/// The parameters of a request, each of which stands there once (RFC 6749, section 3.2), in the
/// body and not in the query, which proxies log.
pub(crate) struct Parameters(Vec<(String, Zeroizing<String>)>);

impl Parameters {
    /// The value of a parameter. One without a value counts as left out.
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(own, _)| own == name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    fn require(&self, name: &'static str) -> Result<&str, OAuthError> {
        self.get(name)
            .ok_or_else(|| OAuthError::InvalidRequest(format!("{name} is missing").into()))
    }
}

impl FromRequest for Parameters {
    type Error = OAuthError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, OAuthError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            if !request.query_string().is_empty() {
                return Err(OAuthError::InvalidRequest(
                    "parameters belong into the body".into(),
                ));
            }
            let pairs = body::read_form(&request, payload).await?;
            let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            if names.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(OAuthError::InvalidRequest(
                    "a parameter stands there twice".into(),
                ));
            }
            Ok(Self(pairs))
        })
    }
}
