//! What all connections share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use shared_claims::forwarded::ReportInterval;

use crate::{
    config::{Config, Limits, SessionBinding},
    limits::{Budget, Quotas, RefusalLimiter},
    metrics::Metrics,
    timers::Timers,
};

use super::copies::Copies;

/// What all connections share.
pub struct TransportContext {
    /// Bounds on what clients can make grow.
    pub limits: Limits,
    /// Maximum time between two heartbeats of a live client: ping interval plus ping timeout.
    pub idle_timeout: Duration,
    /// Whether there are namespaces beside the main one, which a client may join with the credentials of its first
    /// request.
    pub has_namespaces: bool,
    /// Properties that the requests of a session share.
    pub binding: SessionBinding,
    /// What exists now of what the limits bound.
    pub quotas: Arc<Quotas>,
    /// Counts refused handshakes per address, and rejects further ones.
    pub refusal_limiter: RefusalLimiter,
    /// Pace of the log lines about connections that broke a rule.
    pub violation_reports: ReportInterval,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Deadlines of all sessions.
    pub timers: Arc<Timers>,
    /// The bytes that wait for all clients.
    pub outbound: Arc<Budget>,
    /// The packets that socketioxide has a copy of.
    pub(super) copies: Copies,
    /// Whether new sessions are refused.
    is_draining: AtomicBool,
}

impl TransportContext {
    /// A context with the limits of `config` and nothing counted yet.
    #[must_use]
    pub fn new(config: &Config, metrics: &Arc<Metrics>, timers: &Arc<Timers>) -> Arc<Self> {
        let limits = config.limits.clone();
        let outbound = Budget::new(limits.outbound_total_bytes);
        Arc::new(Self {
            has_namespaces: !config.namespaces.is_empty(),
            binding: config.auth.session_binding,
            idle_timeout: config.heartbeat.idle_timeout(),
            quotas: Arc::new(Quotas::new(&limits)),
            refusal_limiter: RefusalLimiter::new(limits.refusals_per_address),
            violation_reports: ReportInterval::default(),
            metrics: metrics.clone(),
            timers: timers.clone(),
            copies: Copies::new(limits.outbound_total_bytes / 2),
            outbound,
            is_draining: AtomicBool::new(false),
            limits,
        })
    }

    /// Whether the gateway hands its clients over to other gateways: new sessions are refused, and the
    /// gateway is not ready.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Sets whether new sessions are refused. Sessions that exist are served all the same.
    pub(crate) fn set_draining(&self, is_draining: bool) {
        self.is_draining.store(is_draining, Ordering::Release);
    }
}
