//! The connection to the Redis servers in which issuers count attempts together.

use super::Metrics;

/// Outcome of a request to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterOutcome {
    /// Redis answered it.
    Answered,
    /// Redis is away, did not answer in time, or answered with an error.
    Failed,
    /// The request was not sent: too many waited.
    Refused,
}

impl ClusterOutcome {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

impl Metrics {
    /// Registers what is counted of Redis.
    pub(super) fn register_cluster(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "cluster_connected",
            "Whether attempts are counted in Redis",
            self.cluster_connected.clone(),
        );
        registry.register(
            "cluster_requests",
            "Questions about attempts for Redis, by outcome",
            self.cluster_requests.clone(),
        );
    }

    /// Redis was connected, or the connection was lost.
    pub fn cluster_connected(&self, is_connected: bool) {
        self.cluster_connected.set(i64::from(is_connected));
    }

    /// A question was answered by Redis, or not.
    pub fn cluster_request(&self, outcome: ClusterOutcome) {
        let labels = [("outcome", outcome.name())];
        self.cluster_requests.get_or_create(&labels).inc();
    }
}
