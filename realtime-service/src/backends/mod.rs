//! The client of back ends: which back end answers an event, and the HTTP request that asks it.
//!
//! The module knows no sessions. A failing or slow back end costs its own callers an error, and no
//! other caller anything: each back end has its own places, bytes and circuit breaker.

mod addresses;
mod back_end;
mod breaker;
mod capacity;
mod client;
mod cloud_event;
mod failure;
mod pattern;
mod reply;
mod routes;
mod signature;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

pub use self::{
    back_end::BackEnd,
    cloud_event::{CallData, CloudEvent},
    failure::{CallError, Failure},
    reply::{Action, Reply},
    routes::Route,
};
use crate::{
    config::{Config, ConfigError},
    metrics::Metrics,
};

/// The back ends of the settings, and the events that are theirs.
pub struct BackEnds {
    all: Vec<Arc<BackEnd>>,
    routes: Vec<Route>,
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
            routes: routes::routes_of(config, &all)?,
            all,
        })
    }

    /// Returns the route of the events with this name: the first one of the settings that matches.
    #[must_use]
    pub fn route(&self, event: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches(event))
    }

    /// Reads the secrets of all back ends again at each SIGHUP, until it is dropped.
    ///
    /// # Errors
    ///
    /// When SIGHUP cannot be caught.
    pub async fn tend(&self) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        loop {
            hangup.recv().await;
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
        let name = |event| back_ends.route(event).map(|route| route.back_end().name());
        assert_eq!(
            (name("a:b"), name("a:c"), name("b:c")),
            (Some("one"), Some("two"), None)
        );
    }
}
