//! The time between the answer to a WebSocket handshake and the start of the WebSocket's task.

use std::sync::Arc;

use super::{
    EngineHandler, Shared, session::Session, stream::Recovered, violation::CloseReason,
    websocket::WebSocketTask,
};
use crate::transport::turn::Turn;

/// A WebSocket that has no task yet. Dropping it ends the session, or the upgrade if the session is a
/// polling one: hyper may drop an answer that it has not polled.
pub(super) struct Handover<H: EngineHandler> {
    shared: Arc<Shared<H>>,
    session: Arc<Session<H::Data>>,
    is_probe: bool,
    is_done: bool,
}

impl<H: EngineHandler> Handover<H> {
    /// Makes the handover of a WebSocket that will carry `session`, or probe for it if `is_probe`.
    pub(super) fn new(
        shared: Arc<Shared<H>>,
        session: Arc<Session<H::Data>>,
        is_probe: bool,
    ) -> Self {
        Self {
            shared,
            session,
            is_probe,
            is_done: false,
        }
    }

    /// Makes the task of the WebSocket, which ends the session from now on.
    pub(super) fn complete(mut self, recovered: Recovered, read_ahead: &[u8]) -> WebSocketTask<H> {
        let _turn = Turn::begin();
        let (shared, session) = (self.shared.clone(), self.session.clone());
        let task = WebSocketTask::new(shared, session, recovered, self.is_probe, read_ahead);
        self.is_done = true;
        task
    }
}

impl<H: EngineHandler> Drop for Handover<H> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        if self.is_probe {
            self.session.state().fail_probe();
        } else {
            self.session.abort(CloseReason::ConnectionLost);
            self.shared.announce_end(&self.session);
        }
    }
}
