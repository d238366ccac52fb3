//! The keys by which tokens are verified, issuer by issuer: secrets that our own issuer shares with
//! us, or public keys that an issuer publishes.

mod inspection;
mod issuer;
mod publication;
mod report;

use std::{sync::Arc, time::SystemTime};

use futures_util::future::join_all;
use shared_claims::{
    Rejection, TokenRules, UnverifiedToken, VerifiedClaims, VerifiedLogout,
    claims::{API_AUDIENCE, REALTIME_AUDIENCE},
};

pub use self::{
    inspection::{Inspection, Trial},
    report::KeyReport,
};
use self::{
    issuer::Issuer,
    publication::{Place, Publication},
};
use crate::{
    config::{Config, KeySource, ReloadSecrets},
    metrics::Metrics,
};

/// Why a token does not admit its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// The token is at fault.
    Rejected(Rejection),
    /// We are: no keys of its issuer are known, and none can be had.
    NoKeys,
}

/// The issuers whose tokens are accepted, our own first.
pub struct Keys {
    issuers: Vec<Arc<Issuer>>,
    /// How the secrets of our own issuer are read again.
    reload: Option<ReloadSecrets>,
}

impl Keys {
    /// The keys of our own issuer, which come from `source`, and of the others in the settings.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider refuses the secrets, or no HTTP client can be made.
    pub fn new(config: &Config, source: KeySource, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let rules = TokenRules::of_our_issuer(&config.issuer, REALTIME_AUDIENCE);
        let (ours, reload) = match source {
            KeySource::Shared(secrets, reload) => (Issuer::shared(rules, &secrets)?, Some(reload)),
            KeySource::Published => {
                let publication = Publication::new(Place::Keys(config.jwks_uri()))?;
                (Issuer::published(rules, publication, metrics.clone()), None)
            }
        };
        let others = config.issuers.iter().map(|settings| {
            let place = match settings.jwks_uri.as_str() {
                "" => Place::Discovery(settings.issuer.clone()),
                uri => Place::Keys(uri.to_owned()),
            };
            Ok(Issuer::published(
                settings.rules(),
                Publication::new(place)?,
                metrics.clone(),
            ))
        });
        let issuers: anyhow::Result<Vec<Arc<Issuer>>> = std::iter::once(Ok(ours))
            .chain(others)
            .map(|issuer| issuer.map(Arc::new))
            .collect();
        Ok(Self {
            issuers: issuers?,
            reload,
        })
    }

    /// Whether there are keys of our own issuer.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.issuers.first().is_some_and(|ours| ours.is_known())
    }

    /// Accepts an access token, or says why not. A token whose key is unknown may wait for its
    /// issuer to publish it.
    ///
    /// # Errors
    ///
    /// See [`Unverified`].
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<VerifiedClaims, Unverified> {
        self.ask_issuer(token, |verifier, token| verifier.verify_parsed(token, now))
            .await
    }

    /// Accepts the token of a back end, which our own issuer alone gives, or says why not.
    ///
    /// # Errors
    ///
    /// See [`Unverified`].
    pub async fn verify_back_end(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<VerifiedClaims, Unverified> {
        let ours = self.issuers.first().map(|issuer| issuer.name());
        self.ask_issuer(token, |verifier, token| {
            if token.issuer() != ours {
                return Err(Rejection::IssuerInvalid);
            }
            verifier
                .for_audience(API_AUDIENCE)
                .verify_parsed(token, now)
        })
        .await
    }

    /// Accepts a logout token, or says why not.
    ///
    /// # Errors
    ///
    /// See [`Unverified`].
    pub async fn verify_logout(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<VerifiedLogout, Unverified> {
        self.ask_issuer(token, |verifier, token| verifier.verify_logout(token, now))
            .await
    }

    /// Asks the verifier of the issuer that the token names, and parses the token once. An issuer that is
    /// not in the settings is asked for nothing.
    async fn ask_issuer<T>(
        &self,
        token: &str,
        ask: impl Fn(&shared_claims::Verifier, &mut UnverifiedToken<'_>) -> Result<T, Rejection>,
    ) -> Result<T, Unverified> {
        let mut token = UnverifiedToken::parse(token).map_err(Unverified::Rejected)?;
        let issuer = token.issuer().and_then(|iss| self.issuer_of(iss));
        let issuer = issuer.ok_or(Unverified::Rejected(Rejection::IssuerInvalid))?;
        let verdict = issuer.ask(&mut token, &ask);
        if !issuer.may_change_its_mind(&token, &verdict) {
            return verdict;
        }
        Box::pin(issuer.look_for_new_keys()).await;
        issuer.ask(&mut token, &ask)
    }

    fn issuer_of(&self, iss: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|one| one.covers(iss))
    }

    /// The longest time that a token of `issuer` can be accepted, in seconds.
    #[must_use]
    pub fn maximum_lifetime_secs(&self, issuer: &str) -> u64 {
        let issuer = self.issuer_of(issuer);
        issuer.map_or(0, |issuer| issuer.maximum_lifetime_secs())
    }

    /// Keeps the keys fresh until it is dropped: what is published is fetched when it is too old.
    pub async fn tend(&self) {
        join_all(self.issuers.iter().map(|issuer| issuer.tend())).await;
    }

    /// Reads the secrets again, and has the keys of every other issuer fetched again.
    pub fn reload(&self) {
        for issuer in &self.issuers {
            issuer.refetch();
        }
        let (Some(reload), Some(ours)) = (&self.reload, self.issuers.first()) else {
            return;
        };
        let replaced = reload()
            .map_err(anyhow::Error::from)
            .and_then(|secrets| ours.replace_secrets(&secrets));
        match replaced {
            Ok(()) => tracing::info!("the secrets were read again"),
            Err(error) => tracing::error!("the secrets are left as they were: {error:#}"),
        }
    }
}
