//! One issuer: how its tokens look, and its keys of the moment.
//!
//! Published keys are fetched in the background, and kept while the issuer is down. A token with an
//! unknown key is worth one fetch in a while, and no more: whoever sends such tokens must not decide
//! how often we call somebody.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use shared_claims::{
    Rejection, TokenRules, UnverifiedToken, Verifier, key_set::KeySet, secret::Secrets,
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use super::{Unverified, publication::Publication};
use crate::metrics::{FetchOutcome, Metrics};

/// How often, at most, a token with an unknown key makes us ask the issuer.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// How soon a fetch that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How long keys are kept while the issuer is down.
const MAXIMUM_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// An issuer whose tokens are accepted.
pub(super) struct Issuer {
    rules: Arc<TokenRules>,
    verifier: ArcSwapOption<Verifier>,
    /// Where its keys are, and what counts the fetches; `None` for one that shares its secrets.
    publication: Option<(Publication, Arc<Metrics>)>,
    fetched: Arc<Mutex<Fetched>>,
}

/// When the keys were asked for, and since when they are known.
#[derive(Default)]
struct Fetched {
    asked_at: Option<Instant>,
    known_since: Option<Instant>,
}

impl Issuer {
    /// An issuer that shares its secrets with us.
    pub(super) fn shared(rules: TokenRules, secrets: &Secrets) -> anyhow::Result<Self> {
        let issuer = Self::new(rules, None);
        issuer.replace_secrets(secrets)?;
        Ok(issuer)
    }

    /// An issuer that publishes its keys. None are known yet.
    pub(super) fn published(
        rules: TokenRules,
        publication: Publication,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self::new(rules, Some((publication, metrics)))
    }

    fn new(rules: TokenRules, publication: Option<(Publication, Arc<Metrics>)>) -> Self {
        Self {
            rules: Arc::new(rules),
            verifier: ArcSwapOption::empty(),
            publication,
            fetched: Arc::default(),
        }
    }

    /// The `iss` of its tokens.
    pub(super) fn name(&self) -> &str {
        &self.rules.issuer
    }

    pub(super) fn is_known(&self) -> bool {
        self.verifier.load().is_some()
    }

    pub(super) fn maximum_lifetime_secs(&self) -> u64 {
        self.rules.maximum_lifetime_secs
    }

    /// Takes other secrets in place of the ones from before.
    pub(super) fn replace_secrets(&self, secrets: &Secrets) -> anyhow::Result<()> {
        self.accept(KeySet::from_secrets(secrets)?);
        Ok(())
    }

    /// Asks with the keys that are known.
    pub(super) fn ask<T>(
        &self,
        token: &mut UnverifiedToken<'_>,
        ask: impl Fn(&Verifier, &mut UnverifiedToken<'_>) -> Result<T, Rejection>,
    ) -> Result<T, Unverified> {
        let verifier = self.verifier.load();
        let verifier = verifier.as_ref().ok_or(Unverified::NoKeys)?;
        ask(verifier, token).map_err(Unverified::Rejected)
    }

    /// Whether the key that the token names may have been published since.
    pub(super) fn may_have_published_key_of(&self, token: &UnverifiedToken<'_>) -> bool {
        let verifier = self.verifier.load();
        self.publication.is_some()
            && verifier
                .as_ref()
                .is_none_or(|known| known.lacks_key_of(token))
    }

    fn accept(&self, keys: KeySet) {
        let verifier = Verifier::with_rules(self.rules.clone(), keys);
        self.verifier.store(Some(Arc::new(verifier)));
    }

    /// Asks for keys that were published a moment ago, unless that was done lately.
    pub(super) async fn look_for_new_keys(self: &Arc<Self>) {
        self.fetch_unless_asked_within(UNKNOWN_KEY_INTERVAL).await;
    }

    /// Keeps what is published fresh until it is dropped.
    pub(super) async fn tend(self: &Arc<Self>) {
        if self.publication.is_none() {
            return;
        }
        loop {
            let wait = self.fetch_unless_asked_within(Duration::ZERO).await;
            tokio::time::sleep(wait).await;
        }
    }

    /// Fetches what is published, unless that was done a moment ago, and says when to do it again.
    /// Whoever comes meanwhile waits for the same answer.
    async fn fetch_unless_asked_within(self: &Arc<Self>, interval: Duration) -> Duration {
        let fetched = self.fetched.clone().lock_owned().await;
        let asked_lately = fetched.asked_at.is_some_and(|at| at.elapsed() < interval);
        if asked_lately {
            return RETRY_INTERVAL;
        }
        // As a task of its own: else somebody who hangs up at once would end the fetch that all
        // others wait for, and could keep us from new keys that way.
        let issuer = self.clone();
        let fetching = tokio::spawn(async move { issuer.fetch(fetched).await });
        fetching.await.unwrap_or(RETRY_INTERVAL)
    }

    /// Fetches what is published, and says when to do it again.
    async fn fetch(&self, mut fetched: OwnedMutexGuard<Fetched>) -> Duration {
        let Some((publication, metrics)) = &self.publication else {
            return RETRY_INTERVAL;
        };
        fetched.asked_at = Some(Instant::now());
        match publication.fetch().await {
            Ok((keys, max_age)) => {
                if fetched.known_since.is_none() {
                    tracing::info!(issuer = self.name(), "the issuer's keys are known");
                }
                metrics.key_fetch(FetchOutcome::Fetched);
                self.accept(keys);
                fetched.known_since = Some(Instant::now());
                max_age
            }
            Err(error) => {
                metrics.key_fetch(FetchOutcome::Failed);
                tracing::warn!(
                    issuer = self.name(),
                    "the issuer's keys cannot be fetched: {error:#}"
                );
                let is_too_old = |since: Instant| since.elapsed() > MAXIMUM_AGE;
                if fetched.known_since.is_some_and(is_too_old) {
                    self.verifier.store(None);
                    fetched.known_since = None;
                }
                RETRY_INTERVAL
            }
        }
    }
}

#[cfg(test)]
mod tests;
