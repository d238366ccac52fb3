//! Whether the gateway lives and can serve.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use reqwest::{Client, redirect::Policy};
use serde_json::{Value, json};

use crate::{cluster::Cluster, state::AppState};

/// `GET /health/live`, and `GET /health/ready`: whether there are keys to verify tokens with, and clients
/// are not handed over to other gateways.
pub fn routes(state: Arc<AppState>) -> Router {
    Router::new()
        .route("/health/live", get(show_live))
        .route("/health/ready", get(show_ready))
        .with_state(state)
}

async fn show_live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn show_ready(State(state): State<Arc<AppState>>) -> (StatusCode, Json<Value>) {
    let is_away = |cluster: &Arc<Cluster>| !cluster.is_connected();
    let (status, body) = if state.transport.is_draining() {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "status": "draining" }),
        )
    } else if !state.sessions.keys.are_known() {
        let text = "the issuer's keys are not known";
        (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": text }))
    } else if state.cluster.as_ref().is_some_and(is_away) {
        // Sockets are served all the same, and no other gateway has another Redis.
        let reason = "Redis cannot be reached";
        (
            StatusCode::OK,
            json!({ "status": "degraded", "reason": reason }),
        )
    } else {
        (StatusCode::OK, json!({ "status": "ok" }))
    };
    (status, Json(body))
}

/// How long a gateway may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the gateway that listens on `listen` whether it is ready: what a container's health check
/// runs, so that its image needs no HTTP client.
///
/// # Errors
///
/// When it is not, or does not answer.
pub async fn ask(listen: SocketAddr, with_tls: bool) -> anyhow::Result<()> {
    let client = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .timeout(DEADLINE)
        // The certificate is for the public name, and this is this machine.
        .tls_danger_accept_invalid_certs(with_tls)
        .build()?;
    let scheme = if with_tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/health/ready", reachable(listen));
    let answer = client.get(url).send().await;
    let answer = answer.map_err(reqwest::Error::without_url)?;
    anyhow::ensure!(answer.status() == StatusCode::OK, "not ready");
    Ok(())
}

/// An address to connect to: "any" can be listened on, but not called.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
