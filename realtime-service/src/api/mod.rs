//! The HTTP API for back ends, on a listener of its own: what a server of one's own can do in rooms
//! and with users, in any language.

mod authorization;
mod body;
mod caller;
mod connections;
mod drain;
mod idempotency;
mod messages;
mod namespace;
mod openapi;
mod problem;
mod rooms;
mod users;
mod webhooks;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{Next, from_fn, from_fn_with_state},
    routing::{get, post},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use self::{idempotency::Answers, problem::ApiError};
use crate::{
    config::Config,
    limits::{Quota, Rates},
    state::AppState,
    transport::{
        listener::{self, Proxies, Terms},
        turn,
    },
};

/// Maximum number of connections. Back ends keep their connections, and are few.
const MAXIMUM_CONNECTIONS: usize = 1024;

/// Maximum number of connections of one address. `trusted_proxies` are exempt.
const MAXIMUM_CONNECTIONS_PER_ADDRESS: usize = 256;

/// What a body may have besides a message's data, in bytes.
const BODY_MARGIN_BYTES: usize = 64 * 1024;

/// What the endpoints share.
pub(crate) struct Api {
    state: Arc<AppState>,
    /// How often each back end may call.
    callers: Rates,
    answers: Answers,
    drain_window_secs: u64,
}

impl Api {
    /// The most that a body may have.
    fn body_bytes(&self) -> usize {
        self.state.transport.limits.message_bytes + BODY_MARGIN_BYTES
    }
}

/// Listens on `address`, and gives what serves there until `shutdown`.
///
/// # Errors
///
/// When the address is taken.
pub async fn start(
    address: SocketAddr,
    state: Arc<AppState>,
    config: &Config,
    tls: Option<TlsAcceptor>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for back ends"))?;
    tracing::info!(address = %listener.local_addr()?, "listening for back ends");
    let quota = Quota::new(MAXIMUM_CONNECTIONS, MAXIMUM_CONNECTIONS_PER_ADDRESS);
    let terms = Terms::new(&state.transport.limits, quota, Arc::default())
        .with_tls(tls)
        .with_proxies(Proxies::of(config));
    let router = routes(state, config);
    Ok(listener::serve(listener, router, terms, shutdown))
}

/// Every path.
fn routes(state: Arc<AppState>, config: &Config) -> Router {
    let api = Arc::new(Api {
        state,
        callers: Rates::new(config.api.requests_per_sec, config.api.requests_burst),
        answers: Answers::default(),
        drain_window_secs: config.drain.window_secs,
    });
    let most = api.body_bytes();
    let for_back_ends = Router::new()
        .route("/v1/publish", post(messages::post_publish))
        .route("/v1/broadcast", post(messages::post_broadcast))
        .route("/v1/users/{sub}/emit", post(users::post_emit))
        .route("/v1/disconnect", post(users::post_disconnect))
        .route("/v1/drain", post(drain::post_drain))
        .route("/v1/webhooks/replay", post(webhooks::post_replay))
        .route("/v1/webhooks/drop", post(webhooks::post_drop))
        .route_layer(from_fn_with_state(api.clone(), idempotency::answer_once))
        .route("/v1/authz/explain", post(authorization::post_explain))
        .route("/v1/rooms", get(rooms::list_rooms))
        .route("/v1/rooms/{room}/presence", get(rooms::show_presence))
        .route("/v1/rooms/{room}/history", get(rooms::show_history))
        .route("/v1/connections", get(connections::list_connections))
        .route("/v1/webhooks", get(webhooks::list_webhooks))
        .route("/v1/webhooks/{id}", get(webhooks::show_webhook))
        .route_layer(from_fn_with_state(api.clone(), caller::authenticate))
        .with_state(api);
    for_back_ends
        .merge(openapi::routes(config.api.docs))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(most))
        .layer(from_fn(async |request: Request, next: Next| {
            // A message to many is written to each once.
            turn::in_turn(next.run(request)).await
        }))
}
