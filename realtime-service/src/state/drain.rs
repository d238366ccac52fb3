//! The drain of a gateway: it is not ready, refuses new sessions, and hands its clients over to other
//! gateways, a few at a time.
//!
//! At most one drain runs. A shutdown takes the place of a drain that a back end began.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::AppState;

/// The drain that runs, if there is one.
#[derive(Default)]
pub(super) struct CurrentDrain(Mutex<Option<Running>>);

struct Running {
    plan: DrainPlan,
    /// Cancelled when a shutdown takes its place.
    superseded: CancellationToken,
}

/// Number of clients that a drain concerns, and its pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// Number of sockets at the begin.
    pub sockets: usize,
    /// Time over which they are sent `rt:drain`.
    pub window: Duration,
}

impl AppState {
    /// Starts to hand all clients over to other gateways within `window`. Afterwards the gateway takes new
    /// sessions again. A drain that runs already goes on, and its plan is returned.
    ///
    /// Needs a runtime of tokio.
    pub fn start_drain(self: &Arc<Self>, window: Duration) -> DrainPlan {
        let mut current = self.current_drain();
        if let Some(running) = &*current {
            return running.plan;
        }
        let (plan, superseded) = self.begin_drain(&mut current, window);
        let state = self.clone();
        tokio::spawn(async move {
            let drain = state.sessions.drain(window);
            if superseded.run_until_cancelled(drain).await.is_some() {
                state.end_drain(&superseded);
            }
        });
        plan
    }

    /// Hands all clients over to other gateways within `window`, for good: the gateway shuts down.
    pub async fn drain_for_shutdown(&self, window: Duration) {
        self.supersede_drain(window);
        self.sessions.drain(window).await;
    }

    /// Takes the place of a drain that a back end began.
    fn supersede_drain(&self, window: Duration) {
        let mut current = self.current_drain();
        if let Some(running) = current.take() {
            running.superseded.cancel();
        }
        self.begin_drain(&mut current, window);
    }

    /// Refuses new sessions from now on, and notes the drain.
    fn begin_drain(
        &self,
        current: &mut Option<Running>,
        window: Duration,
    ) -> (DrainPlan, CancellationToken) {
        self.transport.set_draining(true);
        let plan = DrainPlan {
            sockets: self.sessions.sessions.count(),
            window,
        };
        tracing::info!(
            sockets = plan.sockets,
            window_secs = window.as_secs(),
            "draining"
        );
        let superseded = CancellationToken::new();
        *current = Some(Running {
            plan,
            superseded: superseded.clone(),
        });
        (plan, superseded)
    }

    /// Takes new sessions again, unless a shutdown has taken the place of the drain.
    fn end_drain(&self, superseded: &CancellationToken) {
        let mut current = self.current_drain();
        if !superseded.is_cancelled() {
            *current = None;
            self.transport.set_draining(false);
            tracing::info!("drained");
        }
    }

    fn current_drain(&self) -> MutexGuard<'_, Option<Running>> {
        let current = self.drain.0.lock();
        current.unwrap_or_else(PoisonError::into_inner)
    }
}
