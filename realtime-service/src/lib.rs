//! Latchkey's gateway: admits Socket.IO clients by their token, and carries their messages.
//!
//! A connection comes in through [`listener`], each of its Engine.IO requests through
//! [`engine::Gate`], and each CONNECT through a [`guard()`], which turns a token into a
//! [`session::Session`] or a refusal. From then on [`events`] is the table of what it can do.
//!
//! It is a library too: an [`App`] has namespaces, events and routes of somebody's own in the place
//! of those. `docs/library.md` says how.

pub mod admin;
pub mod api;
mod app;
pub mod cli;
pub mod config;
pub mod console;
pub mod engine;
pub mod events;
pub mod gateway;
pub mod guard;
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
pub mod transport;

// An application has to have them in the versions that these types are of.
pub use axum;
pub use socketioxide;

use anyhow::Result;
use socketioxide::{extract::SocketRef, handler::ConnectHandler};

pub use crate::{
    app::App,
    guard::{SessionRef, guard},
};
use crate::{config::Config, keys::KeySource};

/// Serves the gateway on `listener` until `shutdown`: its rooms, its events and its page.
///
/// # Errors
///
/// When a setting, a listener, the keys or the certificate cannot be used.
pub async fn serve(
    config: Config,
    keys: KeySource,
    listener: std::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let page = console::routes(&config.issuer);
    let app = App::new(config, keys)?.with_routes(page);
    app.io().ns("/", guard(welcome).with(events::register));
    app.serve(listener, shutdown).await
}

/// Runs once CONNECT was acknowledged.
async fn welcome(socket: SocketRef, session: SessionRef) {
    let transport = socket.transport_type();
    let identity = session.identity();
    let sub = identity.sender.sub.as_deref();
    tracing::info!(sub, connection = %session.connection, ?transport, "connected");
}
