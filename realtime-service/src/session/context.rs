//! What all sessions share.

use std::{sync::Arc, time::Duration};

use shared_claims::VerifiedLogout;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Registry, turns::Turns};
use crate::{
    auth::{keys::Keys, policy::Policy, revocations::Revocations},
    backends::BackEnds,
    cluster::Cluster,
    config::{AuthSettings, Config, CredentialSource, KeySource, Limits},
    limits::{PaceLimits, Quotas},
    metrics::{Cause, Metrics},
    namespaces::Namespaces,
    outbox::OutboxContext,
    rooms::Rooms,
    timers::Timers,
    transport::TransportContext,
};

/// What all sessions share.
pub struct SessionContext {
    /// The keys by which tokens are verified.
    pub keys: Keys,
    /// Where credentials are looked for.
    pub credentials: Vec<CredentialSource>,
    /// How sockets say who they are.
    pub auth: AuthSettings,
    /// Decide who may do what in which rooms, each in its namespace.
    pub policies: Namespaces<Policy>,
    /// Bounds on what clients can make grow.
    pub limits: Limits,
    /// The pace at which a socket may send events.
    pub(super) pace: PaceLimits,
    /// Maximum time between two heartbeats of a live client: ping interval plus ping timeout.
    pub idle_timeout: Duration,
    /// What exists now of what the limits bound.
    pub quotas: Arc<Quotas>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Deadlines of all sessions.
    pub timers: Arc<Timers>,
    /// What all outboxes share.
    pub outboxes: Arc<OutboxContext>,
    /// The rooms and who is in them.
    pub rooms: Rooms,
    /// The back ends that answer events.
    pub back_ends: BackEnds,
    /// The sessions, by the names that a revocation can use.
    pub sessions: Registry,
    /// The order in which back ends are told of messages.
    pub(super) turns: Turns,
    /// The tokens that are not accepted any more.
    pub revocations: Revocations,
    /// The tasks that run the handlers of sessions.
    pub(super) handlers: TaskTracker,
}

impl SessionContext {
    /// A context with the settings of `config`; the keys of our own issuer come from `source`, and rooms
    /// are those of the `cluster` if there is one.
    ///
    /// # Errors
    ///
    /// When a rule for rooms, the keys, a back end or the file of revocations cannot be used.
    pub fn new(
        config: &Config,
        source: KeySource,
        transport: &TransportContext,
        cluster: Option<&Arc<Cluster>>,
    ) -> anyhow::Result<Arc<Self>> {
        let (metrics, timers) = (&transport.metrics, &transport.timers);
        let outboxes = OutboxContext::new(transport);
        let revocations = Revocations::open(&config.revocations)?;
        let revocations = match cluster {
            Some(cluster) => revocations.shared(cluster, config.longest_lifetime_secs()),
            None => revocations,
        };
        Ok(Arc::new(Self {
            keys: Keys::new(config, source, metrics)?,
            credentials: config.credentials.clone(),
            auth: config.auth.clone(),
            policies: Policy::all(config)?,
            limits: config.limits.clone(),
            pace: PaceLimits::new(&config.limits),
            idle_timeout: transport.idle_timeout,
            quotas: transport.quotas.clone(),
            metrics: metrics.clone(),
            timers: timers.clone(),
            rooms: Rooms::new(config, cluster, &outboxes, timers),
            outboxes,
            back_ends: BackEnds::open(config, metrics, cluster)?,
            turns: Turns::default(),
            sessions: Registry::default(),
            revocations,
            handlers: TaskTracker::new(),
        }))
    }

    /// Whether a client without a token may connect to a namespace.
    #[must_use]
    pub fn admits_guests(&self, namespace: &str) -> bool {
        self.auth.deferred || self.keeps_guests(namespace)
    }

    /// Whether a client without a token may stay in a namespace, as a guest.
    #[must_use]
    pub fn keeps_guests(&self, namespace: &str) -> bool {
        self.auth.anonymous && self.policies.of(namespace).admits_guests()
    }

    /// Ends the sockets here whose tokens a logout concerns, and voids the decisions of back ends for their
    /// users.
    pub fn end_revoked(&self, logout: &VerifiedLogout) {
        for scope in &logout.scopes {
            self.back_ends.decisions().forget(&logout.iss, scope);
            for session in self.sessions.find(&logout.iss, scope) {
                let identity = session.identity();
                if identity
                    .claims()
                    .is_some_and(|claims| scope.ends(claims.iat, logout.iat))
                {
                    tracing::info!(connection = %session.connection, "disconnected: its session was revoked");
                    session.disconnect(Cause::Revoked);
                }
            }
        }
    }

    /// Closes every session, and waits up to `grace` for all handlers, disconnect handlers included.
    /// Returns whether all handlers have finished.
    pub async fn close_all(&self, grace: Duration) -> bool {
        for session in self.sessions.all() {
            session.close(Cause::Drained);
        }
        self.handlers.close();
        timeout(grace, self.handlers.wait()).await.is_ok()
    }
}
