//! The handler for the suite of Engine.IO: it sends each message back.

use std::sync::Arc;

use axum::body::Bytes;
use realtime_service::transport::{
    Opcode, Packet,
    engine::{CloseReason, EngineHandler, Session, Violation},
};

/// Sends each message back.
pub(crate) struct Echo;

impl EngineHandler for Echo {
    type Data = ();

    fn opened(&self, session: &Arc<Session<()>>) {
        session.set_admitted();
    }

    fn text(&self, session: &Arc<Session<()>>, text: &str) -> Result<(), Violation> {
        session.send(Packet::engine(&format!("4{text}")));
        Ok(())
    }

    fn binary(&self, session: &Arc<Session<()>>, data: Bytes) -> Result<(), Violation> {
        session.send(Packet::control(Opcode::Binary, &data));
        Ok(())
    }

    fn closed(&self, _: &Arc<Session<()>>, reason: CloseReason) {
        tracing::debug!(?reason, "closed");
    }
}
