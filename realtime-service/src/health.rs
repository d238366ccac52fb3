//! Whether the gateway lives and can serve.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde_json::{Value, json};

use crate::gateway::Gateway;

/// `GET /health/live`, and `GET /health/ready`: whether there are keys to verify tokens with.
pub fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/health/live", get(show_live))
        .route("/health/ready", get(show_ready))
        .with_state(gateway)
}

async fn show_live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn show_ready(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Json<Value>) {
    if gateway.keys.are_known() {
        (StatusCode::OK, Json(json!({ "status": "ok" })))
    } else {
        let status = json!({ "status": "the issuer's keys are not known" });
        (StatusCode::SERVICE_UNAVAILABLE, Json(status))
    }
}

/// How long a gateway may take to connect, and to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the gateway that listens on `listen` whether it is ready: what a container's health check
/// runs, so that its image needs no HTTP client.
///
/// # Errors
///
/// When it is not, or does not answer.
pub fn ask(listen: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&reachable(listen), DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream
        .write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    anyhow::ensure!(&status == b"HTTP/1.1 200", "not ready");
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
