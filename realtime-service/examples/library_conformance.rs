//! An application with the handlers that the official protocol suite of Socket.IO expects, behind the
//! guard.
//!
//! Its namespaces are `/` and `/custom`. The suite sends CONNECT without a token, so the token comes by
//! the URL; `credentials = ["query"]` keeps the gateway from reading the payload of CONNECT, which is the
//! suite's own.

use std::{convert::Infallible, time::Duration};

use realtime_service::{
    App, SessionRef,
    config::{Config, KeySource, load_keys},
    guard,
    session::Arguments,
    socketioxide::{
        extract::{SocketRef, TryData},
        handler::ConnectHandler,
    },
};
use serde_json::{Value, json};

/// Time from the answer to CONNECT to the event that follows. The suite misses a message that it reads
/// together with another.
const AUTH_DELAY: Duration = Duration::from_millis(5);

/// The namespaces of this application.
pub(crate) fn app(config: Config, keys: KeySource) -> anyhow::Result<App> {
    let app = App::new(config, keys)?;
    for namespace in ["/", "/custom"] {
        app.io().ns(namespace, guard(greet).with(register));
    }
    Ok(app)
}

/// Sends the payload of CONNECT back.
async fn greet(session: SessionRef, TryData(payload): TryData<Value>) {
    tokio::time::sleep(AUTH_DELAY).await;
    session.emit("auth", &payload.unwrap_or_else(|_| json!({})));
}

/// Registers the events: one is sent back, one is acknowledged with its own arguments.
async fn register(socket: SocketRef, session: SessionRef) -> Result<(), Infallible> {
    session.on(&socket, "message", |session, event| async move {
        let arguments = Arguments(event.arguments().unwrap_or_default());
        session.emit("message-back", &arguments);
    });
    session.on(&socket, "message-with-ack", |session, event| async move {
        let arguments = Arguments(event.arguments().unwrap_or_default());
        event.acknowledge_with(&session, &arguments).await;
    });
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(None)?;
    let keys = load_keys(&config)?;
    let listener = std::net::TcpListener::bind(config.listen)?;
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    app(config, keys)?.serve(listener, stop).await
}
