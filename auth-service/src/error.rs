//! Errors over HTTP: one enum, one match to a status and a code.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use shared_claims::Rejection;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    guard::limits::Limit,
    store::{FailureKind, StoreError},
};

mod causes;

/// Target of the lines that requests cause while the database cannot be used: one a minute is shown.
pub(crate) const OUTAGE_TARGET: &str = "auth_service::outage";

/// The media type of an error's body (RFC 9457).
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// When to come back after "overloaded": the queue empties in less than a second.
const RETRY_AFTER_SECS: &str = "1";

/// When to come back after the database has failed, which an operator or another process mends.
const DATABASE_RETRY_AFTER_SECS: &str = "5";

/// The detail of a fault of our own.
const OWN_FAULT: &str = "something went wrong on our side";

/// The challenge of a login that was refused.
const LOGIN_CHALLENGE: &str = "Login realm=\"latchkey\"";

/// Every way in which a request fails. Nothing here repeats what the request said.
pub enum ApiError {
    /// Unknown name, wrong password or disabled account: nobody is told which.
    InvalidCredentials,
    /// The request is not what the endpoint takes; says what it takes.
    InvalidRequest(Cow<'static, str>),
    /// The body is of a kind, or in an encoding, that is not read.
    UnsupportedMediaType,
    /// The body is longer than the limit, in bytes.
    BodyTooLarge(usize),
    /// The body did not arrive in time.
    BodyTimeout,
    /// The page may not call us, or not in this way.
    OriginRefused,
    /// No such path.
    NotFound,
    /// There is no account with this id.
    UserNotFound,
    /// The token lacks this scope.
    ScopeMissing(&'static str),
    /// The account is another than the one that `If-Match` names.
    PreconditionFailed,
    /// Another import runs.
    ImportRunning,
    /// The path does not take this method; says which it takes.
    MethodNotAllowed(&'static str),
    /// The bearer token was refused.
    TokenRejected(Rejection),
    /// The bearer token is fine, but its account is gone or disabled.
    AccountUnavailable,
    /// The bearer token is fine, but its session has ended.
    SessionEnded,
    /// The password cannot be set; says why.
    PasswordRefused(Cow<'static, str>),
    /// The password is right, and the account has a second factor: here is the challenge to meet.
    SecondFactorRequired(Zeroizing<String>),
    /// A code of the second factor is wrong or was used, or its challenge is over.
    CodeRefused,
    /// The request about a second factor does not fit its state; says the state.
    SecondFactorState(&'static str),
    /// The operator's claims webhook refuses the login, with this text.
    LoginRefused(Cow<'static, str>),
    /// The service takes no passkeys.
    PasskeysOff,
    /// A passkey, its signature or the state of its ceremony is not accepted: nobody is told which.
    PasskeyRefused,
    /// The account has no such passkey.
    PasskeyNotFound,
    /// The passkey cannot be added; says why.
    PasskeyConflict(&'static str),
    /// Nobody can make an account by themselves.
    RegistrationClosed,
    /// Somebody has the name, or one that looks the same.
    UsernameTaken,
    /// Another account has the address for mail.
    EmailTaken,
    /// The service sends no mail.
    MailOff,
    /// The link of a mail is nobody's, was used, or has ended: nobody is told which.
    LinkRefused,
    /// The refresh token is nobody's, was used, or its session has ended: nobody is told which.
    InvalidGrant,
    /// A page that is not on the list used a cookie, or a listed one without the header.
    PageForbidden,
    /// Too many attempts.
    RateLimited {
        /// Of what.
        limit: Limit,
        /// When the next one is taken, in seconds from now.
        secs: u64,
    },
    /// More logins than the machine can do.
    Overloaded,
    /// A dependency does not answer.
    Unavailable,
    /// The database failed. The cause is logged and not shown.
    Store(StoreError),
    /// Our own fault. The cause is logged and not shown.
    Internal(anyhow::Error),
    /// A handler has panicked, which the process has logged.
    Panicked,
}

/// The body of an error (RFC 9457). `code` is stable, `title` and `detail` are for people.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem<'a> {
    /// Always `about:blank`: `code` says more.
    r#type: &'static str,
    /// The name of the status.
    title: &'static str,
    /// The status.
    status: u16,
    /// Description for people.
    detail: &'a str,
    /// Code for programs.
    code: &'static str,
    /// Reason that a token is refused, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<&'a str>,
}

impl ApiError {
    /// The status and the stable code.
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidCredentials => (StatusCode::UNAUTHORIZED, "invalid_credentials"),
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::OriginRefused => (StatusCode::FORBIDDEN, "origin_refused"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::UserNotFound => (StatusCode::NOT_FOUND, "user_not_found"),
            Self::ScopeMissing(_) => (StatusCode::FORBIDDEN, "insufficient_scope"),
            Self::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::ImportRunning => (StatusCode::CONFLICT, "import_running"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TokenRejected(rejection) => (StatusCode::UNAUTHORIZED, rejection.code()),
            Self::AccountUnavailable | Self::SessionEnded => {
                (StatusCode::UNAUTHORIZED, "invalid_token")
            }
            Self::PasswordRefused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "password_refused"),
            Self::SecondFactorRequired(_) => (StatusCode::UNAUTHORIZED, "mfa_required"),
            Self::CodeRefused => (StatusCode::UNAUTHORIZED, "code_refused"),
            Self::SecondFactorState(_) => (StatusCode::CONFLICT, "second_factor_state"),
            Self::PasskeysOff => (StatusCode::NOT_FOUND, "passkeys_off"),
            Self::PasskeyRefused => (StatusCode::UNAUTHORIZED, "passkey_refused"),
            Self::PasskeyNotFound => (StatusCode::NOT_FOUND, "passkey_not_found"),
            Self::PasskeyConflict(_) => (StatusCode::CONFLICT, "passkey_conflict"),
            Self::RegistrationClosed => (StatusCode::FORBIDDEN, "registration_closed"),
            Self::LoginRefused(_) => (StatusCode::FORBIDDEN, "login_refused"),
            Self::UsernameTaken => (StatusCode::CONFLICT, "username_taken"),
            Self::EmailTaken => (StatusCode::CONFLICT, "email_taken"),
            Self::MailOff => (StatusCode::NOT_FOUND, "mail_off"),
            Self::LinkRefused => (StatusCode::BAD_REQUEST, "link_refused"),
            Self::InvalidGrant => (StatusCode::UNAUTHORIZED, "invalid_grant"),
            Self::PageForbidden => (StatusCode::FORBIDDEN, "page_forbidden"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::Store(error) if error.trouble() != FailureKind::Defect => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            Self::Store(_) | Self::Internal(_) | Self::Panicked => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
    }

    pub(crate) fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::InvalidCredentials => {
                "wrong username or password, or too many attempts for this \
                name; then another device has to wait some minutes"
                    .into()
            }
            Self::RateLimited { secs, .. } => {
                format!("too many attempts; try again in {secs} seconds").into()
            }
            Self::InvalidRequest(detail)
            | Self::PasswordRefused(detail)
            | Self::LoginRefused(detail) => detail.clone(),
            Self::UnsupportedMediaType => "the body must be of a kind that this path takes, \
                application/json, application/x-www-form-urlencoded or, for an import, \
                application/x-ndjson, in UTF-8 and without a content coding"
                .into(),
            Self::BodyTooLarge(limit) => format!("the body has more than {limit} bytes").into(),
            Self::BodyTimeout => "the body did not arrive in time".into(),
            Self::OriginRefused => {
                "this page may not call us, or not with this method or these headers".into()
            }
            Self::NotFound => "there is nothing at this path".into(),
            Self::UserNotFound => "there is no account with this id".into(),
            Self::ScopeMissing(scope) => format!("the token lacks the scope {scope}").into(),
            Self::PreconditionFailed => {
                "the account was changed since; read it again and repeat the change".into()
            }
            Self::ImportRunning => "another import runs; wait for its end".into(),
            Self::MethodNotAllowed(allowed) => format!("this path takes {allowed}").into(),
            Self::TokenRejected(rejection) => rejection.message().into(),
            Self::AccountUnavailable => "account unavailable".into(),
            Self::SessionEnded => "session ended".into(),
            Self::SecondFactorRequired(_) => {
                "a code of the second factor is needed; post it with the challenge to /login/totp, \
                or a passkey to /login/passkey"
                    .into()
            }
            Self::CodeRefused => "the code is wrong or was used, or its challenge is over".into(),
            Self::SecondFactorState(detail) | Self::PasskeyConflict(detail) => (*detail).into(),
            Self::PasskeysOff => "this service takes no passkeys; ask its operator".into(),
            Self::PasskeyRefused => {
                "the passkey is not accepted; try again or sign in in another way".into()
            }
            Self::PasskeyNotFound => "the account has no such passkey".into(),
            Self::RegistrationClosed => "nobody can make an account here by themselves".into(),
            Self::UsernameTaken => "the name is taken, or looks like one that is".into(),
            Self::EmailTaken => "another account has this email".into(),
            Self::MailOff => "this service sends no mail; ask its operator".into(),
            Self::LinkRefused => "the link was used, or has ended; ask for another mail".into(),
            Self::InvalidGrant => "the refresh token is not accepted; sign in again".into(),
            Self::PageForbidden => "a cookie is taken from a listed page alone, \
                with its Origin and the header X-Latchkey: 1"
                .into(),
            Self::Overloaded => "too many logins at once; try again in a moment".into(),
            Self::Unavailable => "a dependency does not answer".into(),
            Self::Store(error) if error.trouble() != FailureKind::Defect => {
                "a dependency does not answer".into()
            }
            Self::Store(_) | Self::Internal(_) | Self::Panicked => OWN_FAULT.into(),
        }
    }

    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::TokenRejected(rejection) => Some(rejection.reason()),
            Self::AccountUnavailable => Some("account_unavailable"),
            Self::SessionEnded => Some("session_ended"),
            _ => None,
        }
    }

    /// Logs what is our own fault, and adds the headers of [`Self::add_headers`].
    pub(crate) fn report_and_add_headers(&self, response: &mut HttpResponseBuilder) {
        match self {
            Self::Internal(cause) => tracing::error!("internal error: {cause:#}"),
            Self::Store(cause) => report_store_failure(cause),
            _ => {}
        }
        self.add_headers(response);
    }

    /// The headers that a status asks for, besides the body's.
    fn add_headers(&self, response: &mut HttpResponseBuilder) {
        match self {
            Self::MethodNotAllowed(allowed) => {
                response.insert_header((header::ALLOW, *allowed));
            }
            Self::RateLimited { secs, .. } => {
                response.insert_header((header::RETRY_AFTER, secs.to_string()));
            }
            Self::Overloaded | Self::Unavailable => {
                response.insert_header((header::RETRY_AFTER, RETRY_AFTER_SECS));
            }
            Self::Store(error) if error.trouble() != FailureKind::Defect => {
                response.insert_header((header::RETRY_AFTER, DATABASE_RETRY_AFTER_SECS));
            }
            // A 401 must name a way to prove who one is (RFC 9110, section 15.5.2). This one is no
            // scheme of HTTP's, and no browser asks for a password on account of it.
            Self::InvalidCredentials
            | Self::SecondFactorRequired(_)
            | Self::CodeRefused
            | Self::PasskeyRefused
            | Self::InvalidGrant => {
                response.insert_header((header::WWW_AUTHENTICATE, LOGIN_CHALLENGE));
            }
            // Without a token, RFC 6750 (section 3.1) wants no error information.
            Self::TokenRejected(Rejection::TokenMissing) => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Self::TokenRejected(_) | Self::AccountUnavailable | Self::SessionEnded => {
                let challenge = format!(
                    "Bearer error=\"invalid_token\", error_description=\"{}\"",
                    self.detail()
                );
                response.insert_header((header::WWW_AUTHENTICATE, challenge));
            }
            Self::ScopeMissing(scope) => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                response.insert_header((header::WWW_AUTHENTICATE, challenge));
            }
            // The rest of the body is not read, so the connection cannot go on.
            Self::BodyTooLarge(_) | Self::BodyTimeout => {
                response.force_close();
            }
            _ => {}
        }
    }
}

/// Logs the failure of the database at a request. Whoever repeats a request while the disk is full must not fill it
/// with lines, so that of those that are no defect one a minute is shown.
fn report_store_failure(cause: &StoreError) {
    let (trouble, story) = (cause.trouble().name(), cause.story());
    if cause.trouble() == FailureKind::Defect {
        tracing::error!(trouble, "{story}");
    } else {
        tracing::error!(target: OUTAGE_TARGET, trouble, "{story}");
    }
}

/// By its code alone: an error can hold a challenge.
impl fmt::Debug for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiError({self})")
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.status_and_code().1)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = self.status_and_code();
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &self.detail(),
            code,
            reason: self.reason(),
            challenge: match self {
                Self::SecondFactorRequired(challenge) => Some(challenge),
                _ => None,
            },
        };
        let mut response = HttpResponse::build(status);
        self.report_and_add_headers(&mut response);
        // Afterwards, since `json` would name its own type.
        response.content_type(PROBLEM_TYPE).json(problem)
    }
}
