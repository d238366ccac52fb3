//! The gateway around an application: its namespaces, its routes, and everything that runs beside
//! them.

mod namespaces;
mod routes;
mod sharing;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use futures_util::future::OptionFuture;
use socketioxide::{ParserConfig, extract::SocketRef, handler::ConnectHandler as _};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::sharing::{catch_up, leave_cluster, share};
pub use crate::state::{AppState, DrainPlan};
use crate::{
    api,
    config::{Carrier, Config, KeySource},
    connect::{EngineClients, SessionRef, guard},
    events,
    http::{admin, console},
    session::{ACKNOWLEDGEMENT_DEADLINE, drain_notice},
    transport::{
        Certificate, Entrance, Gate, Socketioxide,
        engine::{CloseCode, Engine, EngineSettings, socket_io::SocketIo},
        listener::{self, Proxies, Terms},
    },
};

/// The longest message of a client that was not admitted, in bytes: a token and what is around it.
const UNADMITTED_MESSAGE_BYTES: usize = 16 * 1024;

/// How long an upgrade from polling to a WebSocket may take, as in Node's server.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many attachments an event may have, as in Node's parser.
const MAXIMUM_ATTACHMENTS: usize = 10;

/// How many packets socketioxide's channel to one client takes: more than it is handed at a time.
const CHANNEL_PACKETS: usize = 256;

/// How often rooms that nobody needs any more are looked for. Expired messages are never delivered,
/// even before.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);

/// A gateway with an application's own namespaces and routes.
///
/// Register namespaces on [`App::io`], each behind a [`guard`](crate::guard::guard), and then
/// [`App::serve`] it. The rooms and events of Latchkey itself are not among them: those are
/// [`serve`](crate::serve)'s.
pub struct App {
    config: Config,
    state: Arc<AppState>,
    socketioxide: Socketioxide,
    io: socketioxide::SocketIo,
    engine: Option<Engine<SocketIo<EngineClients>>>,
    routes: Router,
    hangup: Signal,
}

impl App {
    /// A gateway that accepts the tokens of the issuers in `config`; the keys of our own come from
    /// `keys`. It has no namespace yet. From now on SIGHUP has secrets and certificates read again, as soon as
    /// it serves.
    ///
    /// # Errors
    ///
    /// When a setting cannot work, or the keys, the file of revocations or SIGHUP cannot be used.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(config: Config, keys: KeySource) -> anyhow::Result<Self> {
        config.check()?;
        // The only failure is that a provider is installed already.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let state = AppState::new(&config, keys)?;
        let (socketioxide, io) = socketioxide_of(&config, &state);
        Ok(Self {
            config,
            state,
            socketioxide,
            io,
            engine: None,
            routes: Router::new(),
            hangup: signal(SignalKind::hangup()).context("cannot catch SIGHUP")?,
        })
    }

    /// Where namespaces are registered: `app.io().ns("/", guard(handler))`.
    ///
    /// A namespace without a guard is open to everybody. Clients of Socket.IO 2 join `/` by
    /// themselves, so without that one they are sent away.
    #[must_use]
    pub fn io(&self) -> &socketioxide::SocketIo {
        &self.io
    }

    /// What all sockets share; among it the kill switch: [`AppState::disconnect`] and
    /// [`AppState::revoke`].
    #[must_use]
    pub fn state(&self) -> &Arc<AppState> {
        &self.state
    }

    /// Has the engine carry the clients, in the gateway's own namespace.
    fn with_engine(self) -> Self {
        let limits = &self.config.limits;
        let settings = EngineSettings {
            ping_interval: self.config.heartbeat.interval(),
            ping_timeout: self.config.heartbeat.timeout(),
            message_bytes: limits.message_bytes,
            unadmitted_message_bytes: UNADMITTED_MESSAGE_BYTES.min(limits.message_bytes),
            write_stall: limits.write_stall(),
            upgrade_timeout: UPGRADE_TIMEOUT,
            body_read: limits.body_read(),
        };
        let clients = EngineClients::new(self.state.sessions.clone());
        let handler = SocketIo::new(clients, MAXIMUM_ATTACHMENTS);
        let engine = Engine::new(settings, handler, listener::recover);
        Self {
            engine: Some(engine),
            ..self
        }
    }

    /// Serves these routes too. Ours come first: `/socket.io`, `/health/…` and
    /// `/oidc/backchannel-logout`. They are open to everybody, from every origin, unless they see
    /// to it themselves.
    #[must_use]
    pub fn with_routes(self, routes: Router) -> Self {
        Self { routes, ..self }
    }

    /// Serves on `listener` until `shutdown`. Then asks clients to reconnect elsewhere, a few at a time over
    /// `drain.window_secs`, and serves the others meanwhile. At the end it closes every session, also
    /// those of clients that read nothing, and waits for disconnect handlers, each for `limits.drain_ms`
    /// at most.
    ///
    /// # Errors
    ///
    /// When a listener or the certificate cannot be used, or the settings have namespaces, which only
    /// [`serve`] serves.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        self.check_namespaces()?;
        let Self {
            config,
            state,
            socketioxide,
            io,
            engine,
            routes,
            hangup,
        } = self;
        warn_if_exposed(&config, &listener);
        let certificate = Certificate::open(&config.tls)?;
        let tls = certificate
            .as_ref()
            .map(Certificate::acceptor)
            .transpose()?;
        listener
            .set_nonblocking(true)
            .context("cannot use the listener")?;
        let listener =
            tokio::net::TcpListener::from_std(listener).context("cannot use the listener")?;

        let gate = Gate::new(socketioxide, &config, state.transport.clone());
        let gate = match &engine {
            Some(engine) => gate.with_engine(engine.clone()),
            None => gate,
        };
        let router = routes::our_routes(&config, gate.clone(), &state)?.fallback_service(routes);
        let entrance = Entrance::new(gate, router);
        let stop = CancellationToken::new();
        let others = listen_for_others(&config, &state, (tls.clone(), &stop)).await?;
        let mut tasks = run_maintenance(&state);
        tasks.spawn(reload_at(hangup, state.clone(), certificate));
        if let Some(engine) = engine.clone() {
            tasks.spawn(async move { engine.run().await });
        }
        catch_up(&state, config.cluster.timeout()).await;
        let connections = state.transport.quotas.connections.clone();
        let terms = Terms::new(&config.limits, connections, state.transport.metrics.clone())
            .with_tls(tls)
            .with_proxies(Proxies::of(&config));
        let drain = drain(state.clone(), io, engine, config.drain.window());
        let shutdown = async {
            shutdown.await;
            drain.await;
        };
        let served = async {
            listener::serve(listener, entrance, terms, shutdown).await;
            stop.cancel();
        };
        tokio::join!(served, others);
        if !state.sessions.close_all(config.limits.drain()).await {
            tracing::warn!(
                "disconnect handlers were still running after limits.drain_ms ({}), and were dropped",
                config.limits.drain_ms
            );
        }
        tasks.shutdown().await;
        close(&state, &config).await;
        Ok(())
    }
}

/// Ends what the sessions wrote to, when none is left.
async fn close(state: &Arc<AppState>, config: &Config) {
    leave_cluster(state, &config.presence).await;
    state.sessions.back_ends.close().await;
    state.sessions.revocations.close().await;
}

/// Serves the gateway on `listener` until `shutdown`: its rooms, its events and its page.
///
/// # Errors
///
/// When a setting, a listener, the keys or the certificate cannot be used.
pub async fn serve(
    config: Config,
    keys: KeySource,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    own_app(config, keys)?.serve(listener, shutdown).await
}

/// The gateway with Latchkey's own rooms, events and page.
///
/// # Errors
///
/// See [`App::new`].
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub fn own_app(config: Config, keys: KeySource) -> anyhow::Result<App> {
    let page = console::routes(&config.issuer);
    let is_on_engine = config.carrier == Carrier::Engine;
    let app = App::new(config, keys)?.with_routes(page);
    let app = match is_on_engine {
        true => app.with_engine(),
        false => app,
    };
    app.io().ns("/", guard(welcome).with(register_events));
    Ok(app)
}

/// Registers the gateway's events before CONNECT is acknowledged.
async fn register_events(socket: SocketRef, session: SessionRef) -> Result<(), Infallible> {
    events::register(&socket, &session);
    Ok(())
}

/// Runs once CONNECT was acknowledged.
async fn welcome(socket: SocketRef, session: SessionRef) {
    let transport = socket.transport_type();
    let identity = session.identity();
    let sub = identity.sender.sub.as_deref();
    tracing::info!(sub, connection = %session.connection, ?transport, "connected");
}

/// Listens for the operator and for back ends, as far as the settings say so, and gives what serves
/// them until `stop`.
async fn listen_for_others(
    config: &Config,
    state: &Arc<AppState>,
    (tls, stop): (Option<TlsAcceptor>, &CancellationToken),
) -> anyhow::Result<impl Future<Output = ()>> {
    let stopped = || stop.clone().cancelled_owned();
    let admin = match config.admin.listen.0 {
        Some(address) => {
            let proxies = Proxies::of(config);
            Some(admin::start(address, state.clone(), proxies, stopped()).await?)
        }
        None => None,
    };
    let api = match config.api.listen.0 {
        Some(address) => Some(api::start(address, state.clone(), config, tls, stopped()).await?),
        None => None,
    };
    Ok(async {
        tokio::join!(OptionFuture::from(admin), OptionFuture::from(api));
    })
}

/// Starts the tasks that run beside the listener for as long as it serves.
fn run_maintenance(state: &Arc<AppState>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let timers = state.transport.timers.clone();
    tasks.spawn(async move { timers.run().await });
    let sweeper = state.sessions.clone();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_PAUSE).await;
            sweeper.rooms.sweep();
        }
    });
    share(state, &mut tasks);
    let sessions = state.sessions.clone();
    tasks.spawn(async move { sessions.follow_wall_clock().await });
    let sessions = state.sessions.clone();
    tasks.spawn(async move { sessions.revocations.run_maintenance().await });
    let sessions = state.sessions.clone();
    tasks.spawn(async move { sessions.keys.tend().await });
    let sessions = state.sessions.clone();
    tasks.spawn(async move { sessions.back_ends.deliver().await });
    tasks
}

/// Reads secrets and the certificate again at each SIGHUP, each for itself; never returns.
async fn reload_at(
    mut hangup: Signal,
    state: Arc<AppState>,
    certificate: Option<Arc<Certificate>>,
) {
    while hangup.recv().await.is_some() {
        state.sessions.keys.reload();
        state.sessions.back_ends.reload_secrets();
        match certificate.as_ref().map(|certificate| certificate.reload()) {
            Some(Ok(())) => tracing::info!("the certificate was read again"),
            Some(Err(error)) => tracing::error!("the certificate is left as it was: {error:#}"),
            None => {}
        }
    }
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

/// socketioxide's server, without a namespace.
pub(crate) fn socketioxide_of(
    config: &Config,
    state: &Arc<AppState>,
) -> (Socketioxide, socketioxide::SocketIo) {
    let limits = &config.limits;
    socketioxide::SocketIo::builder()
        .with_state(state.sessions.clone())
        .with_parser(ParserConfig::common().max_incoming_binary_buf_size(limits.message_bytes))
        .ping_interval(config.heartbeat.interval())
        .ping_timeout(config.heartbeat.timeout())
        .connect_timeout(limits.unauthenticated())
        .ack_timeout(ACKNOWLEDGEMENT_DEADLINE)
        .max_payload(limits.message_bytes as u64)
        .ws_max_message_size(limits.message_bytes)
        .ws_max_frame_size(limits.message_bytes)
        .max_buffer_size(CHANNEL_PACKETS)
        .build_with_inner_svc(Router::new())
}

/// Hands the clients over to other gateways within `window`, and then closes what is left.
async fn drain(
    state: Arc<AppState>,
    io: socketioxide::SocketIo,
    engine: Option<Engine<SocketIo<EngineClients>>>,
    window: Duration,
) {
    state.drain_for_shutdown(window).await;
    // An application's namespaces may have no guard.
    let unguarded = io.nsps().into_iter().flat_map(|one| one.sockets());
    let unguarded: Vec<_> = unguarded
        .filter(|socket| socket.extensions.get::<SessionRef>().is_none())
        .collect();
    let notice = drain_notice();
    for socket in &unguarded {
        // A client that does not take it learns by the end of the stream.
        let _ = socket.emit("rt:drain", &notice);
    }
    if !unguarded.is_empty() {
        tokio::time::sleep(state.sessions.limits.drain()).await;
    }
    if let Some(engine) = engine {
        engine.shut_down(CloseCode::GoingAway).await;
    }
}
