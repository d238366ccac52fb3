//! The tasks by which a gateway is one of several.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::AppState;
use crate::config::PresenceSettings;

/// Starts the tasks that share rooms, revocations, presence, queued events and limits with other gateways, and carry
/// out their requests.
pub(super) fn share(state: &Arc<AppState>, tasks: &mut JoinSet<()>) {
    let Some(cluster) = &state.cluster else {
        return;
    };
    let running = cluster.clone();
    tasks.spawn(async move { running.run().await });
    let leased = cluster.clone();
    tasks.spawn(async move { leased.keep_lease().await });
    let sessions = state.sessions.clone();
    tasks.spawn(async move { sessions.revocations.follow().await });
    let sessions = state.sessions.clone();
    tasks.spawn(async move { sessions.rooms.share_presence().await });
    let sessions = state.sessions.clone();
    tasks.spawn(async move { sessions.back_ends.share().await });
    let counting = state.clone();
    tasks.spawn(async move { counting.share_limits().await });
    let (serving, handler) = (cluster.clone(), state.clone());
    tasks.spawn(async move { serving.serve_requests(handler).await });
}

/// Waits, before anything is served, for what other gateways have done meanwhile, if Redis is there: no token is accepted
/// that another one has seen revoked, and no event is sent that another one has adopted.
pub(super) async fn catch_up(state: &AppState, limit: Duration) {
    state.sessions.revocations.caught_up(limit).await;
    state.sessions.back_ends.settle().await;
}

/// Ends the lease of a gateway that ends. Its users have not left while they reconnect to others.
pub(super) async fn leave_cluster(state: &AppState, presence: &PresenceSettings) {
    if let Some(cluster) = &state.cluster {
        cluster.end_lease(presence.leave_delay()).await;
    }
}
