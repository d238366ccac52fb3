//! The keys by which tokens are verified: secrets that the issuer shares with us, or public keys
//! that it publishes.
//!
//! Published keys are fetched in the background, and kept while the issuer is down. A token with an
//! unknown key is worth one fetch in a while, and no more: whoever sends such tokens must not decide
//! how often we call somebody.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwapOption;
use reqwest::{Client, Response, header, redirect::Policy};
use shared_claims::{
    Rejection, VerifiedClaims, Verifier,
    claims::REALTIME_AUDIENCE,
    key_set::{KeySet, MAXIMUM_JWKS_BYTES},
    secret::Secrets,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Mutex,
    time::Instant,
};

use crate::{
    config::{Config, ConfigError},
    metrics::{FetchOutcome, Metrics},
};

/// How often, at most, a token with an unknown key makes us ask the issuer.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// How soon a fetch that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How long keys are kept while the issuer is down.
const MAXIMUM_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The bounds on what the issuer says about how long its keys can be kept, and what counts when it
/// says nothing.
const SHORTEST_MAX_AGE: Duration = Duration::from_secs(1);
const LONGEST_MAX_AGE: Duration = Duration::from_secs(60 * 60);
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// How long the issuer may take to accept a connection, and to answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Where the keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// Secrets that the issuer has too, and how they are read again.
    Shared(Secrets, Reload),
    /// What the issuer publishes.
    Published,
}

/// Reads the secrets again.
pub type Reload = Arc<dyn Fn() -> Result<Secrets, ConfigError> + Send + Sync>;

impl fmt::Debug for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Shared(..) => "Shared",
            Self::Published => "Published",
        })
    }
}

impl KeySource {
    /// Secrets that stay as they are.
    #[must_use]
    pub fn fixed(secrets: Secrets) -> Self {
        let same = secrets.clone();
        Self::Shared(secrets, Arc::new(move || Ok(same.clone())))
    }
}

/// Why a token does not admit its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// The token is at fault.
    Rejected(Rejection),
    /// We are: no keys are known, and none can be had.
    NoKeys,
}

/// The keys of one issuer.
pub struct Keys {
    issuer: String,
    verifier: ArcSwapOption<Verifier>,
    source: KeySource,
    published: Published,
    metrics: Arc<Metrics>,
}

/// What is published where, and when it was asked for.
struct Published {
    uri: String,
    client: Client,
    state: Mutex<FetchState>,
}

#[derive(Default)]
struct FetchState {
    asked_at: Option<Instant>,
    known_since: Option<Instant>,
}

impl Keys {
    /// The keys that `source` says.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider refuses the secrets, or no HTTP client can be made.
    pub fn new(config: &Config, source: KeySource, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ANSWER_DEADLINE)
            .build()
            .context("cannot make an HTTP client")?;
        let keys = Self {
            issuer: config.issuer.clone(),
            verifier: ArcSwapOption::empty(),
            published: Published {
                uri: config.jwks_uri(),
                client,
                state: Mutex::default(),
            },
            source,
            metrics,
        };
        if let KeySource::Shared(secrets, _) = &keys.source {
            keys.accept(KeySet::from_secrets(secrets)?);
        }
        Ok(keys)
    }

    /// Whether there are keys to verify with.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.verifier.load().is_some()
    }

    /// Accepts a token, or says why not. A token whose key is unknown may wait for the issuer to
    /// publish it.
    ///
    /// # Errors
    ///
    /// See [`Unverified`].
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<VerifiedClaims, Unverified> {
        match self.verify_with_known(token, now) {
            Err(Unverified::Rejected(Rejection::KeyUnknown) | Unverified::NoKeys)
                if matches!(self.source, KeySource::Published) =>
            {
                self.fetch_unless_asked_within(UNKNOWN_KEY_INTERVAL).await;
                self.verify_with_known(token, now)
            }
            verdict => verdict,
        }
    }

    fn verify_with_known(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<VerifiedClaims, Unverified> {
        let verifier = self.verifier.load();
        let verifier = verifier.as_ref().ok_or(Unverified::NoKeys)?;
        verifier.verify(token, now).map_err(Unverified::Rejected)
    }

    fn accept(&self, keys: KeySet) {
        let verifier = Verifier::new(&self.issuer, REALTIME_AUDIENCE, keys);
        self.verifier.store(Some(Arc::new(verifier)));
    }

    /// Keeps the keys fresh until it is dropped: secrets are read again at SIGHUP, and what is
    /// published is fetched when it is too old.
    ///
    /// # Errors
    ///
    /// When SIGHUP cannot be caught.
    pub async fn tend(&self) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        match &self.source {
            KeySource::Shared(_, reload) => loop {
                hangup.recv().await;
                self.reload(reload);
            },
            KeySource::Published => loop {
                let wait = self.fetch_unless_asked_within(Duration::ZERO).await;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = hangup.recv() => {}
                }
            },
        }
    }

    fn reload(&self, reload: &Reload) {
        let keys = reload()
            .map_err(anyhow::Error::from)
            .and_then(|secrets| Ok(KeySet::from_secrets(&secrets)?));
        match keys {
            Ok(keys) => {
                self.accept(keys);
                tracing::info!("the secrets were read again");
            }
            Err(error) => tracing::error!("the secrets are left as they were: {error:#}"),
        }
    }

    /// Fetches what is published, unless that was done a moment ago, and says when to do it again.
    /// Whoever comes meanwhile waits for the same answer.
    async fn fetch_unless_asked_within(&self, interval: Duration) -> Duration {
        let mut state = self.published.state.lock().await;
        let asked_lately = state.asked_at.is_some_and(|at| at.elapsed() < interval);
        if asked_lately {
            return RETRY_INTERVAL;
        }
        state.asked_at = Some(Instant::now());
        match self.published.fetch().await {
            Ok((keys, max_age)) => {
                if state.known_since.is_none() {
                    tracing::info!("the issuer's keys are known");
                }
                self.metrics.key_fetch(FetchOutcome::Fetched);
                self.accept(keys);
                state.known_since = Some(Instant::now());
                max_age
            }
            Err(error) => {
                self.metrics.key_fetch(FetchOutcome::Failed);
                tracing::warn!("the issuer's keys cannot be fetched: {error:#}");
                let is_too_old = |since: Instant| since.elapsed() > MAXIMUM_AGE;
                if state.known_since.is_some_and(is_too_old) {
                    self.verifier.store(None);
                    state.known_since = None;
                }
                RETRY_INTERVAL
            }
        }
    }
}

impl Published {
    /// The keys, and how long they can be kept.
    async fn fetch(&self) -> anyhow::Result<(KeySet, Duration)> {
        let answer = self.client.get(&self.uri).send().await;
        let mut answer = answer.map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            bail!("the issuer answered {}", answer.status());
        }
        let max_age = max_age_of(&answer);
        let mut document = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if document.len() + chunk.len() > MAXIMUM_JWKS_BYTES {
                bail!("the set of keys is longer than {MAXIMUM_JWKS_BYTES} bytes");
            }
            document.extend_from_slice(&chunk);
        }
        let keys = KeySet::from_jwks(&document)?;
        if keys.is_empty() {
            bail!("the issuer publishes no key that can be used");
        }
        Ok((keys, max_age))
    }
}

fn max_age_of(answer: &Response) -> Duration {
    let directives = answer.headers().get(header::CACHE_CONTROL);
    directives
        .and_then(|directives| directives.to_str().ok())
        .into_iter()
        .flat_map(|directives| directives.split(','))
        .find_map(|directive| directive.trim().strip_prefix("max-age=")?.parse().ok())
        .map_or(DEFAULT_MAX_AGE, Duration::from_secs)
        .clamp(SHORTEST_MAX_AGE, LONGEST_MAX_AGE)
}
