//! The engine with the handlers that the official protocol suites of Engine.IO and Socket.IO expect.
//!
//! `cargo run -p realtime-service --example engine_conformance` listens on port 3000 of localhost
//! (`ADDRESS` names another one): `/engine.io/` echoes messages, `/socket.io/` has the namespaces
//! `/` and `/custom`. Both suites run against it unmodified: `tests/protocol-suites` fetches them.

mod echo;
mod socket;

use std::{convert::Infallible, env, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use realtime_service::transport::engine::{
    Answer, Engine, EngineHandler, EngineQuery, EngineSettings, RequestError, recover,
    socket_io::{SocketData, SocketIo},
};
use tokio::net::{TcpListener, TcpStream};

use self::{echo::Echo, socket::Conformance};

/// Time that clients of the suites have to answer a ping.
pub(crate) const SUITE_PING_TIMEOUT: Duration = Duration::from_millis(200);

/// How many attachments a packet may have.
const MAXIMUM_ATTACHMENTS: usize = 10;

#[derive(Clone)]
struct Server {
    echo: Engine<Echo>,
    socket_io: Engine<SocketIo<Conformance>>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = env::var("ADDRESS").unwrap_or_else(|_| "localhost:3000".to_owned());
    let mut listeners = Vec::new();
    // "localhost" can be two addresses, and clients try both.
    for address in tokio::net::lookup_host(address).await? {
        listeners.push(TcpListener::bind(address).await?);
        println!("listening on http://{address}");
    }
    serve(listeners, SUITE_PING_TIMEOUT).await;
    Ok(())
}

/// Serves both protocols on `listeners`, for as long as it is polled. Clients have `ping_timeout` to answer
/// a ping.
pub(crate) async fn serve(listeners: Vec<TcpListener>, ping_timeout: Duration) {
    let settings = EngineSettings {
        ping_interval: Duration::from_millis(300),
        ping_timeout,
        message_bytes: 1_000_000,
        ..EngineSettings::default()
    };
    let layer = SocketIo::new(Conformance, MAXIMUM_ATTACHMENTS);
    let server = Server {
        echo: Engine::new(settings.clone(), Echo, recover::<TcpStream>),
        socket_io: Engine::new(settings, layer, recover::<TcpStream>),
    };
    let accepting = listeners.into_iter().map(|one| accept(one, server.clone()));
    let accepting = futures_util::future::join_all(accepting);
    tokio::join!(server.echo.run(), server.socket_io.run(), accepting);
}

async fn accept(listener: TcpListener, server: Server) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        let _ = tcp.set_nodelay(true);
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.respond(request.map(Body::new)).await) }
            });
            // The end of a connection is no matter for this program.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades()
                .await;
        });
    }
}

impl Server {
    async fn respond(&self, request: Request<Body>) -> Response<Body> {
        match request.uri().path() {
            "/engine.io/" => answer(&self.echo, request, ()).await,
            "/socket.io/" => {
                let data = SocketData::new(socket::Namespaces::default());
                answer(&self.socket_io, request, data).await
            }
            _ => {
                let mut response = Response::default();
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}

/// Answers one request, as the gate of the gateway does after its checks.
async fn answer<H: EngineHandler>(
    engine: &Engine<H>,
    request: Request<Body>,
    data: H::Data,
) -> Response<Body> {
    let respond = async {
        let query = EngineQuery::parse(request.uri())?;
        let Some(sid) = &query.sid else {
            return engine.open(request, &query, Arc::default(), data);
        };
        let session = engine.session(sid).ok_or(RequestError::UnknownSession)?;
        engine
            .resume(request, query.transport, session)
            .wait()
            .await
    };
    let answer = respond.await.map(Answer::spawn);
    answer.unwrap_or_else(RequestError::into_response)
}
