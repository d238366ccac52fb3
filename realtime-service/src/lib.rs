//! Latchkey's gateway: admits Socket.IO clients by their token, and carries their messages.
//!
//! A connection comes in through [`listener`], each of its Engine.IO requests through
//! [`engine::Gate`], and each CONNECT through [`handshake::admit`], which turns a token into a
//! [`session::Session`] or a refusal. From then on [`events`] is the table of what it can do.

pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod console;
pub mod engine;
pub mod events;
pub mod gateway;
pub mod handshake;
pub mod health;
pub mod history;
pub mod keys;
pub mod limits;
pub mod listener;
pub mod messages;
pub mod metrics;
pub mod presence;
pub mod revocations;
pub mod rooms;
pub mod session;
pub mod telemetry;
pub mod timers;
pub mod tls;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use futures_util::future::OptionFuture;
use http::{HeaderValue, Method, header};
use serde_json::json;
use socketioxide::{
    ParserConfig, SocketIo,
    extract::{Extension, SocketRef},
    handler::ConnectHandler,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    config::Config,
    engine::{Engine, Gate},
    gateway::Gateway,
    keys::KeySource,
    listener::Terms,
    session::{ACKNOWLEDGEMENT_DEADLINE, Session},
    tls::Certificate,
};

/// How long clients are asked to wait before they come back after a shutdown, in milliseconds.
const RECONNECT_AFTER_DRAIN_MS: u64 = 1000;

/// How often rooms that nobody needs any more are looked for. What is too old is never told, however
/// long it lies.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);

/// Serves the gateway on `listener` until `shutdown`; then tells clients to come back elsewhere
/// and lets go of them, also of those that read nothing.
///
/// # Errors
///
/// When a listener, the keys or the certificate cannot be used.
pub async fn serve(
    config: Config,
    keys: KeySource,
    listener: std::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    config.check()?;
    warn_if_exposed(&config, &listener);
    let certificate = Certificate::open(&config.tls)?;
    let tls = certificate
        .as_ref()
        .map(Certificate::acceptor)
        .transpose()?;
    let gateway = Gateway::new(&config, keys)?;
    listener
        .set_nonblocking(true)
        .context("cannot use the listener")?;
    let listener =
        tokio::net::TcpListener::from_std(listener).context("cannot use the listener")?;

    let (engine, io) = engine_of(&config, &gateway);
    let gate = Gate::new(engine, &config, gateway.clone());
    let router = routes(&config, gate, gateway.clone())?;
    let stop = CancellationToken::new();
    let admin = match config.admin.listen.0 {
        Some(address) => {
            let stopped = stop.clone().cancelled_owned();
            Some(admin::start(address, gateway.clone(), stopped).await?)
        }
        None => None,
    };
    let api = match config.api.listen.0 {
        Some(address) => {
            let stopped = stop.clone().cancelled_owned();
            let terms = (&config.api, tls.clone());
            Some(api::start(address, gateway.clone(), terms, stopped).await?)
        }
        None => None,
    };
    let mut tasks = tend(&gateway, certificate);
    let connections = gateway.quotas.connections.clone();
    let terms = Terms::new(&config.limits, connections, gateway.metrics.clone())
        .with_tls(tls)
        .with_trusted_proxies(&config.trusted_proxies);
    let drain = drain(io, config.limits.drain());
    let served = async {
        listener::serve(listener, router, terms, shutdown, drain).await;
        stop.cancel();
    };
    tokio::join!(served, OptionFuture::from(admin), OptionFuture::from(api));
    tasks.shutdown().await;
    gateway.revocations.close().await;
    Ok(())
}

/// What runs beside the listener for as long as it serves.
fn tend(gateway: &Arc<Gateway>, certificate: Option<Arc<Certificate>>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let timers = gateway.timers.clone();
    tasks.spawn(async move { timers.run().await });
    let sweeper = gateway.clone();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_PAUSE).await;
            sweeper.rooms.sweep();
        }
    });
    let gateway = gateway.clone();
    tasks.spawn(async move {
        if let Err(error) = gateway.keys.tend().await {
            tracing::error!("the keys are not looked after: {error:#}");
        }
    });
    if let Some(certificate) = certificate {
        tasks.spawn(async move {
            if let Err(error) = certificate.tend().await {
                tracing::error!("the certificate is not looked after: {error:#}");
            }
        });
    }
    tasks
}

/// Tokens cross the network in the clear when nothing in front of us does TLS.
fn warn_if_exposed(config: &Config, listener: &std::net::TcpListener) {
    let is_loopback = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    if !is_loopback && !config.tls.is_on() && !config.issuer.starts_with("https://") {
        tracing::warn!(
            "listening beyond loopback without TLS, and the issuer is not https: \
             tokens can be read on the way"
        );
    }
}

/// The Engine.IO and Socket.IO server, with its one namespace.
fn engine_of(config: &Config, gateway: &Arc<Gateway>) -> (Engine, SocketIo) {
    let limits = &config.limits;
    let (engine, io) = SocketIo::builder()
        .with_state(gateway.clone())
        .with_parser(ParserConfig::common().max_incoming_binary_buf_size(limits.message_bytes))
        .ping_interval(Duration::from_secs(config.heartbeat.interval_secs))
        .ping_timeout(Duration::from_secs(config.heartbeat.timeout_secs))
        .connect_timeout(limits.unauthenticated())
        .ack_timeout(ACKNOWLEDGEMENT_DEADLINE)
        .max_payload(limits.message_bytes as u64)
        .ws_max_message_size(limits.message_bytes)
        .ws_max_frame_size(limits.message_bytes)
        .max_buffer_size(limits.outbound_packets)
        .build_with_inner_svc(Router::new());
    // The last one that is added comes first.
    io.ns(
        "/",
        welcome.with(events::register).with(handshake::authenticate),
    );
    (engine, io)
}

/// Runs once CONNECT was acknowledged.
async fn welcome(socket: SocketRef, Extension(session): Extension<Arc<Session>>) {
    let transport = socket.transport_type();
    let identity = session.identity();
    let sub = identity.sender.sub.as_deref();
    tracing::info!(sub, connection = %session.connection, ?transport, "connected");
}

/// Every path that is served.
fn routes(config: &Config, gate: Gate, gateway: Arc<Gateway>) -> anyhow::Result<Router> {
    let origins = config
        .origins
        .iter()
        .map(|origin| origin.parse::<HeaderValue>());
    let origins = origins
        .collect::<Result<Vec<_>, _>>()
        .context("origins: not a header's value")?;
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE]);
    Ok(Router::new()
        .route_service("/socket.io/", gate.clone())
        .route_service("/socket.io", gate)
        .merge(health::routes(gateway.clone()))
        .merge(revocations::routes(gateway))
        .merge(console::routes(&config.issuer))
        .layer(cors))
}

/// Tells every client that the gateway goes, and gives them a moment to take it.
async fn drain(io: SocketIo, grace: Duration) {
    let sockets = io.sockets();
    let notice = json!({ "reconnect_in_ms": RECONNECT_AFTER_DRAIN_MS });
    for socket in &sockets {
        // Whoever does not take it is told by the end of the stream.
        let _ = socket.emit("rt:drain", &notice);
    }
    if !sockets.is_empty() {
        tokio::time::sleep(grace).await;
    }
}
