//! The service in front of socketioxide: every Engine.IO request passes here first.

mod origins;
mod refusal;
mod socketioxide;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    task::{Context, Poll},
};

use ::socketioxide::service::SocketIoService;
use axum::{Router, body::Body};
use futures_util::future::Either;
use http::{Method, Request, Response, StatusCode, header};
use tower::Service;

use self::{
    origins::{Origin, Origins},
    refusal::Refusal,
};
use super::{
    TransportContext,
    dialect::Dialect,
    engine::{
        self, EngineQuery, TransportKind,
        socket_io::{SocketHandler, SocketIo},
    },
    engine_carrier::{Client, EngineCarrier},
    engine_session::{CarriedBy, EngineSession},
    listener::{Connection, Place},
    registry::Registry,
    request::{Opener, Visitor, take_credentials},
};
use crate::{config::Config, limits::Exceeded};

/// socketioxide's server; what is not for it finds an empty router.
pub type Socketioxide = SocketIoService<Router>;

/// Lets Engine.IO requests through to socketioxide, or answers them itself.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    /// socketioxide, for an application's own namespaces.
    socketioxide: Socketioxide,
    /// The engine, which carries all sessions if there is one.
    engine: Option<Arc<dyn EngineCarrier>>,
    registry: Arc<Registry>,
    origins: Arc<Origins>,
    cookie_name: String,
    context: Arc<TransportContext>,
}

impl Gate {
    /// A gate in front of `socketioxide`, which carries every session.
    #[must_use]
    pub fn new(
        socketioxide: Socketioxide,
        config: &Config,
        context: Arc<TransportContext>,
    ) -> Self {
        Self(Arc::new(Shared {
            socketioxide,
            engine: None,
            registry: Arc::default(),
            origins: Arc::new(Origins::new(config.listed_origins())),
            cookie_name: config.cookie_name().to_owned(),
            context,
        }))
    }

    /// Has `engine` carry the sessions.
    #[must_use]
    pub fn with_engine<H, T>(self, engine: engine::Engine<SocketIo<H>>) -> Self
    where
        H: SocketHandler<Data = Client<T>>,
        T: Default + Send + Sync + 'static,
    {
        Self(Arc::new(Shared {
            engine: Some(Arc::new(engine)),
            socketioxide: self.0.socketioxide.clone(),
            registry: self.0.registry.clone(),
            origins: self.0.origins.clone(),
            cookie_name: self.0.cookie_name.clone(),
            context: self.0.context.clone(),
        }))
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            Ok(shared.handle(request).await.unwrap_or_else(|refusal| {
                let refusal = match refusal {
                    // The session may be that of the gateway that a proxy tries next.
                    Refusal::UnknownSession if shared.context.is_draining() => Refusal::Draining,
                    refusal => refusal,
                };
                if let Some(limit) = refusal.limit() {
                    shared.context.metrics.limited(limit);
                }
                refusal.into_response()
            }))
        })
    }
}

/// The first look at a request: leads requests of Engine.IO, which are most of all, straight to the gate,
/// and all others to the router.
#[derive(Clone)]
pub struct Entrance {
    gate: Gate,
    router: Router,
}

impl Entrance {
    /// An entrance to `gate`, which is among the routes of `router` too, behind CORS.
    #[must_use]
    pub fn new(gate: Gate, router: Router) -> Self {
        Self { gate, router }
    }
}

impl Service<Request<Body>> for Entrance {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        <Gate as Service<Request<Body>>>::Future,
        <Router as Service<Request<Body>>>::Future,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_of_engine = matches!(request.uri().path(), "/socket.io/" | "/socket.io");
        // A request from another origin needs the headers of CORS in its answer.
        if is_of_engine && !request.headers().contains_key(header::ORIGIN) {
            Either::Left(self.gate.call(request))
        } else {
            Either::Right(self.router.call(request))
        }
    }
}

impl Shared {
    async fn handle(&self, mut request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let connection = connection.ok_or(Refusal::BadRequest)?;
        let origin = self.origins.of(request.headers(), &connection);
        let origin = origin.map_err(|origin| {
            self.origins.log(&origin);
            self.context.metrics.origin_refused();
            Refusal::Origin(origin)
        })?;
        let query = EngineQuery::parse(request.uri()).map_err(Refusal::Engine)?;
        let cookie_name = Some(self.cookie_name.as_str()).filter(|_| origin == Origin::Listed);
        let credentials = take_credentials(&mut request, cookie_name);
        let client = connection.client(request.headers());
        let opener = Opener::of(
            client,
            request.headers(),
            &credentials,
            self.context.binding,
        );
        let visitor = Visitor {
            opener,
            credentials,
        };
        if let Some(engine) = &self.engine {
            let answer = self.by_engine(&**engine, request, query, visitor).await;
            let is_websocket =
                |answer: &Response<_>| answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            let keeps_head = answer.as_ref().is_ok_and(is_websocket);
            connection.keeps_head.store(keeps_head, Ordering::Release);
            return answer;
        }
        let is_websocket = query.transport == TransportKind::WebSocket;
        match query.sid {
            None if request.method() != Method::GET => Err(Refusal::BadRequest),
            None => {
                if is_websocket {
                    let session = self.open(visitor, query.dialect, connection.place.clone())?;
                    self.open_websocket(request, session, connection).await
                } else {
                    let session = self.open(visitor, query.dialect, Place::default())?;
                    self.open_polling(request, session).await
                }
            }
            Some(sid) => {
                let session = self.registry.get(&sid).ok_or(Refusal::UnknownSession)?;
                if !is_opener(&session, &visitor.opener, is_websocket) {
                    return Err(Refusal::UnknownSession);
                }
                self.resume(request, session, is_websocket.then_some(connection))
                    .await
            }
        }
    }

    /// Has the engine answer a request.
    async fn by_engine(
        &self,
        engine: &dyn EngineCarrier,
        request: Request<Body>,
        query: EngineQuery,
        visitor: Visitor,
    ) -> Result<Response<Body>, Refusal> {
        let transport = query.transport;
        let answer = match &query.sid {
            None if request.method() != Method::GET => return Err(Refusal::BadRequest),
            None => {
                let session = self.open(visitor, query.dialect, Place::default())?;
                engine.open(request, query, session)
            }
            Some(sid) => {
                let mut admit = |session: &Arc<EngineSession>| {
                    is_opener(
                        session,
                        &visitor.opener,
                        transport == TransportKind::WebSocket,
                    )
                };
                let answer = engine.resume(request, transport, sid, &mut admit);
                answer.ok_or(Refusal::UnknownSession)?
            }
        };
        answer.await.map_err(Refusal::Engine)
    }

    /// Opens a session. Its place is given back with `place` too: for a WebSocket that is its
    /// connection's.
    fn open(
        &self,
        visitor: Visitor,
        dialect: Dialect,
        place: Place,
    ) -> Result<Arc<EngineSession>, Refusal> {
        let context = &self.context;
        if context.is_draining() {
            return Err(Refusal::Draining);
        }
        let address = visitor.opener.address();
        if let Some(wait) = context.refusal_limiter.wait(address) {
            return Err(Refusal::Flood(wait));
        }
        let permit = context.quotas.sessions.acquire(Some(address));
        place.keep(permit.map_err(|exceeded| match exceeded {
            Exceeded::Total => Refusal::Overloaded,
            Exceeded::Share => Refusal::TooMany,
        })?);
        let carried_by = match self.engine {
            Some(_) => CarriedBy::Engine(OnceLock::new()),
            None => CarriedBy::Socketioxide(Box::default()),
        };
        let session = EngineSession::new(visitor, dialect, context.clone(), carried_by, place);
        session.end_unless_admitted(context.limits.unauthenticated());
        Ok(session)
    }
}

/// Whether the client that opened `session` sends a request; the same answer as for a session that
/// does not exist is due otherwise.
fn is_opener(session: &EngineSession, opener: &Opener, is_websocket: bool) -> bool {
    let binding = session.context().binding;
    let is_opener = session.opener().is_also(opener, is_websocket, binding);
    if !is_opener {
        tracing::warn!("a session id was presented by another client");
    }
    is_opener
}
