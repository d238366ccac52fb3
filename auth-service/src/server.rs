//! The front door: everything between a bound socket and a clean end.

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App,
    dev::{Server, ServerHandle},
    middleware::from_fn,
    web,
};
use anyhow::Context as _;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use crate::{
    admin, background,
    config::Config,
    exposure,
    guard::connections::ConnectionLimit,
    listener::{self, Connections},
    observe::observe,
    public_path::strip_public_path,
    routes,
    state::AppState,
    store::Store,
};

/// Maximum time after the drain in which the server ends, before it is left behind.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// Serves on `listener` until `shutdown` resolves; then drains for `shutdown_secs` at most.
///
/// The caller owns the socket and the stop signal. The future is `Send`: it can be spawned on any
/// multi-threaded Tokio runtime.
///
/// # Errors
///
/// When the database cannot be opened, when a token of our own does not verify, or when the
/// listener fails.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    serve_and_tell(config, listener, shutdown, || Ok(())).await
}

/// Serves as [`serve`] does, and calls `ready` when all that can be wrong at the start is not.
pub(crate) async fn serve_and_tell(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce() -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let settings = config.settings.clone();
    for line in exposure::find(&settings, listener.local_addr().ok()) {
        tracing::warn!("{line}");
    }
    let state = web::Data::new(AppState::start(config).await?);
    let store = state.store().clone();
    let certificate = state.certificate().cloned();
    let admin = settings.admin.listen.0;
    let admin = admin.map(|address| admin::start(address, state.clone()));
    let admin = admin.transpose()?;
    let (stop_tasks, tasks_stopped) = watch::channel(false);
    let tasks = background::start(&state, &tasks_stopped)?;

    let factory = {
        let state = state.clone();
        move || {
            App::new()
                .app_data(state.clone())
                .wrap(routes::cors(state.clone()))
                .wrap(from_fn(observe))
                .wrap(routes::answer_headers(state.settings()))
                .wrap(from_fn(strip_public_path))
                .configure(routes::configure)
        }
    };
    let most = settings.limits.connections_per_address;
    let limit = ConnectionLimit::new(most, &settings.trusted_proxies);
    let connections = Connections {
        limit: Arc::new(limit),
        header_deadline: Duration::from_secs(settings.header_deadline_secs),
        keep_alive: Duration::from_secs(settings.keep_alive_secs),
        // A client that has gone takes its request with it, and its place in the password queue.
        serves_half_closed: false,
    };
    let (stopping, stopped) = oneshot::channel();
    let server = Server::build()
        .workers(settings.worker_count())
        .shutdown_timeout(settings.shutdown_secs)
        .shutdown_signal(drain_after(shutdown, state, stopping));
    let tls = certificate.map(|certificate| certificate.server_config());
    let server = listener::listen(server, listener, tls.transpose()?, connections, factory);
    let server = server.context("cannot listen")?.run();
    ready()?;

    let overdue = async move {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(settings.shutdown_secs) + LAST_GRACE).await;
    };
    tokio::select! {
        ended = server => ended.context("the server failed")?,
        () = overdue => tracing::warn!("connections were left behind at the end of the drain"),
    }
    stop_tasks.send_replace(true);
    close(tasks, admin, &store).await;
    Ok(())
}

/// Resolves when the server is to stop: after the stop signal, and the time in which load balancers see
/// that it is not ready and send nobody new, while it still takes connections.
async fn drain_after(
    shutdown: impl Future<Output = ()>,
    state: web::Data<AppState>,
    stopping: oneshot::Sender<()>,
) {
    shutdown.await;
    state.start_draining();
    tokio::time::sleep(Duration::from_secs(state.settings().drain_secs)).await;
    // Nobody listens when the server ended by itself, and then nobody needs to know.
    let _ = stopping.send(());
}

/// Ends what visitors no longer need: background work, the operator's listener, and then the database.
async fn close(mut tasks: JoinSet<()>, admin: Option<ServerHandle>, store: &Store) {
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_GRACE, ended).await.is_err() {
        tracing::warn!("background work was left behind at the end");
    }
    if let Some(admin) = admin {
        admin.stop(false).await;
    }
    if tokio::time::timeout(LAST_GRACE, store.close())
        .await
        .is_err()
    {
        tracing::warn!("the database was still busy at the end");
    }
}
