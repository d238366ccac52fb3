//! Metrics, and their names: there is no other place with a
//! metric's name.
//!
//! A label has a few values that stand in the code. Nothing that a visitor writes becomes one, or
//! visitors could make as many series as they like.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::store::{FailureKind, MailKind, Pending};

mod cluster;
mod hooks;

pub use cluster::ClusterOutcome;
pub use hooks::{ClaimsOutcome, EventOutcome};

/// The media type of [`Metrics::render`].
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of every name.
const PREFIX: &str = "latchkey_auth";

/// The route of a path that is none of ours.
const NO_ROUTE: &str = "none";

/// The bounds of the times, in seconds: from an answer out of memory, past a password's 20 ms, to
/// the point where clients give up.
const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Route = [(&'static str, String); 1];
type RouteLabels = (Route, Labels<1>);
/// A histogram does not know its bounds by itself.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Outcome of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Somebody signed in.
    Success,
    /// There is no such account.
    UnknownUser,
    /// The password is another one.
    WrongPassword,
    /// The account is shut.
    Disabled,
    /// The name is shut, since too many have failed.
    Locked,
    /// The password is right, and a second factor is asked for.
    SecondFactorAsked,
    /// The second factor was wrong.
    WrongCode,
    /// The passkey was refused.
    WrongPasskey,
    /// A limit was reached before anything was looked at.
    Limited,
    /// No thread was free for the password.
    Overloaded,
    /// The database or a thread failed.
    Failed,
}

impl LoginOutcome {
    /// The name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::SecondFactorAsked => "second_factor_asked",
            Self::WrongCode => "wrong_code",
            Self::WrongPasskey => "wrong_passkey",
            Self::Limited => "limited",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
        }
    }
}

/// Outcome of a refresh token that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The token was exchanged.
    Rotated,
    /// The token was exchanged before, and its session was ended.
    Reused,
    /// The token was worth nothing.
    Refused,
}

impl RefreshOutcome {
    /// The name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Reused => "reused",
            Self::Refused => "refused",
        }
    }
}

/// Outcome of an attempt to send a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailOutcome {
    /// The mail server took it.
    Sent,
    /// The mail server refused it for good.
    Refused,
    /// The mail server could not be used; the mail is tried again.
    Failed,
    /// The mail was given up, since its link has ended.
    Expired,
}

impl MailOutcome {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

/// Numbers that other parts count, read at each request for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Passwords that were hashed since the start.
    pub passwords_hashed: u64,
    /// Log lines that are lost since the start.
    pub log_lines_lost: u64,
    /// Messages that wait in the outbox; `None` when the database does not say.
    pub pending: Option<Pending>,
}

/// The counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<RouteLabels, Counter>,
    request_seconds: Histograms<Route>,
    logins: Family<Labels<1>, Counter>,
    refreshes: Family<Labels<1>, Counter>,
    limited: Family<Labels<1>, Counter>,
    store_failures: Family<Labels<1>, Counter>,
    passwords_hashed: Counter,
    log_lines_lost: Counter,
    revocations_pending: Gauge,
    mails: Family<Labels<2>, Counter>,
    mails_pending: Gauge,
    events: Family<Labels<1>, Counter>,
    claims: Family<Labels<1>, Counter>,
    events_pending: Gauge,
    cluster_connected: Gauge,
    cluster_requests: Family<Labels<1>, Counter>,
}

impl Metrics {
    /// Counters that stand at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(times),
            logins: Family::default(),
            refreshes: Family::default(),
            limited: Family::default(),
            store_failures: Family::default(),
            passwords_hashed: Counter::default(),
            log_lines_lost: Counter::default(),
            revocations_pending: Gauge::default(),
            mails: Family::default(),
            mails_pending: Gauge::default(),
            events: Family::default(),
            claims: Family::default(),
            events_pending: Gauge::default(),
            cluster_connected: Gauge::default(),
            cluster_requests: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests that were answered, by route and class of status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request",
            "Time from a request's head to its answer's, by route",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("logins", "Logins, by outcome", self.logins.clone());
        registry.register(
            "refreshes",
            "Refresh tokens that were presented, by outcome",
            self.refreshes.clone(),
        );
        registry.register(
            "limited",
            "Requests that were refused for a limit, by limit",
            self.limited.clone(),
        );
        registry.register(
            "store_failures",
            "Requests on which the database failed, by kind of failure",
            self.store_failures.clone(),
        );
        registry.register(
            "passwords_hashed",
            "Passwords that were hashed",
            self.passwords_hashed.clone(),
        );
        registry.register(
            "log_lines_lost",
            "Log lines that are lost, since standard error took none",
            self.log_lines_lost.clone(),
        );
        registry.register(
            "revocations_pending",
            "Revocations that a gateway has not been told yet",
            self.revocations_pending.clone(),
        );
        registry.register(
            "mails",
            "Attempts to send a mail, by kind and outcome",
            self.mails.clone(),
        );
        registry.register(
            "mails_pending",
            "Mails that the mail server has not taken yet",
            self.mails_pending.clone(),
        );
        self.register_hooks();
        self.register_cluster();
    }

    /// A request was answered. `route` is the pattern that it matched, and not its path.
    pub fn request(&self, route: Option<String>, status: u16, took: Duration) {
        let route = [("route", route.unwrap_or_else(|| NO_ROUTE.to_owned()))];
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.request_seconds
            .get_or_create(&route)
            .observe(took.as_secs_f64());
        self.requests
            .get_or_create(&(route, [("status", class)]))
            .inc();
    }

    /// A login was answered.
    pub fn login(&self, outcome: LoginOutcome) {
        let labels = [("outcome", outcome.name())];
        self.logins.get_or_create(&labels).inc();
    }

    /// A refresh token was presented.
    pub fn refresh(&self, outcome: RefreshOutcome) {
        let labels = [("outcome", outcome.name())];
        self.refreshes.get_or_create(&labels).inc();
    }

    /// A request was refused for the limit of this name.
    pub fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&[("limit", limit)]).inc();
    }

    /// The database failed on a request.
    pub fn store_failure(&self, trouble: FailureKind) {
        let labels = [("trouble", trouble.name())];
        self.store_failures.get_or_create(&labels).inc();
    }

    /// A mail was tried, or given up.
    pub fn mail(&self, kind: MailKind, outcome: MailOutcome) {
        let labels = [("kind", kind.name()), ("outcome", outcome.name())];
        self.mails.get_or_create(&labels).inc();
    }

    /// An event was tried, or given up.
    pub fn event(&self, outcome: EventOutcome) {
        let labels = [("outcome", outcome.name())];
        self.events.get_or_create(&labels).inc();
    }

    /// Everything as OpenMetrics text.
    ///
    /// # Errors
    ///
    /// None that can happen: a text takes whatever is written to it.
    pub fn render(&self, gauges: Gauges) -> Result<String, std::fmt::Error> {
        for (counter, count) in [
            (&self.passwords_hashed, gauges.passwords_hashed),
            (&self.log_lines_lost, gauges.log_lines_lost),
        ] {
            let counter: &AtomicU64 = counter.inner();
            counter.store(count, Ordering::Relaxed);
        }
        if let Some(pending) = gauges.pending {
            self.revocations_pending.set(pending.revocations);
            self.mails_pending.set(pending.mails);
            self.events_pending.set(pending.events);
        }
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn times() -> Histogram {
    Histogram::new(SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_under_its_name() {
        let metrics = Metrics::new();
        metrics.request(Some("/login".to_owned()), 200, Duration::from_millis(20));
        metrics.request(None, 404, Duration::ZERO);
        metrics.login(LoginOutcome::Success);
        metrics.refresh(RefreshOutcome::Reused);
        metrics.limited("logins_of_address");
        metrics.store_failure(FailureKind::Full);
        metrics.mail(MailKind::ResetPassword, MailOutcome::Sent);
        metrics.cluster_connected(true);
        metrics.cluster_request(ClusterOutcome::Failed);
        let gauges = Gauges {
            passwords_hashed: 7,
            log_lines_lost: 5,
            pending: Some(Pending {
                revocations: 3,
                mails: 2,
                events: 4,
            }),
        };
        let text = metrics.render(gauges).expect("text");
        for line in [
            r#"latchkey_auth_requests_total{route="/login",status="2xx"} 1"#,
            r#"latchkey_auth_requests_total{route="none",status="4xx"} 1"#,
            r#"latchkey_auth_request_seconds_count{route="/login"} 1"#,
            r#"latchkey_auth_logins_total{outcome="success"} 1"#,
            r#"latchkey_auth_refreshes_total{outcome="reused"} 1"#,
            r#"latchkey_auth_limited_total{limit="logins_of_address"} 1"#,
            r#"latchkey_auth_store_failures_total{trouble="full"} 1"#,
            "latchkey_auth_passwords_hashed_total 7",
            "latchkey_auth_log_lines_lost_total 5",
            "latchkey_auth_revocations_pending 3",
            "latchkey_auth_mails_pending 2",
            "latchkey_auth_events_pending 4",
            r#"latchkey_auth_mails_total{kind="reset_password",outcome="sent"} 1"#,
            "latchkey_auth_cluster_connected 1",
            r#"latchkey_auth_cluster_requests_total{outcome="failed"} 1"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
