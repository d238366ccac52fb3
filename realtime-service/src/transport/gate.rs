//! The service in front of socketioxide: every Engine.IO request passes here first.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use serde_json::Value;
use socketioxide::service::SocketIoService;
use tower::{Service, ServiceExt};

use super::{
    TransportContext,
    engine::{
        self, RequestError, Sid, TransportKind,
        socket_io::{SocketHandler, SocketIo},
    },
    engine_carrier::{Client, EngineCarrier},
    engine_session::EngineSession,
    listener::{
        Connection, Place,
        refusal_data::{self, Dialect},
    },
    poll_body::messages_in,
    registry::Registry,
    request::{EngineQuery, Opener, closing_request, take_credentials},
};
use crate::{config::Config, limits::Exceeded, metrics::Limit};

/// socketioxide's server; what is not for it finds an empty router.
pub type Socketioxide = SocketIoService<Router>;

/// How much of a body that is too large is read before the connection is closed, in bytes.
const MAXIMUM_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// How long a client should wait for a place to become free.
const RETRY_AFTER_SECS: u64 = 5;

/// Lets Engine.IO requests through to socketioxide, or answers them itself.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    /// socketioxide: for clients of Engine.IO 3, and for an application's own namespaces.
    socketioxide: Socketioxide,
    /// The engine, which carries the sessions of Engine.IO 4 if there is one.
    engine: Option<Arc<dyn EngineCarrier>>,
    registry: Arc<Registry>,
    origins: Vec<HeaderValue>,
    cookie_name: String,
    context: Arc<TransportContext>,
}

/// Why the gate answers by itself. The numbers are Engine.IO's own error codes.
enum Refusal {
    /// There is no such session, or it is somebody else's: the two look the same.
    UnknownSession,
    /// A request that no client sends.
    BadRequest,
    /// A page of an origin that is not listed.
    Origin,
    /// The body is larger than a message may be.
    TooLarge,
    /// The body takes too long.
    TooSlow,
    /// This address has as many sessions as it may.
    TooMany,
    /// This address had too many refusals, and has to wait for so long.
    Flood(Duration),
    /// The gateway has as many sessions as it can.
    Overloaded,
    /// The engine refuses the request.
    Engine(RequestError),
}

impl Refusal {
    /// The limit that was met, if it was one.
    fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooLarge => Some(Limit::MessageBytes),
            Self::TooSlow => Some(Limit::BodyRead),
            Self::TooMany => Some(Limit::SessionsPerAddress),
            Self::Flood(_) => Some(Limit::RefusalsPerAddress),
            Self::Overloaded => Some(Limit::Sessions),
            Self::Engine(RequestError::TooLarge) => Some(Limit::MessageBytes),
            Self::Engine(RequestError::TooSlow) => Some(Limit::BodyRead),
            Self::UnknownSession | Self::BadRequest | Self::Origin | Self::Engine(_) => None,
        }
    }

    /// How many seconds a client should wait before it tries again.
    fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::TooMany | Self::Overloaded => Some(RETRY_AFTER_SECS),
            Self::Flood(wait) => Some(wait.as_secs() + 1),
            _ => None,
        }
    }

    fn into_response(self) -> Response<Body> {
        if let Self::Engine(error) = self {
            return error.into_response();
        }
        let (status, code, message) = match self {
            Self::UnknownSession => (StatusCode::BAD_REQUEST, 1, "Session ID unknown"),
            Self::BadRequest | Self::Engine(_) => (StatusCode::BAD_REQUEST, 3, "Bad request"),
            Self::Origin => (StatusCode::FORBIDDEN, 4, "Origin not allowed"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 3, "Message too large"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, 3, "Request too slow"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, 3, "Too many sessions"),
            Self::Flood(_) => (StatusCode::TOO_MANY_REQUESTS, 3, "Too many refusals"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, 3, "Too many sessions"),
        };
        let body = serde_json::json!({ "code": code, "message": message }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(secs) = self.retry_after_secs() {
            headers.insert(header::RETRY_AFTER, secs.into());
        }
        response
    }
}

impl Gate {
    /// A gate in front of `socketioxide`, which carries every session.
    #[must_use]
    pub fn new(
        socketioxide: Socketioxide,
        config: &Config,
        context: Arc<TransportContext>,
    ) -> Self {
        let origins = config
            .origins
            .iter()
            .filter_map(|origin| origin.parse().ok())
            .collect();
        Self(Arc::new(Shared {
            socketioxide,
            engine: None,
            registry: Arc::default(),
            origins,
            cookie_name: config.cookie_name().to_owned(),
            context,
        }))
    }

    /// Has `engine` carry the sessions of Engine.IO 4.
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
                if let Some(limit) = refusal.limit() {
                    shared.context.metrics.limited(limit);
                }
                refusal.into_response()
            }))
        })
    }
}

impl Shared {
    async fn handle(&self, mut request: Request<Body>) -> Result<Response<Body>, Refusal> {
        self.check_origin(&request)?;
        let connection = request.extensions().get::<Connection>().cloned();
        let connection = connection.ok_or(Refusal::BadRequest)?;
        let query = EngineQuery::parse(request.uri()).ok_or(Refusal::BadRequest)?;
        let credentials = take_credentials(&mut request, &self.cookie_name);
        let client = connection.client(request.headers());
        let opener = Opener::of(client, request.headers(), credentials);
        if let Some(engine) = self.engine.as_ref().filter(|_| query.dialect.is_of_engine()) {
            return self.by_engine(&**engine, request, &query, opener).await;
        }
        match query.sid {
            None if request.method() != Method::GET => Err(Refusal::BadRequest),
            None => {
                if query.is_websocket {
                    let session = self.open(opener, query.dialect, connection.place.clone())?;
                    self.open_websocket(request, session, connection).await
                } else {
                    let session = self.open(opener, query.dialect, Place::default())?;
                    self.open_polling(request, session).await
                }
            }
            Some(sid) => {
                let session = self.registry.get(&sid).ok_or(Refusal::UnknownSession)?;
                if !is_opener(&session, &opener, query.is_websocket) {
                    return Err(Refusal::UnknownSession);
                }
                self.resume(request, session, query.is_websocket.then_some(connection))
                    .await
            }
        }
    }

    /// Has the engine answer a request.
    async fn by_engine(
        &self,
        engine: &dyn EngineCarrier,
        request: Request<Body>,
        query: &EngineQuery,
        opener: Opener,
    ) -> Result<Response<Body>, Refusal> {
        let transport = match query.is_websocket {
            true => TransportKind::WebSocket,
            false => TransportKind::Polling,
        };
        let answer = match &query.sid {
            None if request.method() != Method::GET => return Err(Refusal::BadRequest),
            None => {
                let session = self.open(opener, query.dialect, Place::default())?;
                engine.open(request, transport, session)
            }
            Some(sid) => {
                let sid = Sid::parse(sid).ok_or(Refusal::UnknownSession)?;
                let mut admit =
                    |session: &Arc<EngineSession>| is_opener(session, &opener, query.is_websocket);
                let answer = engine.resume(request, transport, sid, &mut admit);
                answer.ok_or(Refusal::UnknownSession)?
            }
        };
        answer.await.map_err(Refusal::Engine)
    }

    /// Browsers do not apply the same-origin policy to WebSockets, so it is applied here, to every
    /// request (RFC 6455, section 10.2).
    fn check_origin<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        if origins.all(|origin| self.origins.contains(origin)) {
            Ok(())
        } else {
            Err(Refusal::Origin)
        }
    }

    /// Opens a session. Its place is given back with `place` too: for a WebSocket that is its
    /// connection's.
    fn open(
        &self,
        opener: Opener,
        dialect: Dialect,
        place: Place,
    ) -> Result<Arc<EngineSession>, Refusal> {
        let context = &self.context;
        let address = opener.address();
        if let Some(wait) = context.refusal_limiter.wait(address) {
            return Err(Refusal::Flood(wait));
        }
        let permit = context.quotas.sessions.acquire(Some(address));
        place.keep(permit.map_err(|exceeded| match exceeded {
            Exceeded::Total => Refusal::Overloaded,
            Exceeded::Share => Refusal::TooMany,
        })?);
        let session = EngineSession::new(opener, dialect, context.clone(), place);
        session.end_unless_admitted(context.limits.unauthenticated());
        Ok(session)
    }

    async fn open_websocket(
        &self,
        mut request: Request<Body>,
        session: Arc<EngineSession>,
        connection: Connection,
    ) -> Result<Response<Body>, Refusal> {
        session.attach(connection);
        request.extensions_mut().insert(session.clone());
        self.upgrade(request, &session).await
    }

    /// Lets a WebSocket through to which `session` is attached already.
    async fn upgrade(
        &self,
        request: Request<Body>,
        session: &EngineSession,
    ) -> Result<Response<Body>, Refusal> {
        let response = self.forward(request.map(|_| Full::default())).await;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            session.detach();
        }
        Ok(response)
    }

    async fn open_polling(
        &self,
        mut request: Request<Body>,
        session: Arc<EngineSession>,
    ) -> Result<Response<Body>, Refusal> {
        request.extensions_mut().insert(session.clone());
        let uri = request.uri().clone();
        let response = self.forward(request.map(|_| Full::default())).await;
        if response.status() != StatusCode::OK {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|_| Refusal::BadRequest)?
            .to_bytes();
        let sid = opened_sid(&body).ok_or(Refusal::BadRequest)?;
        let engine = self.socketioxide.clone();
        let closing = sid.clone();
        let close = move || {
            if let Some(request) = closing_request(&uri, &closing, Full::from("1")) {
                tokio::spawn(engine.clone().oneshot(request));
            }
        };
        self.registry.insert(&session, sid, close);
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    /// Serves a request of a session that exists, until the session ends.
    async fn resume(
        &self,
        request: Request<Body>,
        session: Arc<EngineSession>,
        upgrade_by: Option<Connection>,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(connection) = upgrade_by {
            if !session.attach(connection) {
                return Err(Refusal::BadRequest);
            }
            return self.upgrade(request, &session).await;
        }
        let request = if request.method() == Method::POST {
            let (parts, body) = request.into_parts();
            Request::from_parts(parts, Full::from(self.read(body).await?))
        } else {
            request.map(|_| Full::default())
        };
        session.heard();
        let answer = tokio::select! {
            biased;
            () = session.ended() => Err(Refusal::UnknownSession),
            response = self.forward(request) => finish_poll(response, &session).await,
        };
        session.heard();
        answer
    }

    /// Reads a whole body, which is bounded in size and time.
    async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        let limits = &self.context.limits;
        let read = collect(body, limits.message_bytes);
        tokio::time::timeout(limits.body_read(), read)
            .await
            .unwrap_or(Err(Refusal::TooSlow))
    }

    async fn forward(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let response = self
            .socketioxide
            .clone()
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {});
        response.map(Body::new)
    }
}

/// Whether the client that opened `session` sends a request; the same answer as for a session that
/// does not exist is due otherwise.
fn is_opener(session: &EngineSession, opener: &Opener, is_websocket: bool) -> bool {
    let is_opener = session.opener().is_also(opener, is_websocket);
    if !is_opener {
        tracing::warn!("a session id was presented by another client");
    }
    is_opener
}

/// Notes which messages leave with the answer to a poll, and adds to the refusals in it what
/// socketioxide leaves out.
async fn finish_poll(
    response: Response<Body>,
    session: &Arc<EngineSession>,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|_| Refusal::BadRequest)?
        .to_bytes();
    let frames = messages_in(&body, session.dialect());
    if frames > 0 {
        session.frames_left(frames);
    }
    let Some(rewritten) = refusal_data::in_body(&body, session.dialect()) else {
        return Ok(Response::from_parts(parts, Body::from(body)));
    };
    parts
        .headers
        .insert(header::CONTENT_LENGTH, rewritten.len().into());
    Ok(Response::from_parts(parts, Body::from(rewritten)))
}

/// Collects a body of at most `limit` bytes. A larger one is read on and thrown away for a while,
/// because a client that is still writing would lose the answer with the connection.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut collected = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BadRequest)?.into_data() else {
            continue;
        };
        total += data.len();
        if total > limit + MAXIMUM_DISCARDED_BYTES {
            break;
        }
        if total > limit {
            collected = Vec::new();
        } else {
            collected.extend_from_slice(&data);
        }
    }
    if total > limit {
        Err(Refusal::TooLarge)
    } else {
        Ok(Bytes::from(collected))
    }
}

/// The `sid` in the packet that opens a session: `0{…}`, with its length before it on version 3.
fn opened_sid(body: &[u8]) -> Option<String> {
    let start = body.iter().position(|byte| *byte == b'{')?;
    let open: Value = serde_json::from_slice(&body[start..]).ok()?;
    Some(open.get("sid")?.as_str()?.to_owned())
}
