//! The operator's listener: metrics and health for a monitor, and the HTTP API for accounts, which takes
//! the token of a client. Visitors must not reach it.

use std::{net::SocketAddr, net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, HttpResponse,
    dev::{Server, ServerHandle},
    http::header,
    middleware::from_fn,
    web,
};
use anyhow::Context as _;

use crate::{
    error::ApiError,
    guard::connections::ConnectionLimit,
    listener::{self, Connections},
    metrics::{Gauges, METRICS_TYPE},
    observe::observe,
    routes::answer_headers,
    state::AppState,
    telemetry,
};

mod account;
mod caller;
mod claims;
mod import;
mod openapi;
mod routes;
mod users;

/// Maximum time in which the database counts the messages that wait.
const LEVELS_DEADLINE: Duration = Duration::from_secs(1);

/// A monitor and its spare keep one connection each; the rest is for people who look, and for back ends.
const MAXIMUM_CONNECTIONS: usize = 64;

/// Maximum number of connections of one address, of IPv6 of one /64.
const MAXIMUM_CONNECTIONS_PER_ADDRESS: usize = 16;

/// Listens on `address` until the handle is told to stop.
///
/// # Errors
///
/// When the address is taken.
pub(crate) fn start(
    address: SocketAddr,
    state: web::Data<AppState>,
) -> anyhow::Result<ServerHandle> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address} for the operator"))?;
    let own = state.clone();
    let imports = web::Data::new(import::Imports::default());
    let factory = move || {
        App::new()
            .app_data(state.clone())
            .app_data(imports.clone())
            .wrap(from_fn(observe))
            .wrap(answer_headers(state.settings()))
            .configure(routes::configure)
    };
    let settings = own.settings();
    let most = MAXIMUM_CONNECTIONS_PER_ADDRESS;
    let limit = ConnectionLimit::new(most, &settings.trusted_proxies);
    let connections = Connections {
        limit: Arc::new(limit),
        header_deadline: Duration::from_secs(settings.header_deadline_secs),
        keep_alive: Duration::from_secs(settings.keep_alive_secs),
        serves_half_closed: true,
    };
    let server = Server::build()
        .workers(1)
        .max_concurrent_connections(MAXIMUM_CONNECTIONS)
        .disable_signals();
    let server = listener::listen(server, listener, None, connections, factory)
        .context("cannot listen for the operator")?
        .run();
    let handle = server.handle();
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!("the operator's listener failed: {error}");
        }
    });
    Ok(handle)
}

/// `GET /metrics`: everything that is counted, as OpenMetrics text.
async fn show_metrics(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let counting = state.store().count_pending();
    let pending = tokio::time::timeout(LEVELS_DEADLINE, counting).await;
    let gauges = Gauges {
        passwords_hashed: state.users().passwords().verified(),
        log_lines_lost: telemetry::lost_lines(),
        pending: pending.ok().and_then(Result::ok),
    };
    let text = state
        .metrics()
        .render(gauges)
        .context("the metrics cannot be written")?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, METRICS_TYPE))
        .body(text))
}
