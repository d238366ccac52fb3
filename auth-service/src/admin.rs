//! The operator's listener: what it serves is for a monitor, and visitors must not reach it.

use std::{net::SocketAddr, net::TcpListener, time::Duration};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, http::header, web};
use anyhow::Context as _;

use crate::{
    error::ApiError,
    metrics::{Levels, METRICS_TYPE},
    routes::{self, get_or_head, nothing_here},
    state::AppState,
};

/// How long the database may take to say how much there is of something.
const LEVELS_DEADLINE: Duration = Duration::from_secs(1);

/// A monitor and its spare keep one connection each; the rest is for people who look.
const MAXIMUM_CONNECTIONS: usize = 64;

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
    let factory = move || {
        App::new()
            .app_data(state.clone())
            .wrap(routes::answer_headers(state.settings()))
            .configure(routes::configure_health)
            .service(get_or_head("/metrics", show_metrics))
            .default_service(web::to(nothing_here))
    };
    let server = HttpServer::new(factory)
        .workers(1)
        .max_connections(MAXIMUM_CONNECTIONS)
        .disable_signals()
        .listen(listener)
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
    let levels = Levels {
        passwords_hashed: state.users().passwords().verified(),
        pending: pending.ok().and_then(Result::ok),
    };
    let text = state
        .metrics()
        .render(levels)
        .context("the metrics cannot be written")?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, METRICS_TYPE))
        .body(text))
}
