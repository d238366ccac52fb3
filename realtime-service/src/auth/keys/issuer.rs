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
    sync::{Mutex, Notify, OwnedMutexGuard},
    time::Instant,
};

use super::{
    Unverified,
    publication::{Publication, Published},
    report::{KeyChange, KeyReport},
};
use crate::metrics::{FetchOutcome, Metrics};

/// Shortest time between two requests to the issuer that tokens cause whose key is unknown, or whose
/// signature is not by the known key.
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
    /// A wish of the operator that the keys be fetched now.
    refetch: Notify,
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
            refetch: Notify::new(),
        }
    }

    /// The issuer as the settings name it.
    pub(super) fn name(&self) -> &str {
        self.rules.issuer.as_str()
    }

    /// Whether `iss` is one of this issuer.
    pub(super) fn covers(&self, iss: &str) -> bool {
        self.rules.issuer.covers(iss)
    }

    /// The rules for its tokens.
    pub(super) fn rules(&self) -> &TokenRules {
        &self.rules
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
        ask: impl FnOnce(&Verifier, &mut UnverifiedToken<'_>) -> Result<T, Rejection>,
    ) -> Result<T, Unverified> {
        let verifier = self.verifier.load();
        let verifier = verifier.as_ref().ok_or(Unverified::NoKeys)?;
        ask(verifier, token).map_err(Unverified::Rejected)
    }

    /// Whether a fetch may change the `verdict` on the token: its key may have been published since,
    /// also in place of another one of the same id.
    pub(super) fn may_change_its_mind<T>(
        &self,
        token: &UnverifiedToken<'_>,
        verdict: &Result<T, Unverified>,
    ) -> bool {
        let verifier = self.verifier.load();
        let lacks_key = || {
            let verifier = verifier.as_ref();
            verifier.is_none_or(|known| known.lacks_key_of(token))
        };
        self.publication.is_some()
            && match verdict {
                Err(Unverified::Rejected(Rejection::SignatureInvalid)) => true,
                // An issuer's first key of another algorithm is an unknown one too.
                Err(
                    Unverified::NoKeys
                    | Unverified::Rejected(Rejection::KeyUnknown | Rejection::AlgorithmInvalid),
                ) => lacks_key(),
                _ => false,
            }
    }

    /// Lets [`Self::tend`] fetch the keys now.
    pub(super) fn refetch(&self) {
        self.refetch.notify_one();
    }

    fn accept(&self, keys: KeySet) {
        let verifier = Verifier::with_rules(self.rules.clone(), keys);
        self.verifier.store(Some(Arc::new(verifier)));
    }

    /// Asks for keys that were published a moment ago, unless that was done lately.
    pub(super) async fn look_for_new_keys(self: &Arc<Self>) {
        self.fetch_unless_asked_within(UNKNOWN_KEY_INTERVAL).await;
    }

    /// Keeps what is published fresh until it is dropped, and fetches it at once after
    /// [`Self::refetch`].
    pub(super) async fn tend(self: &Arc<Self>) {
        if self.publication.is_none() {
            return;
        }
        let mut is_wished = false;
        // A wish that is not fulfilled is told once.
        let mut is_told = false;
        loop {
            let fetched = self.fetch_unless_asked_within(Duration::ZERO).await;
            if let (true, Some(report)) = (is_wished, self.report()) {
                match fetched {
                    Some(_) => tracing::info!(
                        issuer = self.name(),
                        "the issuer's keys were fetched again: {report}"
                    ),
                    None if is_told => {}
                    None => tracing::error!(
                        issuer = self.name(),
                        "the issuer's keys are left as they were: {report}"
                    ),
                }
                is_told = fetched.is_none();
            }
            tokio::select! {
                () = tokio::time::sleep(fetched.unwrap_or(RETRY_INTERVAL)) => {
                    // A wish that failed is tried again until it is fulfilled.
                    is_wished &= fetched.is_none();
                }
                () = self.refetch.notified() => is_wished = true,
            }
        }
    }

    /// Reports on the keys that are known.
    pub(super) fn report(&self) -> Option<KeyReport> {
        let verifier = self.verifier.load();
        let verifier = verifier.as_ref()?;
        Some(KeyReport::of(verifier.keys(), &self.rules.algorithms))
    }

    /// Fetches what is published, unless that was done a moment ago, and says for how long it can be
    /// kept; `None` when nothing was fetched. Whoever comes meanwhile waits for the same answer.
    async fn fetch_unless_asked_within(self: &Arc<Self>, interval: Duration) -> Option<Duration> {
        let fetched = self.fetched.clone().lock_owned().await;
        let asked_lately = fetched.asked_at.is_some_and(|at| at.elapsed() < interval);
        if asked_lately {
            return None;
        }
        // As a task of its own: else somebody who hangs up at once would end the fetch that all
        // others wait for, and could keep us from new keys that way.
        let issuer = self.clone();
        let fetching = tokio::spawn(async move { issuer.fetch(fetched).await });
        fetching.await.ok().flatten()
    }

    /// Fetches what is published, and says for how long it can be kept; `None` when it failed.
    async fn fetch(&self, mut fetched: OwnedMutexGuard<Fetched>) -> Option<Duration> {
        let (publication, metrics) = self.publication.as_ref()?;
        fetched.asked_at = Some(Instant::now());
        match publication.fetch().await {
            Ok(Published { keys, max_age, .. }) => {
                metrics.key_fetch(FetchOutcome::Fetched);
                self.take_over(keys);
                fetched.known_since = Some(Instant::now());
                Some(max_age)
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
                None
            }
        }
    }

    /// Verifies with `keys` from now on, and logs what has changed by them.
    fn take_over(&self, keys: KeySet) {
        let known = self.report();
        self.accept(keys);
        let Some(now) = self.report() else {
            return;
        };
        match known {
            None => {
                tracing::info!(issuer = self.name(), "the issuer's keys are known: {now}");
            }
            Some(known) if known != now => {
                let change = KeyChange::between(&known, &now);
                tracing::info!(
                    issuer = self.name(),
                    "the issuer's keys have changed: {change}; {now}"
                );
            }
            Some(_) => {}
        }
    }

    /// Fetches what is published, for a command that reports it.
    ///
    /// # Errors
    ///
    /// When nothing can be fetched; the error names the step that failed.
    pub(super) async fn fetch_for_report(&self) -> anyhow::Result<Option<(String, Duration)>> {
        let Some((publication, _)) = &self.publication else {
            return Ok(None);
        };
        let Published { keys, max_age, uri } = publication.fetch().await?;
        self.accept(keys);
        Ok(Some((uri, max_age)))
    }
}

#[cfg(test)]
mod tests;
