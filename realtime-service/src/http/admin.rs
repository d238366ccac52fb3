//! The operator's listener: what it serves is for a monitor, and clients must not reach it.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::health;
use crate::{
    limits::Quota,
    metrics::METRICS_TYPE,
    state::AppState,
    transport::listener::{self, Proxies, Terms},
};

/// Maximum number of connections. A monitor and its spare keep one connection each; the others are for
/// people.
const MAXIMUM_CONNECTIONS: usize = 64;

/// Maximum number of connections of one address. `trusted_proxies` are exempt.
const MAXIMUM_CONNECTIONS_PER_ADDRESS: usize = 16;

/// Listens on `address`, and gives what serves there until `shutdown`.
///
/// # Errors
///
/// When the address is taken.
pub async fn start(
    address: SocketAddr,
    state: Arc<AppState>,
    proxies: Proxies,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for the operator"))?;
    let quota = Quota::new(MAXIMUM_CONNECTIONS, MAXIMUM_CONNECTIONS_PER_ADDRESS);
    let terms = Terms::new(&state.transport.limits, quota, Arc::default()).with_proxies(proxies);
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .with_state(state.clone())
        .merge(health::routes(state));
    Ok(listener::serve(listener, router, terms, shutdown))
}

/// `GET /metrics`: everything that is counted, as OpenMetrics text.
async fn show_metrics(State(state): State<Arc<AppState>>) -> Response {
    match state.transport.metrics.render(&state.transport.quotas) {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
