//! Serves HTTP/1.1 on a bound socket, with TLS or without, for the public listener and the operator's.
//!
//! Does what actix-web's `HttpServer` does, over a stream of our own: the memory of a connection is bounded
//! whatever its client sends ahead. `ConnectionInfo` does not tell TLS, and has no use here.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_http::{
    HttpService, Request, Response,
    body::{BoxBody, MessageBody},
    error::DispatchError,
};
use actix_server::{GracefulShutdownSignal, ServerBuilder};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory,
    fn_service, map_config,
};
use actix_tls::accept::{
    TlsError,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{dev::AppConfig, rt::net::TcpStream};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use self::{
    gate::{AnsweringBody, Gate},
    stream::PacedStream,
};
use crate::guard::connections::ConnectionLimit;

mod ahead;
mod gate;
mod stream;

/// Time in which a client takes the end of its connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings of a listener's connections.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) limit: Arc<ConnectionLimit>,
    /// Maximum time until the head of the first request is there.
    pub(crate) header_deadline: Duration,
    /// Maximum time between two requests.
    pub(crate) keep_alive: Duration,
    /// Whether a client that has ended its side is still answered.
    pub(crate) serves_half_closed: bool,
}

/// Adds a socket to a server. The connections of each worker are answered by an app that `app` makes.
///
/// # Errors
///
/// When the socket cannot be used.
pub(crate) fn listen<F, I, S, B>(
    server: ServerBuilder,
    socket: TcpListener,
    tls: Option<ServerConfig>,
    connections: Connections,
    app: F,
) -> io::Result<ServerBuilder>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let draining = server.graceful_shutdown_signal();
    let serves_half_closed = connections.serves_half_closed;
    let Some(mut tls) = tls else {
        return server.listen("http", socket, move || {
            let accept = fn_service(move |io: TcpStream| async move {
                let peer = io.peer_addr().ok();
                Ok((PacedStream::new(io, serves_half_closed), peer))
            });
            accept.and_then(http(app(), &connections, &draining, |io| io))
        });
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = Acceptor::new(tls);
    server.listen("https", socket, move || {
        let accept = acceptor
            .clone()
            .map_init_err(|()| tracing::error!("the TLS acceptor cannot be made"))
            .map_err(TlsError::into_service_error);
        let accept = accept.map(move |io: TlsStream<TcpStream>| {
            let peer = io.get_ref().0.peer_addr().ok();
            (PacedStream::new(io, serves_half_closed), peer)
        });
        let http = http(
            app(),
            &connections,
            &draining,
            |io: &TlsStream<TcpStream>| io.get_ref().0,
        );
        accept.and_then(http.map_err(TlsError::Service))
    })
}

/// Builds the service of connections that are open. `socket` returns the socket under a connection.
fn http<T, I, S, B>(
    app: I,
    connections: &Connections,
    draining: &GracefulShutdownSignal,
    socket: fn(&T) -> &TcpStream,
) -> impl ServiceFactory<
    (PacedStream<T>, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> + use<T, I, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let app =
        map_config(app, |()| AppConfig::default()).map_err(|error| error.into().error_response());
    let limit = Arc::clone(&connections.limit);
    let draining = draining.clone();
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let draining = draining.clone();
            async move { draining.notified().await }
        })
        .keep_alive(connections.keep_alive)
        .client_request_timeout(connections.header_deadline)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .h1_allow_half_closed(connections.serves_half_closed)
        .on_connect_ext(move |stream: &PacedStream<T>, extensions| {
            extensions.insert(Rc::clone(stream.gate()));
            limit.on_connect(socket(stream.get_ref()), extensions);
        })
        .h1(apply_fn_factory(app, |request, app: &_| {
            answer::<_, B>(request, app)
        }))
}

/// Answers a request, and withholds further bytes of its connection until it is answered.
fn answer<S, B>(
    request: Request,
    app: &S,
) -> impl Future<Output = Result<Response<AnsweringBody>, S::Error>> + use<S, B>
where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    let gate = request.conn_data::<Rc<Gate>>().cloned();
    let (request, answering) = match gate {
        Some(gate) => {
            let (request, answering) = gate.begin(request);
            (request, Some(answering))
        }
        None => (request, None),
    };
    let answered = app.call(request);
    async move {
        let response: Response<B> = answered.await?.into();
        Ok(response.map_body(|_, body| AnsweringBody {
            body: BoxBody::new(body),
            _answering: answering,
        }))
    }
}
