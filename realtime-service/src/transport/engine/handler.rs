//! The interface between the engine and the layer above it.

use std::sync::Arc;

use axum::body::Bytes;

use super::{
    session::Session,
    violation::{CloseReason, Violation},
};

/// Receives the messages of Engine.IO sessions.
///
/// The engine calls a handler from the task that reads the connection, one call at a time for each
/// session, within a [turn](crate::transport::turn). A handler must not block. When a handler
/// panics, the session ends and the others go on.
pub trait EngineHandler: Send + Sync + 'static {
    /// Data of the handler that each session holds.
    type Data: Send + Sync + 'static;

    /// Handles a session that opens. Its client has not received the handshake yet.
    fn opened(&self, session: &Arc<Session<Self::Data>>);

    /// Handles a text message, without its Engine.IO packet type.
    ///
    /// # Errors
    ///
    /// When the message breaks a rule; the engine closes the session then.
    fn text(&self, session: &Arc<Session<Self::Data>>, text: &str) -> Result<(), Violation>;

    /// Handles a binary message.
    ///
    /// # Errors
    ///
    /// As for [`text`](Self::text).
    fn binary(&self, session: &Arc<Session<Self::Data>>, data: Bytes) -> Result<(), Violation>;

    /// Handles a ping, of whichever side sends them. Between two pings, a client that is there has sent all
    /// that it had begun to send.
    ///
    /// # Errors
    ///
    /// As for [`text`](Self::text).
    fn pinged(&self, _session: &Arc<Session<Self::Data>>) -> Result<(), Violation> {
        Ok(())
    }

    /// Handles the end of a session, once for each session that was opened.
    ///
    /// The call does not come from within [`Session::close`] or [`Session::kill`], so a caller of
    /// those may hold locks that this method takes.
    fn closed(&self, session: &Arc<Session<Self::Data>>, reason: CloseReason);
}
