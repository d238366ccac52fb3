//! The engine: Engine.IO 3 and 4 over WebSocket and HTTP long-polling, and Socket.IO on top.
//!
//! The engine knows neither who a client is nor what a message means: that is the business of its
//! [`EngineHandler`], which [`socket_io::SocketIo`] implements for Socket.IO. HTTP is hyper's until
//! a WebSocket opens; from then on the engine reads and writes the connection itself.

mod answer;
mod core;
mod error;
mod frame;
mod handler;
mod handover;
mod handshake;
mod heartbeat;
#[cfg(all(test, shuttle))]
pub(crate) mod interleavings;
mod maintenance;
mod messages;
mod payload;
mod payload_v3;
#[cfg(shuttle)]
mod pipe;
mod polling;
mod probe;
mod query;
mod received;
mod session;
mod settings;
mod shared_body;
mod sid;
pub mod socket_io;
mod state;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;
mod violation;
mod websocket;

use std::{
    io::IoSlice,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http::{Method, Request};
use hyper::upgrade::OnUpgrade;

pub use self::{
    answer::{Answer, Reply, UpgradeTask},
    error::RequestError,
    handler::EngineHandler,
    query::{EngineQuery, TransportKind},
    session::Session,
    settings::EngineSettings,
    stream::{ClientStream, Recover, RecoverFn, Recovered, recover},
    violation::{CloseCode, CloseReason, Violation},
};
use self::{
    core::Core,
    handover::Handover,
    maintenance::Maintenance,
    session::close_frame,
    sid::Sid,
    state::{NotStarted, Phase},
};
use crate::transport::{Packet, ProtocolVersion, SendQueue, turn};

/// Time for all WebSockets to close at a shutdown: more than a client has to answer a close frame.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(300);

/// Time between two looks at the number of open WebSockets meanwhile.
const SHUTDOWN_PAUSE: Duration = Duration::from_millis(5);

/// An Engine.IO server. Clones share the sessions.
pub struct Engine<H: EngineHandler>(Arc<Shared<H>>);

/// What the tasks of an engine share.
struct Shared<H: EngineHandler> {
    handler: H,
    core: Arc<Core<H::Data>>,
    recover: RecoverFn,
}

impl<H: EngineHandler> Engine<H> {
    /// Makes an engine. `recover` takes a WebSocket's stream back from hyper: [`recover`] for the
    /// type of the listener's streams.
    #[must_use]
    pub fn new(settings: EngineSettings, handler: H, recover: RecoverFn) -> Self {
        Self(Arc::new(Shared {
            handler,
            core: Arc::new(Core::new(settings)),
            recover,
        }))
    }

    /// Runs the engine's maintenance: pings, timeouts and the ends of sessions. The future never
    /// completes; exactly one must run as long as the engine is in use.
    pub async fn run(&self) {
        Maintenance::new(self.0.clone()).run().await;
    }

    /// Returns the handler.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.0.handler
    }

    /// Finds a session that was opened by polling and has not ended. Requests do not name sessions
    /// that were opened as WebSockets.
    #[must_use]
    pub fn session(&self, sid: &str) -> Option<Arc<Session<H::Data>>> {
        self.0.core.session(Sid::parse(sid)?)
    }

    /// Closes all sessions with `code`, and those that open later. Waits until no WebSocket is open, for 300 ms at
    /// most: so the last packets leave.
    pub async fn shut_down(&self, code: CloseCode) {
        self.close_all(code);
        let closed = async {
            while self.websockets() > 0 {
                tokio::time::sleep(SHUTDOWN_PAUSE).await;
            }
        };
        // What is open then is closed with the process.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, closed).await;
    }

    fn close_all(&self, code: CloseCode) {
        let sessions = self.0.core.shut_down(code);
        turn::scope(|| {
            for session in sessions.iter().filter_map(Weak::upgrade) {
                session.close(code);
            }
        });
    }

    /// Returns the number of open WebSockets, those of upgrades that are under way included.
    #[must_use]
    pub fn websockets(&self) -> usize {
        self.0.core.websockets.load(Ordering::Relaxed)
    }

    /// Opens a session for `request`, whose `query` names none, with `data` of the handler. The packets
    /// for the client wait in `queue`.
    ///
    /// # Errors
    ///
    /// When the request opens no session; `data` is dropped then.
    pub fn open(
        &self,
        mut request: Request<Body>,
        query: &EngineQuery,
        queue: Arc<SendQueue>,
        data: H::Data,
    ) -> Result<Answer, RequestError> {
        let transport = query.transport;
        if request.method() != Method::GET {
            return Err(RequestError::BadHandshakeMethod);
        }
        let sid = Sid::generate();
        let upgrade = match transport {
            TransportKind::Polling => None,
            TransportKind::WebSocket => {
                let response = handshake::accept(&request)?;
                Some((hyper::upgrade::on(&mut request), response))
            }
        };
        let core = &self.0.core;
        let session = Arc::new(Session::new(sid, query, core.clone(), queue, data));
        session.send(self.0.handshake(sid, query));
        let first_ping = core.now_ms() + core.ping_interval_ms();
        core.schedule(Arc::downgrade(&session), first_ping);
        if transport == TransportKind::Polling {
            core.register(&session, sid);
        }
        turn::scope(|| self.0.handler.opened(&session));
        if let Some(code) = core.shutdown_code() {
            session.close(code);
        }
        Ok(match upgrade {
            Some((upgrade, response)) => Answer {
                response,
                upgrade: Some(self.serve(session, upgrade, false)),
            },
            None => polling::first_response(&session)?.into(),
        })
    }

    /// Answers a `request` of `session`: a poll, a POST, or the start of an upgrade.
    pub fn resume(
        &self,
        request: Request<Body>,
        transport: TransportKind,
        session: Arc<Session<H::Data>>,
    ) -> Reply {
        if transport == TransportKind::WebSocket {
            return Reply::Now(self.upgrade(request, session));
        }
        // The request of a client of Engine.IO 3 may bring the ping that is missing.
        if session.dialect().version == ProtocolVersion::V4 {
            session.check_liveness();
        }
        match *request.method() {
            Method::GET => Reply::Later(Box::pin(polling::poll(session))),
            Method::POST => Reply::Later(Box::pin(polling::post(self.0.clone(), session, request))),
            _ => Reply::Now(Err(RequestError::BadRequest)),
        }
    }

    /// Starts the upgrade of `session` to a WebSocket.
    fn upgrade(
        &self,
        mut request: Request<Body>,
        session: Arc<Session<H::Data>>,
    ) -> Result<Answer, RequestError> {
        session.check_liveness();
        let response = handshake::accept(&request)?;
        let started = session.state().start_probe();
        let upgrade = hyper::upgrade::on(&mut request);
        let upgrade = match started {
            Ok(()) => self.serve(session, upgrade, true),
            Err(NotStarted::Overlapping) => self.refuse(upgrade),
            Err(NotStarted::Refused(error)) => return Err(error),
        };
        Ok(Answer {
            response,
            upgrade: Some(upgrade),
        })
    }

    /// Closes a WebSocket as soon as it is open, as Node does for a session that has one already.
    /// Some clients fail in other ways when the upgrade is refused.
    fn refuse(&self, upgrade: OnUpgrade) -> UpgradeTask {
        let recover = self.0.recover;
        Box::pin(async move {
            if let Some((recovered, _)) = upgrade.await.ok().and_then(recover) {
                let (_reader, mut writer) = recovered.stream.split();
                let close = close_frame(CloseCode::ProtocolError);
                // A connection that takes no few bytes is closed without them.
                let _ = writer.try_write(&[
                    IoSlice::new(&recovered.unsent),
                    IoSlice::new(close.frames()),
                ]);
                writer.close_notify();
            }
        })
    }

    /// Makes the task that serves a WebSocket once hyper has sent the response. Dropping the task ends the
    /// session, or the upgrade if `is_probe`.
    fn serve(
        &self,
        session: Arc<Session<H::Data>>,
        upgrade: OnUpgrade,
        is_probe: bool,
    ) -> UpgradeTask {
        let recover = self.0.recover;
        // Made outside of the task, which may be dropped before its first poll.
        let handover = Handover::new(self.0.clone(), session, is_probe);
        Box::pin(async move {
            if let Some((recovered, read_ahead)) = upgrade.await.ok().and_then(recover) {
                // A task of its own is smaller than this one.
                tokio::spawn(handover.complete(recovered, &read_ahead));
            }
        })
    }
}

impl<H: EngineHandler> Clone for Engine<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: EngineHandler> Shared<H> {
    /// Encodes the packet that opens a session.
    fn handshake(&self, sid: Sid, query: &EngineQuery) -> Packet {
        let upgrades = match query.transport {
            TransportKind::Polling => r#""websocket""#,
            TransportKind::WebSocket => "",
        };
        let maximum = match query.dialect.version {
            ProtocolVersion::V3 => String::new(),
            ProtocolVersion::V4 => format!(r#","maxPayload":{}"#, self.core.settings.message_bytes),
        };
        Packet::engine(&format!(
            r#"0{{"sid":"{}","upgrades":[{upgrades}],"pingInterval":{},"pingTimeout":{}{maximum}}}"#,
            sid.to_text(),
            self.core.ping_interval_ms(),
            self.core.ping_timeout_ms(),
        ))
    }

    /// Handles an Engine.IO packet that came as text.
    fn on_text(&self, session: &Arc<Session<H::Data>>, packet: &str) -> Result<(), Violation> {
        let version = session.dialect().version;
        match packet.as_bytes() {
            [b'4', ..] => self.handler.text(session, &packet[1..]),
            [b'2', ..] if version == ProtocolVersion::V3 => {
                session.on_ping();
                self.handler.pinged(session)
            }
            [b'3'] if version == ProtocolVersion::V4 => {
                session.on_pong();
                Ok(())
            }
            [b'b', ..] => {
                let data = received::decode_base64(packet, version.base64_prefix())?;
                self.handler.binary(session, data.into())
            }
            [b'1'] => {
                session.end(CloseReason::ClosedByClient);
                Ok(())
            }
            [b'6'] => Ok(()),
            _ => Err(Violation::Protocol),
        }
    }

    /// Handles an Engine.IO packet that came as binary data: a message, which Engine.IO 3 precedes by
    /// its type.
    fn on_binary(&self, session: &Arc<Session<H::Data>>, packet: &[u8]) -> Result<(), Violation> {
        let data = match session.dialect().version {
            ProtocolVersion::V3 => packet.strip_prefix(&[4]).ok_or(Violation::Protocol)?,
            ProtocolVersion::V4 => packet,
        };
        self.handler.binary(session, Bytes::copy_from_slice(data))
    }

    /// Tells the handler of the end of `session`, at the first call.
    fn announce_end(&self, session: &Arc<Session<H::Data>>) {
        let (phase, reason) = {
            let state = session.state();
            (state.phase(), state.reason())
        };
        let Some(reason) = reason.filter(|_| phase != Phase::Open) else {
            return;
        };
        if session.announce_once() {
            let closed = || turn::scope(|| self.handler.closed(session, reason));
            // The task that announces the end has more to do.
            if catch_unwind(AssertUnwindSafe(closed)).is_err() {
                tracing::error!("the handler panicked at the end of a session");
            }
        }
    }
}
