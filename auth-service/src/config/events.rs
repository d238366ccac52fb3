//! The service that is told what happened.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, WebhookUrl, check, parse};

/// The service that is told what happened to accounts and sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventSettings {
    /// The URL of a service of yours to which each event is posted as JSON, signed after Standard
    /// Webhooks, or nothing. `AUTH__EVENTS__URL`, default ``.
    #[serde(deserialize_with = "parse::from_text")]
    pub url: WebhookUrl,
    /// File with the secrets that sign: `whsec_` and base64, one a line, two at most. It is read for each
    /// event. `AUTH__EVENTS__SECRET_FILE`, default ``.
    pub secret_file: PathBuf,
    /// Time for which an event is tried, in seconds, up to 30 days. `AUTH__EVENTS__RETENTION_SECS`, default
    /// 259200, three days.
    pub retention_secs: u64,
    /// Number of waiting events beyond which the oldest are dropped, every ten minutes.
    /// `AUTH__EVENTS__QUEUE`, default 100000.
    pub queue: u32,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            url: WebhookUrl::default(),
            secret_file: PathBuf::new(),
            retention_secs: 3 * 24 * 60 * 60,
            queue: 100_000,
        }
    }
}

impl EventSettings {
    /// Time for which an event is kept, in seconds; `None` when nobody is told.
    pub(crate) fn retention(&self) -> Option<i64> {
        let secs = i64::try_from(self.retention_secs).unwrap_or(i64::MAX);
        self.url.is_on().then_some(secs)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let has_secret = !self.secret_file.as_os_str().is_empty();
        let rule = "must be set with events.url, and only with it";
        check("events.secret_file", has_secret == self.url.is_on(), rule)?;
        let retention = (60..=30 * 86_400).contains(&self.retention_secs);
        check("events.retention_secs", retention, "must be 60 to 2592000")?;
        let queue = (1..=10_000_000).contains(&self.queue);
        check("events.queue", queue, "must be 1 to 10000000")
    }
}
