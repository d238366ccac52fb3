//! The values of labels.

/// Reason that an Engine.IO session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client closed the transport, or its network failed.
    Client,
    /// No token was presented within the deadline.
    Unauthenticated,
    /// The tokens that it presented were refused.
    Refused,
    /// The token expired.
    Expired,
    /// The token or its session was revoked.
    Revoked,
    /// A back end or the application disconnected it.
    Disconnected,
    /// The client read nothing within the write deadline.
    Stalled,
    /// More waited for the client than the limits allow.
    Overflowed,
    /// The client sent more events than the limits allow.
    Flooded,
    /// No keys were known that could verify its token.
    NoKeys,
    /// The back end that is asked about clients gave no answer.
    BackEndFailed,
    /// The client sent a message that is too large.
    TooLarge,
    /// The client sent text that is not valid UTF-8.
    InvalidText,
    /// The client violated the protocol.
    Violated,
    /// The gateway shut down.
    Drained,
}

impl Cause {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Unauthenticated => "unauthenticated",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Disconnected => "disconnected",
            Self::Stalled => "stalled",
            Self::Overflowed => "overflowed",
            Self::Flooded => "flooded",
            Self::NoKeys => "no_keys",
            Self::BackEndFailed => "backend_failed",
            Self::TooLarge => "too_large",
            Self::InvalidText => "invalid_text",
            Self::Violated => "violated",
            Self::Drained => "drained",
        }
    }
}

/// The limit that somebody ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// TCP connections in all.
    Connections,
    /// TCP connections of one address.
    ConnectionsPerAddress,
    /// The time that a TLS handshake may take.
    TlsHandshake,
    /// The time that headers may take.
    HeaderRead,
    /// The time that a body may take.
    BodyRead,
    /// Engine.IO sessions in all.
    Sessions,
    /// Engine.IO sessions of one address.
    SessionsPerAddress,
    /// Refusals of one address in a minute.
    RefusalsPerAddress,
    /// Refused logout tokens of one address in a minute.
    LogoutRefusalsPerAddress,
    /// Admitted sockets of one subject.
    SocketsPerSubject,
    /// The size of a message.
    MessageBytes,
    /// Events of one socket in a second.
    EventsPerSec,
    /// Requests of one back end in a second.
    ApiRequestsPerSec,
}

impl Limit {
    /// The name in metrics: the setting's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::TlsHandshake => "tls_handshake",
            Self::HeaderRead => "header_read_secs",
            Self::BodyRead => "body_read_secs",
            Self::Sessions => "sessions",
            Self::SessionsPerAddress => "sessions_per_address",
            Self::RefusalsPerAddress => "refusals_per_address",
            Self::LogoutRefusalsPerAddress => "logout_refusals_per_address",
            Self::SocketsPerSubject => "sockets_per_subject",
            Self::MessageBytes => "message_bytes",
            Self::EventsPerSec => "events_per_sec",
            Self::ApiRequestsPerSec => "api_requests_per_sec",
        }
    }
}

/// Outcome of a fetch of an issuer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// There are keys.
    Fetched,
    /// There are none, or none that can be used.
    Failed,
}

impl FetchOutcome {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Failed => "failed",
        }
    }
}

/// Outcome of a request to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterOutcome {
    /// It was answered.
    Answered,
    /// It was not answered in time, or with an error.
    Failed,
    /// It was not sent: too much waited for Redis.
    Refused,
}

impl ClusterOutcome {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}
