//! What is counted, and the names that it is counted under: there is no other place with a
//! metric's name.
//!
//! A label has a few values that stand in the code. Nothing that a client writes becomes one, or
//! clients could make as many series as they like.

mod back_end;
mod labels;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use shared_claims::Rejection;

pub use self::back_end::BackEndMetrics;
pub use self::labels::{Cause, ClusterOutcome, FetchOutcome, Limit};
use crate::{limits::Quotas, telemetry::lost_lines};

/// The media type of [`Metrics::render`].
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every name begins with.
const PREFIX: &str = "latchkey_realtime";

/// The labels of the event that is counted most often. Its counter is found without a search.
const FREQUENT_EVENT: Labels<2> = [("event", "rt:publish"), ("outcome", "ok")];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters.
#[derive(Default)]
pub struct Metrics {
    registry: Registry,
    connections: Gauge,
    connections_accepted: Counter,
    origins_refused: Counter,
    sessions: Gauge,
    sessions_opened: Counter,
    sessions_closed: Family<Labels<1>, Counter>,
    sockets: Gauge,
    sockets_admitted: Counter,
    tokens_renewed: Counter,
    refusals: Family<Labels<1>, Counter>,
    limited: Family<Labels<1>, Counter>,
    events: Family<Labels<2>, Counter>,
    /// The counter of [`FREQUENT_EVENT`], once it was counted.
    frequent_events: OnceLock<Counter>,
    messages_published: Counter,
    messages_delivered: Counter,
    key_fetches: Family<Labels<1>, Counter>,
    back_ends: back_end::BackEnds,
    cluster_connected: Gauge,
    cluster_connections: Counter,
    cluster_requests: Family<Labels<1>, Counter>,
    cluster_epochs: Counter,
    queue_copied: Gauge,
    queues_adopted: Counter,
    log_lines_lost: Counter,
}

impl Metrics {
    /// Counters that stand at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            ..Self::default()
        };
        metrics.register_levels();
        metrics.register_counts();
        metrics.register_counts_by_label();
        metrics.register_queue();
        metrics.back_ends.register(&mut metrics.registry);
        metrics
    }

    fn register_levels(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "connections",
            "Open TCP connections",
            self.connections.clone(),
        );
        registry.register("sessions", "Open Engine.IO sessions", self.sessions.clone());
        registry.register("sockets", "Admitted sockets", self.sockets.clone());
        registry.register(
            "cluster_connected",
            "Whether Redis is connected: 1 or 0",
            self.cluster_connected.clone(),
        );
    }

    fn register_counts(&mut self) {
        let registry = &mut self.registry;
        let counters = [
            (
                "connections_accepted",
                "Accepted TCP connections",
                &self.connections_accepted,
            ),
            (
                "origins_refused",
                "Requests of pages whose origin is not listed",
                &self.origins_refused,
            ),
            (
                "sessions_opened",
                "Opened Engine.IO sessions",
                &self.sessions_opened,
            ),
            (
                "sockets_admitted",
                "Sockets admitted since the start",
                &self.sockets_admitted,
            ),
            (
                "tokens_renewed",
                "Tokens that renewed a session",
                &self.tokens_renewed,
            ),
            (
                "messages_published",
                "Messages appended to the log of a room",
                &self.messages_published,
            ),
            (
                "messages_delivered",
                "Messages queued for a subscriber, counted for each subscriber",
                &self.messages_delivered,
            ),
            (
                "cluster_connections",
                "Connections to Redis since the start",
                &self.cluster_connections,
            ),
            (
                "cluster_epochs",
                "Rooms with subscribers whose log was lost, and began a new epoch",
                &self.cluster_epochs,
            ),
            (
                "log_lines_lost",
                "Log lines that are lost, since standard error took none",
                &self.log_lines_lost,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }

    fn register_counts_by_label(&mut self) {
        let registry = &mut self.registry;
        let families = [
            (
                "sessions_closed",
                "Closed Engine.IO sessions, by cause",
                &self.sessions_closed,
            ),
            ("refusals", "Refused credentials, by reason", &self.refusals),
            (
                "limited",
                "Requests, events and connections that exceeded a limit, by limit",
                &self.limited,
            ),
            (
                "key_fetches",
                "Fetches of the keys of an issuer, by outcome",
                &self.key_fetches,
            ),
            (
                "cluster_requests",
                "Requests to Redis, by outcome",
                &self.cluster_requests,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "events",
            "Events received from clients, by name and outcome",
            self.events.clone(),
        );
    }

    fn register_queue(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "webhooks_copied",
            "Whether Redis has all queued events of this gateway: 1 or 0",
            self.queue_copied.clone(),
        );
        registry.register(
            "webhooks_queues_adopted",
            "Queues of lost gateways that this one has adopted",
            self.queues_adopted.clone(),
        );
    }

    /// A connection was accepted.
    pub fn connection_accepted(&self) {
        self.connections_accepted.inc();
    }

    /// An Engine.IO session was opened.
    pub fn session_opened(&self) {
        self.sessions_opened.inc();
    }

    /// An Engine.IO session ended.
    pub fn session_closed(&self, cause: Cause) {
        let labels = [("cause", cause.name())];
        self.sessions_closed.get_or_create(&labels).inc();
    }

    /// A socket was admitted.
    pub fn socket_admitted(&self) {
        self.sockets_admitted.inc();
    }

    /// A socket's token was renewed.
    pub fn token_renewed(&self) {
        self.tokens_renewed.inc();
    }

    /// A credential was refused.
    pub fn refusal(&self, rejection: Rejection) {
        let labels = [("reason", rejection.reason())];
        self.refusals.get_or_create(&labels).inc();
    }

    /// A page of an origin that is not listed was refused.
    pub fn origin_refused(&self) {
        self.origins_refused.inc();
    }

    /// Somebody whose credential was accepted was refused by the application.
    pub fn refused_by_application(&self) {
        let labels = [("reason", "application")];
        self.refusals.get_or_create(&labels).inc();
    }

    /// Somebody ran into a limit.
    pub fn limited(&self, limit: Limit) {
        self.limited.get_or_create(&[("limit", limit.name())]).inc();
    }

    /// An event was answered. Both names stand in the code; `outcome` is `ok` or an error's code.
    pub fn event(&self, event: &'static str, outcome: &'static str) {
        let labels = [("event", event), ("outcome", outcome)];
        if labels == FREQUENT_EVENT {
            let counter = || self.events.get_or_create(&labels).clone();
            self.frequent_events.get_or_init(counter).inc();
        } else {
            self.events.get_or_create(&labels).inc();
        }
    }

    /// A message was given its number in a room.
    pub fn message_published(&self) {
        self.messages_published.inc();
    }

    /// A message was queued for so many members.
    pub fn message_delivered(&self, members: usize) {
        self.messages_delivered
            .inc_by(u64::try_from(members).unwrap_or(u64::MAX));
    }

    /// An issuer was asked for its keys.
    pub fn key_fetch(&self, outcome: FetchOutcome) {
        let labels = [("outcome", outcome.name())];
        self.key_fetches.get_or_create(&labels).inc();
    }

    /// The metrics of the back end `name` of the settings, at zero.
    #[must_use]
    pub fn back_end(&self, name: &str) -> BackEndMetrics {
        self.back_ends.of(name)
    }

    /// The copy of the queue in Redis is up to date, or has fallen behind.
    pub fn queue_copied(&self, is_up_to_date: bool) {
        self.queue_copied.set(i64::from(is_up_to_date));
    }

    /// The queue of a lost gateway was adopted.
    pub fn queue_adopted(&self) {
        self.queues_adopted.inc();
    }

    /// All servers of the cluster are connected, or a connection was lost.
    pub fn cluster_connected(&self, is_connected: bool) {
        self.cluster_connected.set(i64::from(is_connected));
    }

    /// A server of the cluster was connected.
    pub fn cluster_connection(&self) {
        self.cluster_connections.inc();
    }

    /// A request to Redis was answered or not.
    pub fn cluster_request(&self, outcome: ClusterOutcome) {
        let labels = [("outcome", outcome.name())];
        self.cluster_requests.get_or_create(&labels).inc();
    }

    /// The subscribers of a room were told that its log was lost.
    pub fn cluster_epoch(&self) {
        self.cluster_epochs.inc();
    }

    /// Everything as OpenMetrics text, with what `quotas` say is there now.
    ///
    /// # Errors
    ///
    /// None that can happen: a text takes whatever is written to it.
    pub fn render(&self, quotas: &Quotas) -> Result<String, std::fmt::Error> {
        for (gauge, count) in [
            (&self.connections, quotas.connections.count()),
            (&self.sessions, quotas.sessions.count()),
            (&self.sockets, quotas.sockets.count()),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let lost: &AtomicU64 = self.log_lines_lost.inner();
        lost.store(lost_lines(), Ordering::Relaxed);
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
