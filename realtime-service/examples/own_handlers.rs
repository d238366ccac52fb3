//! Somebody's own Socket.IO server, whose namespaces are guarded by Latchkey's tokens.
//!
//! `LATCHKEY_SECRET_FILE=… REALTIME__ISSUER=http://localhost:8080 cargo run --example own_handlers`

use std::convert::Infallible;

use realtime_service::{
    App, SessionRef,
    axum::{Router, body::Bytes, routing::get},
    config::{Config, KeySource, load_keys},
    guard,
    session::Arguments,
    socketioxide::{extract::SocketRef, handler::ConnectHandler},
};
use tokio::signal::unix::{SignalKind, signal};

/// The namespaces and routes of this application.
pub(crate) fn app(config: Config, keys: KeySource) -> anyhow::Result<App> {
    let app = App::new(config, keys)?.with_routes(Router::new().route("/hello", get("hello")));
    app.io().ns("/", guard(greet).with(register));
    let admin = guard(greet).with(register).with(only_admins);
    app.io().ns("/admin", admin);
    Ok(app)
}

/// Runs once CONNECT was acknowledged.
async fn greet(socket: SocketRef, session: SessionRef) {
    let name = session.identity().sender.sub.clone();
    session.emit("hi", &(socket.ns(), name));
}

/// Runs before CONNECT is acknowledged, so that no event comes too early for its handler.
async fn register(socket: SocketRef, session: SessionRef) -> Result<(), Infallible> {
    session.on(&socket, "echo", |session, event| async move {
        let arguments = Arguments(event.arguments().unwrap_or_default());
        event.acknowledge_with(&session, &arguments).await;
    });
    session.on(&socket, "add", |session, event| async move {
        if let Ok((one, two)) = event.parse::<(i32, i32)>() {
            event
                .acknowledge_with(&session, &(one + two, "added"))
                .await;
        }
    });
    session.on(&socket, "reverse", |session, event| async move {
        if let Ok((name, bytes)) = event.parse::<(String, Bytes)>() {
            let reversed: Bytes = bytes.iter().rev().copied().collect();
            event.acknowledge_with(&session, &(name, reversed)).await;
        }
    });
    session.on_disconnect(|session| async move { println!("{} left", session.connection) });
    Ok(())
}

/// Refuses whoever has a good token, but not the scope.
async fn only_admins(session: SessionRef) -> Result<(), &'static str> {
    let identity = session.identity();
    let scope = identity.claims().and_then(|claims| claims.scope.clone());
    let is_admin = scope.is_some_and(|scope| scope.split(' ').any(|one| one == "admin"));
    is_admin.then_some(()).ok_or("admins only")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(None)?;
    let keys = load_keys(&config)?;
    let listener = std::net::TcpListener::bind(config.listen)?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    app(config, keys)?.serve(listener, stop).await
}
