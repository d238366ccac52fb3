//! The service that every Engine.IO request passes first: it checks the request, and has the engine or
//! socketioxide answer it.

mod origins;
mod refusal;
mod socketioxide;

use std::{
    convert::Infallible,
    future::ready,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use ::socketioxide::service::SocketIoService;
use axum::{Router, body::Body};
use futures_util::future::Either;
use http::{Method, Request, Response, header};
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
    listener::{Connection, HttpService, Place},
    registry::Registry,
    request::{Opener, Visitor, take_credentials},
};
use crate::{config::Config, limits::Exceeded};

/// The server of socketioxide. Other requests reach an empty router.
pub type Socketioxide = SocketIoService<Router>;

/// Checks Engine.IO requests, and passes them to the engine or to socketioxide, or refuses them.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    /// The server that carries the sessions if there is no engine.
    socketioxide: Socketioxide,
    /// The engine, which carries all sessions if there is one.
    engine: Option<Arc<dyn EngineCarrier>>,
    registry: Arc<Registry>,
    origins: Arc<Origins>,
    cookie_name: String,
    context: Arc<TransportContext>,
}

impl Gate {
    /// Makes a gate in front of `socketioxide`, which carries every session.
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
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        match connection {
            Some(connection) => {
                let response = self.answer(request, &connection);
                Box::pin(async { Ok(response.await) })
            }
            None => {
                let refusal = self.0.refuse(Refusal::BadRequest);
                Box::pin(ready(Ok(refusal)))
            }
        }
    }
}

impl HttpService for Gate {
    fn answer(
        &self,
        request: Request<Body>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let (shared, connection) = (self.0.clone(), connection.clone());
        let reply = shared.handle(request, &connection);
        async move {
            let answer = match reply {
                Ok(reply) => reply.wait().await,
                Err(refusal) => Err(refusal),
            };
            match answer {
                Ok(answer) => {
                    if let Some(upgrade) = answer.upgrade {
                        connection.upgrade_by(upgrade);
                    }
                    answer.response
                }
                Err(refusal) => shared.refuse(refusal),
            }
        }
    }
}

/// Passes requests of Engine.IO, which are the most frequent ones, directly to the gate, and all other
/// requests to the router.
#[derive(Clone)]
pub struct Entrance {
    gate: Gate,
    router: Router,
}

impl Entrance {
    /// Makes an entrance to `gate`. `router` has a route to `gate` too, behind CORS.
    #[must_use]
    pub fn new(gate: Gate, router: Router) -> Self {
        Self { gate, router }
    }
}

impl HttpService for Entrance {
    fn answer(
        &self,
        request: Request<Body>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let is_of_engine = matches!(request.uri().path(), "/socket.io/" | "/socket.io");
        // A request from another origin needs the headers of CORS in its answer.
        if is_of_engine && !request.headers().contains_key(header::ORIGIN) {
            Either::Left(self.gate.answer(request, connection))
        } else {
            Either::Right(self.router.answer(request, connection))
        }
    }
}

/// An answer that is under way.
enum Reply {
    /// The reply of the engine, and the session if the request is a poll: the answer counts as a sign of
    /// life.
    Engine(engine::Reply, Option<Arc<EngineSession>>),
    /// The response of socketioxide.
    Socketioxide(Pin<Box<dyn Future<Output = Result<Response<Body>, Refusal>> + Send>>),
}

impl Reply {
    async fn wait(self) -> Result<engine::Answer, Refusal> {
        match self {
            Self::Engine(reply, polled) => {
                let answer = reply.wait().await;
                if let Some(session) = polled {
                    session.heard();
                }
                answer.map_err(Refusal::Engine)
            }
            Self::Socketioxide(response) => response.await.map(engine::Answer::from),
        }
    }
}

impl Shared {
    /// Checks a request, and begins to answer it.
    fn handle(
        self: &Arc<Self>,
        mut request: Request<Body>,
        connection: &Arc<Connection>,
    ) -> Result<Reply, Refusal> {
        let origin = self.origins.of(request.headers(), connection);
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
            return self.by_engine(&**engine, request, &query, visitor);
        }
        let (shared, connection) = (self.clone(), connection.clone());
        Ok(Reply::Socketioxide(Box::pin(async move {
            shared
                .by_socketioxide(request, query, visitor, connection)
                .await
        })))
    }

    /// Has socketioxide answer a request.
    async fn by_socketioxide(
        &self,
        request: Request<Body>,
        query: EngineQuery,
        visitor: Visitor,
        connection: Arc<Connection>,
    ) -> Result<Response<Body>, Refusal> {
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
    fn by_engine(
        &self,
        engine: &dyn EngineCarrier,
        request: Request<Body>,
        query: &EngineQuery,
        visitor: Visitor,
    ) -> Result<Reply, Refusal> {
        let is_get = request.method() == Method::GET;
        let Some(sid) = &query.sid else {
            if !is_get {
                return Err(Refusal::BadRequest);
            }
            let session = self.open(visitor, query.dialect, Place::default())?;
            let answer = engine.open(request, query, session);
            return Ok(Reply::Engine(engine::Reply::Now(answer), None));
        };
        let is_websocket = query.transport == TransportKind::WebSocket;
        let mut polled = None;
        let mut admit = |session: &Arc<EngineSession>| {
            // A client that only posts does not read.
            polled = is_get.then(|| session.clone());
            is_opener(session, &visitor.opener, is_websocket)
        };
        let reply = engine.resume(request, query.transport, sid, &mut admit);
        Ok(Reply::Engine(reply.ok_or(Refusal::UnknownSession)?, polled))
    }

    /// Builds the response to a request that is refused, and counts it.
    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        let refusal = match refusal {
            // The session may be that of the gateway that a proxy tries next.
            Refusal::UnknownSession if self.context.is_draining() => Refusal::Draining,
            refusal => refusal,
        };
        if let Some(limit) = refusal.limit() {
            self.context.metrics.limited(limit);
        }
        refusal.into_response()
    }

    /// Opens a session. Its permit is kept in `place`: for a WebSocket of socketioxide, the place of its
    /// connection.
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

/// Whether `opener` is the client that opened `session`. Requests of other clients are answered as for
/// an unknown session.
fn is_opener(session: &EngineSession, opener: &Opener, is_websocket: bool) -> bool {
    let binding = session.context().binding;
    let is_opener = session.opener().is_also(opener, is_websocket, binding);
    if !is_opener {
        tracing::warn!("a session id was presented by another client");
    }
    is_opener
}
