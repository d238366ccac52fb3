//! Metrics of back ends. Their label is a name of the settings, of which there are a few.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Bounds of the buckets for the duration of a call, in seconds.
const BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The outcome of a call that was answered.
const OK: &str = "ok";

/// The label of a back end.
type Name = [(&'static str, String); 1];

/// The label of a back end, and that of an outcome.
type Outcome = [(&'static str, String); 2];

/// The label of a back end, the outcome of a decision, and whether it was asked for it.
type DecisionLabels = [(&'static str, String); 3];

/// The metrics of all back ends.
pub(super) struct BackEnds {
    calls: Family<Outcome, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    durations: Family<Name, Histogram, fn() -> Histogram>,
    under_way: Family<Name, Gauge>,
    is_open: Family<Name, Gauge>,
    queued: Family<Name, Gauge>,
    dead: Family<Name, Gauge>,
    oldest_secs: Family<Name, Gauge>,
    dropped: Family<Name, Counter>,
}

/// The metrics of one back end.
pub struct BackEndMetrics {
    name: String,
    calls: Family<Outcome, Counter>,
    /// The counter of calls that were answered.
    answered: Counter,
    decisions: Family<DecisionLabels, Counter>,
    duration: Histogram,
    under_way: Gauge,
    is_open: Gauge,
    queued: Gauge,
    dead: Gauge,
    oldest_secs: Gauge,
    dropped: Counter,
}

/// A request that is under way, until it is dropped.
pub struct UnderWay<'a>(&'a Gauge);

impl Default for BackEnds {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            decisions: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            under_way: Family::default(),
            is_open: Family::default(),
            queued: Family::default(),
            dead: Family::default(),
            oldest_secs: Family::default(),
            dropped: Family::default(),
        }
    }
}

impl BackEnds {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "backend_calls",
            "Events and questions that a back end was to answer, by back end and outcome",
            self.calls.clone(),
        );
        registry.register(
            "backend_decisions",
            "Decisions about actions in rooms, by back end, outcome and source",
            self.decisions.clone(),
        );
        registry.register(
            "backend_call_seconds",
            "Duration of these calls, with their wait for a place, by back end",
            self.durations.clone(),
        );
        registry.register(
            "backend_calls_under_way",
            "Requests under way, by back end",
            self.under_way.clone(),
        );
        registry.register(
            "backend_circuit_open",
            "1 while calls fail at once since the back end does not answer, by back end",
            self.is_open.clone(),
        );
        registry.register(
            "webhooks_queued",
            "Events in the queue that are to be delivered, by back end",
            self.queued.clone(),
        );
        registry.register(
            "webhooks_dead",
            "Dead letters in the queue, by back end",
            self.dead.clone(),
        );
        registry.register(
            "webhooks_oldest_seconds",
            "Age of the oldest event that is to be delivered, by back end",
            self.oldest_secs.clone(),
        );
        registry.register(
            "webhooks_dropped",
            "Lifecycle events that were not stored, since the queue was full or cannot be written, by back end",
            self.dropped.clone(),
        );
    }

    /// The metrics of the back end `name`, at zero.
    pub(super) fn of(&self, name: &str) -> BackEndMetrics {
        let label = [("backend", name.to_owned())];
        let answered = [("backend", name.to_owned()), ("outcome", OK.to_owned())];
        BackEndMetrics {
            answered: self.calls.get_or_create_owned(&answered),
            name: name.to_owned(),
            calls: self.calls.clone(),
            decisions: self.decisions.clone(),
            duration: self.durations.get_or_create_owned(&label),
            under_way: self.under_way.get_or_create_owned(&label),
            is_open: self.is_open.get_or_create_owned(&label),
            queued: self.queued.get_or_create_owned(&label),
            dead: self.dead.get_or_create_owned(&label),
            oldest_secs: self.oldest_secs.get_or_create_owned(&label),
            dropped: self.dropped.get_or_create_owned(&label),
        }
    }
}

impl BackEndMetrics {
    /// A call has ended. `outcome` is `ok` or the code of an error.
    pub fn called(&self, outcome: &'static str, duration: Duration) {
        if outcome == OK {
            self.answered.inc();
        } else {
            let labels = [
                ("backend", self.name.clone()),
                ("outcome", outcome.to_owned()),
            ];
            self.calls.get_or_create(&labels).inc();
        }
        self.duration.observe(duration.as_secs_f64());
    }

    /// A decision about an action in a room was made. `outcome` is `allowed`, `refused` or `failed`; the
    /// back end was asked for it, or it was kept or asked for by another connection.
    pub fn decided(&self, outcome: &'static str, was_asked: bool) {
        let source = if was_asked { "asked" } else { "kept" };
        let labels = [
            ("backend", self.name.clone()),
            ("outcome", outcome.to_owned()),
            ("source", source.to_owned()),
        ];
        self.decisions.get_or_create(&labels).inc();
    }

    /// A request begins.
    #[must_use]
    pub fn begin(&self) -> UnderWay<'_> {
        self.under_way.inc();
        UnderWay(&self.under_way)
    }

    /// The circuit has opened, or closed.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.set(is_open.into());
    }

    /// So many lifecycle events were not stored.
    pub fn dropped(&self, events: u64) {
        self.dropped.inc_by(events);
    }

    /// So many events are to be delivered, so many are dead letters, and the oldest of the former is
    /// so many seconds old.
    pub fn set_queue(&self, queued: u64, dead: u64, oldest_secs: u64) {
        for (gauge, level) in [
            (&self.queued, queued),
            (&self.dead, dead),
            (&self.oldest_secs, oldest_secs),
        ] {
            gauge.set(i64::try_from(level).unwrap_or(i64::MAX));
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
