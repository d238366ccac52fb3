//! The service that adds claims to tokens.

use std::{path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    ConfigError, WebhookUrl, check,
    parse::{self, TextValue},
};

/// The service of the operator's that is asked for claims at each login and refresh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimsWebhookSettings {
    /// The URL of a service of yours that is asked at each login and refresh, signed after Standard Webhooks:
    /// adds roles and claims to the token, or refuses the login. The empty text asks nobody.
    /// `AUTH__TOKEN__CLAIMS_WEBHOOK__URL`, default ``.
    #[serde(deserialize_with = "parse::from_text")]
    pub url: WebhookUrl,
    /// File with the secrets that sign: `whsec_` and base64, one a line, two at most. It is read for each
    /// request. `AUTH__TOKEN__CLAIMS_WEBHOOK__SECRET_FILE`, default ``.
    pub secret_file: PathBuf,
    /// Maximum time of a request, its wait for a place among `concurrency` included, in milliseconds, 10 to
    /// 10000. `AUTH__TOKEN__CLAIMS_WEBHOOK__TIMEOUT_MS`, default 500.
    pub timeout_ms: u64,
    /// Outcome of a login or a refresh when the service gives no answer that can be used: `refuse` answers 503,
    /// `ignore` signs a token without its claims. `AUTH__TOKEN__CLAIMS_WEBHOOK__ON_FAILURE`, default
    /// `refuse`.
    #[serde(deserialize_with = "parse::from_text")]
    pub on_failure: OnFailure,
    /// Maximum number of requests at once, 1 to 1024; one account has a sixteenth of them, at least two.
    /// `AUTH__TOKEN__CLAIMS_WEBHOOK__CONCURRENCY`, default 64.
    pub concurrency: usize,
    /// Maximum number of answers that are kept for the time that each names, 0 to 1000000, of up to 2 KiB each.
    /// `AUTH__TOKEN__CLAIMS_WEBHOOK__CACHE`, default 10000.
    pub cache: usize,
}

/// Outcome of a login when the claims webhook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nobody signs in.
    #[default]
    Refuse,
    /// The token has the account's own claims alone.
    Ignore,
}

impl FromStr for OnFailure {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "ignore" => Ok(Self::Ignore),
            _ => Err(()),
        }
    }
}

impl TextValue for OnFailure {
    const RULE: &str = "must be refuse or ignore";
}

impl Default for ClaimsWebhookSettings {
    fn default() -> Self {
        Self {
            url: WebhookUrl::default(),
            secret_file: PathBuf::new(),
            timeout_ms: 500,
            on_failure: OnFailure::default(),
            concurrency: 64,
            cache: 10_000,
        }
    }
}

impl ClaimsWebhookSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let has_secret = !self.secret_file.as_os_str().is_empty();
        let rule = "must be set with token.claims_webhook.url, and only with it";
        let is_pair = has_secret == self.url.is_on();
        check("token.claims_webhook.secret_file", is_pair, rule)?;
        let timeout = (10..=10_000).contains(&self.timeout_ms);
        let rule = "must be 10 to 10000";
        check("token.claims_webhook.timeout_ms", timeout, rule)?;
        let concurrency = (1..=1024).contains(&self.concurrency);
        let rule = "must be 1 to 1024";
        check("token.claims_webhook.concurrency", concurrency, rule)?;
        let rule = "must be at most 1000000";
        check("token.claims_webhook.cache", self.cache <= 1_000_000, rule)
    }
}
