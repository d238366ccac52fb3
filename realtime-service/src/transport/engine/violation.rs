//! Why a session ends, and the WebSocket close code that the client receives for it.

/// A rule that the bytes of a client break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame, an Engine.IO packet or a Socket.IO packet breaks its protocol.
    #[error("the client breaks the protocol")]
    Protocol,
    /// Text is not valid UTF-8.
    #[error("a text message is not valid UTF-8")]
    InvalidText,
    /// A message is larger than the session accepts.
    #[error("a message is larger than the limit")]
    TooLarge,
}

/// A WebSocket close code that the server sends (RFC 6455, section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The session ends as intended.
    Normal = 1000,
    /// The server shuts down.
    GoingAway = 1001,
    /// The client breaks a protocol.
    ProtocolError = 1002,
    /// The client sends data of a type that the server does not accept.
    UnsupportedData = 1003,
    /// A text message is not valid UTF-8.
    InvalidText = 1007,
    /// The client breaks a rule of the application.
    PolicyViolation = 1008,
    /// A message is too large.
    TooLarge = 1009,
    /// The server failed.
    InternalError = 1011,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed the session by an Engine.IO packet or a WebSocket close frame.
    ClosedByClient,
    /// The connection ended or failed without a close, or the upgrade to a WebSocket failed.
    ConnectionLost,
    /// The client did not answer a ping in time.
    PingTimeout,
    /// The client took no bytes for as long as the write stall allows.
    WriteStalled,
    /// The client broke a rule.
    Violated(Violation),
    /// The client sent a poll while another poll was pending, or a POST while another was read.
    OverlappingRequests,
    /// The handler closed the session with this code.
    Requested(CloseCode),
    /// The session was killed: it ended at once, without last packets.
    Killed,
}

impl Violation {
    /// The close code for this violation.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::ProtocolError,
            Self::InvalidText => CloseCode::InvalidText,
            Self::TooLarge => CloseCode::TooLarge,
        }
    }
}

impl CloseReason {
    /// The close code that a WebSocket client receives, if the connection still takes one.
    pub(super) fn close_code(self) -> CloseCode {
        match self {
            Self::ClosedByClient | Self::ConnectionLost => CloseCode::Normal,
            Self::PingTimeout | Self::WriteStalled | Self::Killed => CloseCode::PolicyViolation,
            Self::OverlappingRequests => CloseCode::ProtocolError,
            Self::Violated(violation) => violation.close_code(),
            Self::Requested(code) => code,
        }
    }
}
