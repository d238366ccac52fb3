//! Guards the connect handlers of namespaces, so that they run for admitted sockets alone.

use std::{fmt, ops::Deref, pin::Pin, sync::Arc};

use shared_claims::Rejection;
use socketioxide::{
    adapter::LocalAdapter,
    extract::{HttpExtension, SocketRef, State, TryData},
    handler::{ConnectHandler, ConnectMiddleware, FromConnectParts, Value},
    socket::Socket,
};

use super::{Unadmitted, authenticate};
use crate::{
    session::{Session, SessionContext},
    transport::EngineSession,
};

/// What the client of a socket that is refused is told: the message of CONNECT_ERROR.
type Refusal = Box<dyn fmt::Display + Send>;

/// Guards a connect handler: whoever presents no token that is accepted is refused, and never
/// reaches it. Register it as `io.ns("/admin", guard(handler))`.
///
/// A middleware that is added with `guard(handler).with(middleware)` runs after the token was
/// accepted and before CONNECT is acknowledged. That is the place to call
/// [`Session::on`]: in `handler`, which runs after the acknowledgement, what the client sends at
/// once would be lost. A middleware that returns an error refuses the socket, with the error's text
/// as the message. Several run from the last that was added to the first.
///
/// Both take a [`SessionRef`] as an argument, beside socketioxide's own extractors.
#[must_use = "a guard does nothing until it is registered"]
pub fn guard<H, T>(handler: H) -> Guarded<H>
where
    H: ConnectHandler<LocalAdapter, T>,
{
    Guarded(handler)
}

/// A connect handler behind the guard: see [`guard`].
#[derive(Clone)]
pub struct Guarded<H>(H);

impl<H, T> ConnectHandler<LocalAdapter, T> for Guarded<H>
where
    H: ConnectHandler<LocalAdapter, T>,
    T: Send + Sync + 'static,
{
    fn call(&self, socket: Arc<Socket>, payload: Option<Value>) {
        if let Some(session) = socket.extensions.get::<SessionRef>() {
            // Packets that were queued between the admission and the answer to CONNECT.
            session.outbox().flush();
        }
        self.0.call(socket, payload);
    }

    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        payload: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let session = open(&socket, payload).await.map_err(refusal)?;
            if let Err(refusal) = self.0.call_middleware(socket, payload).await {
                session.reject_by_application();
                return Err(refusal);
            }
            match session.admit(None) {
                Ok(()) => {
                    session.start();
                    Ok(())
                }
                Err(rejection) => {
                    session.ended_transport().await;
                    Err(refusal(rejection))
                }
            }
        })
    }

    /// Puts the middleware behind the guard too. The trait's own would put it in the guard's place.
    fn with<M, T1>(self, middleware: M) -> impl ConnectHandler<LocalAdapter, T>
    where
        M: ConnectMiddleware<LocalAdapter, T1>,
        T1: Send + Sync + 'static,
    {
        Guarded(self.0.with(middleware))
    }
}

/// Opens the session of a socket, and sets up what every socket can do.
async fn open(socket: &Arc<Socket>, payload: &Option<Value>) -> Result<Arc<Session>, Rejection> {
    // A socket that came past our listener has no session that could end it.
    let HttpExtension(engine) =
        HttpExtension::<Arc<EngineSession>>::from_connect_parts(socket, payload)
            .map_err(|_| Rejection::TokenMissing)?;
    let Ok(TryData(payload)) = TryData::from_connect_parts(socket, payload);
    let Ok(State(context)) = State::<Arc<SessionContext>>::from_connect_parts(socket, &None) else {
        return Err(Rejection::TokenMissing);
    };
    engine.wait_if_ending().await;
    let payload = payload.map_err(|_| Rejection::PayloadMalformed);
    let place = (socket.ns(), &Arc::default());
    let session = authenticate(&context, &engine, place, payload).await;
    let session = session.map_err(|error| match error {
        // socketioxide sends the message alone, and the rest of the closed list is added where it leaves.
        Unadmitted::Rejected(refusal) => refusal.rejection,
        // It reaches nobody.
        Unadmitted::Ended => Rejection::KeyUnknown,
    })?;
    if let Some(carrier) = engine.socketioxide() {
        carrier.add(socket);
    }
    let socket = SocketRef::from(socket.clone());
    session.on_authenticate(&socket);
    session.listen(&socket);
    socket.extensions.insert(SessionRef(session.clone()));
    Ok(session)
}

fn refusal(rejection: Rejection) -> Refusal {
    Box::new(rejection)
}

/// The session of a socket: an argument of the connect handlers and middlewares behind a [`guard`].
#[derive(Clone)]
pub struct SessionRef(Arc<Session>);

impl Deref for SessionRef {
    type Target = Arc<Session>;

    fn deref(&self) -> &Arc<Session> {
        &self.0
    }
}

/// The socket has no session, for its namespace has no guard. Its handler does not run.
#[derive(Debug, thiserror::Error)]
#[error("there is no session: the namespace has no guard")]
pub struct Unguarded;

impl FromConnectParts<LocalAdapter> for SessionRef {
    type Error = Unguarded;

    fn from_connect_parts(socket: &Arc<Socket>, _: &Option<Value>) -> Result<Self, Unguarded> {
        socket.extensions.get().ok_or(Unguarded)
    }
}
