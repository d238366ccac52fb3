//! The carrier of the engine, without its type parameters: for the gate, which opens and resumes
//! sessions, and for the record of a session, which flushes and closes its connection.

use std::sync::Arc;

use axum::body::Body;
use http::Request;

use super::{
    engine::{
        Answer, CloseCode, Engine, EngineQuery, Reply, RequestError, Session, TransportKind,
        socket_io::{SocketData, SocketHandler, SocketIo},
    },
    engine_session::EngineSession,
    turn,
};

/// The data of a session that the engine carries: the gateway's record of the session, and what the
/// handler keeps beside it.
pub struct Client<T> {
    record: Arc<EngineSession>,
    state: T,
}

impl<T> Client<T> {
    /// The gateway's record of the session.
    #[must_use]
    pub fn record(&self) -> &Arc<EngineSession> {
        &self.record
    }

    /// What the handler keeps beside it.
    #[must_use]
    pub fn state(&self) -> &T {
        &self.state
    }
}

/// What the gate needs of the engine.
pub(super) trait EngineCarrier: Send + Sync {
    /// Opens a session for a request that names none.
    ///
    /// # Errors
    ///
    /// When the request opens no session.
    fn open(
        &self,
        request: Request<Body>,
        query: &EngineQuery,
        record: Arc<EngineSession>,
    ) -> Result<Answer, RequestError>;

    /// Answers a request of the session `sid`, if `admit` takes the request for the session's
    /// client; `None` when there is no such session.
    fn resume(
        &self,
        request: Request<Body>,
        transport: TransportKind,
        sid: &str,
        admit: &mut dyn FnMut(&Arc<EngineSession>) -> bool,
    ) -> Option<Reply>;
}

impl<H, T> EngineCarrier for Engine<SocketIo<H>>
where
    H: SocketHandler<Data = Client<T>>,
    T: Default + Send + Sync + 'static,
{
    fn open(
        &self,
        request: Request<Body>,
        query: &EngineQuery,
        record: Arc<EngineSession>,
    ) -> Result<Answer, RequestError> {
        let queue = record.queue().clone();
        let data = SocketData::new(Client {
            record,
            state: T::default(),
        });
        Engine::open(self, request, query, queue, data)
    }

    fn resume(
        &self,
        request: Request<Body>,
        transport: TransportKind,
        sid: &str,
        admit: &mut dyn FnMut(&Arc<EngineSession>) -> bool,
    ) -> Option<Reply> {
        let session = self.session(sid)?;
        if !admit(session.data().record()) {
            return None;
        }
        Some(Engine::resume(self, request, transport, session))
    }
}

/// What the record of a session needs of its connection.
pub(super) trait EngineConnection: Send + Sync {
    /// Sends what waits on its way.
    fn flush(self: Arc<Self>);

    /// Closes the connection, without what waits.
    fn disconnect(self: Arc<Self>, code: CloseCode);

    /// Raises the limit of messages to that of admitted sessions.
    fn set_admitted(&self);

    /// Whether the session has not ended.
    fn is_open(&self) -> bool;

    /// Whether a WebSocket carries the session.
    fn is_websocket(&self) -> bool;

    /// Whether a poll waits for packets.
    fn is_polled(&self) -> bool;

    /// Whether the connection takes nothing now.
    fn is_blocked(&self) -> bool;
}

impl<D: Send + Sync + 'static> EngineConnection for Session<D> {
    fn flush(self: Arc<Self>) {
        if self.note() {
            turn::flush(self);
        }
    }

    fn disconnect(self: Arc<Self>, code: CloseCode) {
        Session::disconnect(&self, code);
    }

    fn set_admitted(&self) {
        Session::set_admitted(self);
    }

    fn is_open(&self) -> bool {
        Session::is_open(self)
    }

    fn is_websocket(&self) -> bool {
        self.transport() == TransportKind::WebSocket
    }

    fn is_polled(&self) -> bool {
        Session::is_polled(self)
    }

    fn is_blocked(&self) -> bool {
        Session::is_blocked(self)
    }
}
