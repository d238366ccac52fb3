//! The settings of an engine.

use std::time::Duration;

/// Intervals and limits of an engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Time from the opening of a session, or from a pong, to the next ping.
    pub ping_interval: Duration,
    /// Time that a client has to answer a ping.
    pub ping_timeout: Duration,
    /// Maximum size of a message, or of the body of a POST, of an admitted session, in bytes.
    pub message_bytes: usize,
    /// The same limit before [`set_admitted`](super::Session::set_admitted), in bytes.
    pub unadmitted_message_bytes: usize,
    /// Time for which a WebSocket may take no bytes while bytes wait for it.
    pub write_stall: Duration,
    /// Time that a client has from the start of an upgrade to its last packet.
    pub upgrade_timeout: Duration,
    /// Time that a client has to send the body of a POST.
    pub body_read: Duration,
}

impl Default for EngineSettings {
    /// The intervals of Socket.IO's server, and the limits of the gateway.
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            message_bytes: 1024 * 1024,
            unadmitted_message_bytes: 16 * 1024,
            write_stall: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(10),
            body_read: Duration::from_secs(10),
        }
    }
}
