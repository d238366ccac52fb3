//! The gateway's own paths.

use std::{sync::Arc, time::Duration};

use axum::Router;
use http::{HeaderValue, Method};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

use crate::{
    config::Config,
    http::{backchannel_logout, client_bundle, health},
    state::AppState,
    transport::Gate,
};

/// Time for which a browser may keep the answer to a preflight. Chromium keeps it for two hours at most.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// Every path that is ours.
pub(super) fn our_routes(
    config: &Config,
    gate: Gate,
    state: &Arc<AppState>,
) -> anyhow::Result<Router> {
    let origins = config.listed_origins();
    let is_listed = move |origin: &HeaderValue, _: &_| {
        origin.to_str().is_ok_and(|origin| origins.contains(origin))
    };
    // Clients of Socket.IO 2 send credentials unless told not to, and tools for tracing add headers of
    // their own: a browser asks for both.
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_listed.clone()))
        .allow_credentials(AllowCredentials::predicate(is_listed))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(PREFLIGHT_MAX_AGE);
    let client = match config.serve_client {
        true => client_bundle::routes(),
        false => Router::new(),
    };
    Ok(Router::new()
        .merge(client)
        .route_service("/socket.io/", gate.clone())
        .route_service("/socket.io", gate)
        .merge(health::routes(state.clone()))
        .merge(backchannel_logout::routes(state.clone()))
        .layer(cors))
}
