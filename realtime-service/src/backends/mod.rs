//! The client of back ends: which back end answers an event, and the HTTP request that asks it.
//!
//! The module knows no sessions. A failing or slow back end costs its own callers an error, and no
//! other caller anything: each back end has its own places, bytes and circuit breaker.

mod addresses;
mod admission;
mod asker;
mod back_end;
mod breaker;
mod capacity;
mod client;
mod cloud_event;
mod decisions;
mod description;
mod failure;
mod inspection;
mod lifecycle;
mod pattern;
pub mod queue;
mod reply;
mod routes;
mod signature;

use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;

use self::{
    admission::Admitter,
    lifecycle::Lifecycle,
    queue::{Queue, copy::QueueCopy, store::NewEvent},
};
pub use self::{
    admission::{Admission, AdmissionAnswer, AdmissionStage},
    asker::Asker,
    back_end::BackEnd,
    cloud_event::{CallData, CloudEvent, EventType},
    decisions::{Decision, DecisionAnswer, Decisions, Matter, Replacement},
    description::describe_webhooks,
    failure::{CallError, Failure, TOO_LARGE},
    lifecycle::{ConnectionOpening, Opened, Origin},
    queue::{NotStored, OpenBook, Reservation},
    reply::{Action, Reply},
    routes::Route,
};
use crate::{
    cluster::Cluster,
    config::{Config, ConfigError, EventMode},
    metrics::Metrics,
    namespaces::Namespaces,
};

/// The back ends of the settings, and the events that are theirs.
pub struct BackEnds {
    all: Vec<Arc<BackEnd>>,
    routes: Namespaces<Vec<Route>>,
    /// The back end that is asked about each client that connects to a namespace.
    admitters: Namespaces<Option<Admitter>>,
    decisions: Decisions,
    lifecycle: Namespaces<Lifecycle>,
    /// Events that are delivered later; `None` while no event of the settings is.
    queue: Option<Arc<Queue>>,
    /// The copy of the queue in Redis; `None` without a queue, or without a cluster.
    copy: Option<QueueCopy>,
}

impl BackEnds {
    /// Reads the secrets and certificates of the back ends in `config`. No back end is asked.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work, without its value.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, ConfigError> {
        let new = |(index, settings)| {
            let denied = config.backend_deny_networks.as_slice();
            BackEnd::new(settings, (denied, config.limits.message_bytes), metrics).map_err(
                |(setting, problem)| ConfigError::Invalid {
                    setting: format!("backends[{index}].{setting}"),
                    problem,
                },
            )
        };
        let all = config.backends.iter().enumerate().map(new);
        let all: Vec<Arc<BackEnd>> = all.collect::<Result<_, _>>()?;
        Ok(Self {
            routes: config.each_namespace(|one| routes::routes_of(one, &all))?,
            admitters: config.each_namespace(|one| Admitter::new(one, &all))?,
            decisions: Decisions::new(config, &all)?,
            lifecycle: config.each_namespace(|one| Lifecycle::new(one, &all))?,
            all,
            queue: None,
            copy: None,
        })
    }

    /// Does the same, and opens the queue if an entry of `[[events]]` or `[[lifecycle]]` needs it, in whichever
    /// namespace. In a `cluster` the queue has a copy.
    ///
    /// # Errors
    ///
    /// Those of [`Self::new`], or when the file of the queue cannot be used.
    pub fn open(
        config: &Config,
        metrics: &Arc<Metrics>,
        cluster: Option<&Arc<Cluster>>,
    ) -> anyhow::Result<Self> {
        let back_ends = Self::new(config, metrics)?;
        let is_needed = back_ends.lifecycle.values().any(Lifecycle::is_on) || {
            let mut routes = back_ends.routes.values().flatten();
            routes.any(|route| route.mode == EventMode::Notify)
        };
        if !is_needed {
            return Ok(back_ends);
        }
        let settings = &config.webhooks;
        let copy = cluster.map(|cluster| QueueCopy::open(settings, cluster, metrics));
        let copy = copy.transpose()?;
        let queue = match &copy {
            Some(copy) => copy.queue().clone(),
            None => Arc::new(Queue::open(settings)?),
        };
        Ok(Self {
            queue: Some(queue),
            copy,
            ..back_ends
        })
    }

    /// Finds out whether another gateway of the cluster has adopted the queue since it was used last, for as long as
    /// Redis may take to answer. Without a cluster there is nothing to find out. Nothing is delivered before.
    pub async fn settle(&self) {
        if let Some(copy) = &self.copy {
            copy.settle().await;
        }
    }

    /// Keeps the copy of the queue in Redis, and adopts the queues of gateways that are lost, until it is dropped.
    pub async fn share(&self) {
        if let Some(copy) = &self.copy {
            copy.run().await;
        }
    }

    /// Stores an event of `subject` for the back end of a route, to be delivered later. When this
    /// returns it is durable.
    ///
    /// # Errors
    ///
    /// When it cannot be stored.
    pub async fn store<T: Serialize>(
        &self,
        route: &Route,
        subject: String,
        event: &CloudEvent<'_, T>,
    ) -> Result<(), NotStored> {
        let queue = self.queue.as_ref().ok_or(NotStored::Unavailable)?;
        let event = NewEvent {
            id: event.id().to_owned(),
            backend: route.back_end().name().to_owned(),
            subject,
            body: event.to_body().map_err(|_| NotStored::Unavailable)?,
        };
        if !route.back_end().holds(event.body.len()) {
            return Err(NotStored::TooLarge);
        }
        queue.append(event).await
    }

    /// Delivers the events of the queue, until it is dropped.
    pub async fn deliver(&self) {
        if let Some(copy) = &self.copy {
            copy.settled().await;
        }
        if let Some(queue) = &self.queue {
            let all = self.all.iter();
            join_all(all.map(|back_end| queue::delivery::deliver(queue, back_end))).await;
        }
    }

    /// Waits until the events of this moment are durable, and leaves the file of the queue to other gateways.
    /// Nothing may be stored or delivered any more.
    pub async fn close(&self) {
        if let Some(copy) = &self.copy {
            copy.finish().await;
        }
        if let Some(queue) = &self.queue {
            queue.close().await;
        }
    }

    /// Returns the route of the events with this name in a namespace: the first one of its settings that
    /// matches.
    #[must_use]
    pub fn route(&self, namespace: &str, event: &str) -> Option<&Route> {
        let mut routes = self.routes.of(namespace).iter();
        routes.find(|route| route.matches(event))
    }

    /// The decisions about rooms.
    #[must_use]
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Asks the back end of the namespace's `connect.backend` whether the user of `connection` is admitted.
    /// Without such a back end everybody is.
    ///
    /// # Errors
    ///
    /// When there is no answer that can be used.
    pub async fn ask_admission(
        &self,
        asker: &Asker<'_>,
        connection: &str,
        stage: AdmissionStage,
    ) -> Result<AdmissionAnswer, CallError> {
        let place = (connection, self.admitters.name_of(asker.namespace));
        match self.admitters.of(asker.namespace) {
            Some(admitter) => admitter.ask(asker, place, stage).await,
            None => Ok(AdmissionAnswer::Admitted(Admission::default())),
        }
    }

    /// Whether a back end is asked about each client that connects to a namespace.
    #[must_use]
    pub fn decide_on_connections(&self, namespace: &str) -> bool {
        self.admitters.of(namespace).is_some()
    }

    /// Reads the secrets of all back ends again. One that cannot be used is logged, and left as it was.
    pub fn reload_secrets(&self) {
        for back_end in &self.all {
            let backend = back_end.name();
            match back_end.reload_secrets() {
                Ok(()) => tracing::info!(backend, "the secrets were read again"),
                Err(problem) => {
                    tracing::error!(backend, problem, "the secrets are left as they were");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The problem that the back ends and events of `backend` and `events` have.
    fn problem(backend: &[(&str, &str)], events: &[&str]) -> Option<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
        std::fs::write(path("text"), "hunter2").expect("written");
        let mut settings =
            json!({ "name": "shop", "url": "https://shop/", "secret_file": path("secret") });
        for (name, file) in backend {
            settings[*name] = json!(path(file));
        }
        let rule = json!({ "events": events, "backend": "shop", "mode": "call" });
        let config = Config {
            backends: vec![serde_json::from_value(settings).expect("settings")],
            events: vec![serde_json::from_value(rule).expect("a rule")],
            ..Config::default()
        };
        let problem = BackEnds::new(&config, &Metrics::new()).err();
        problem.map(|problem| problem.to_string())
    }

    #[test]
    fn files_and_patterns_that_cannot_be_used_are_named() {
        let route = &["order:*"][..];
        for (backend, events, expected) in [
            (
                &[("secret_file", "none")][..],
                route,
                "backends[0].secret_file: cannot be read",
            ),
            (
                &[("secret_file", "text")],
                route,
                "backends[0].secret_file: a secret must begin",
            ),
            (
                &[("ca_file", "none")],
                route,
                "backends[0].ca_file: cannot be read",
            ),
            (
                &[("ca_file", "text")],
                route,
                "backends[0].ca_file: holds no certificate",
            ),
            (
                &[("client_cert_file", "text"), ("client_key_file", "text")],
                route,
                "backends[0].client_cert_file: holds no certificate",
            ),
            (&[], &["order:"], "events[0].events: a pattern has"),
            (&[], &["rt:*"], "events[0].events: a pattern is reserved"),
        ] {
            let problem = problem(backend, events).expect(expected);
            assert!(problem.starts_with(expected), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert_eq!(problem(&[], route), None);
    }

    #[test]
    fn the_first_route_that_matches_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
        let backend = |name| json!({ "name": name, "url": "https://shop/", "secret_file": secret });
        let rule = |event, name| json!({ "events": [event], "backend": name, "mode": "call" });
        let parse = |values: [serde_json::Value; 2]| serde_json::from_value(json!(values));
        let config = Config {
            backends: parse([backend("one"), backend("two")]).expect("settings"),
            events: serde_json::from_value(json!([rule("a:b", "one"), rule("a:*", "two")]))
                .expect("rules"),
            ..Config::default()
        };
        let back_ends = BackEnds::new(&config, &Metrics::new()).expect("back ends");
        let name = |event| {
            back_ends
                .route("/", event)
                .map(|route| route.back_end().name())
        };
        assert_eq!(
            (name("a:b"), name("a:c"), name("b:c")),
            (Some("one"), Some("two"), None)
        );
    }
}
