//! Where an issuer publishes its keys, and how they are fetched.

use std::{sync::OnceLock, time::Duration};

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Response, header, redirect::Policy};
use serde::Deserialize;
use shared_claims::key_set::{KeySet, MAXIMUM_JWKS_BYTES};

/// The bounds on what the issuer says about how long its keys can be kept, and what counts when it
/// says nothing.
const SHORTEST_MAX_AGE: Duration = Duration::from_secs(1);
const LONGEST_MAX_AGE: Duration = Duration::from_secs(60 * 60);
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// How long the issuer may take to accept a connection, and to answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Where the keys are.
pub(super) enum Place {
    /// At this address.
    Keys(String),
    /// Where the metadata of this issuer says (OpenID Connect Discovery 1.0, section 4).
    Discovery(String),
}

/// The keys that an issuer publishes.
pub(super) struct Publication {
    place: Place,
    client: Client,
    /// Where the metadata said that the keys are.
    discovered: OnceLock<String>,
}

/// The members of an issuer's metadata that decide something.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Publication {
    /// What is published at `place`; nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub(super) fn new(place: Place) -> anyhow::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ANSWER_DEADLINE)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            place,
            client,
            discovered: OnceLock::new(),
        })
    }

    /// The keys, and how long they can be kept.
    ///
    /// # Errors
    ///
    /// When the issuer does not answer with any key that can be used.
    pub(super) async fn fetch(&self) -> anyhow::Result<(KeySet, Duration)> {
        let uri = self.uri().await?;
        let (document, max_age) = self.get(&uri).await?;
        let keys = KeySet::from_jwks(&document)?;
        ensure!(
            !keys.is_empty(),
            "the issuer publishes no key that can be used"
        );
        Ok((keys, max_age))
    }

    async fn uri(&self) -> anyhow::Result<String> {
        let issuer = match &self.place {
            Place::Keys(uri) => return Ok(uri.clone()),
            Place::Discovery(issuer) => issuer,
        };
        if let Some(uri) = self.discovered.get() {
            return Ok(uri.clone());
        }
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let (document, _) = self
            .get(&format!("{base}/.well-known/openid-configuration"))
            .await?;
        let metadata: Metadata =
            serde_json::from_slice(&document).context("the metadata names no keys")?;
        // Else one tenant's metadata could stand in for another's (section 4.3).
        ensure!(
            metadata.issuer == *issuer,
            "the metadata is of another issuer"
        );
        let is_as_safe = metadata.jwks_uri.starts_with("https://")
            || (issuer.starts_with("http://") && metadata.jwks_uri.starts_with("http://"));
        ensure!(
            is_as_safe,
            "the metadata names keys that are not at an https address"
        );
        Ok(self.discovered.get_or_init(|| metadata.jwks_uri).clone())
    }

    /// A document of bounded length, and how long it can be kept.
    async fn get(&self, uri: &str) -> anyhow::Result<(Vec<u8>, Duration)> {
        let answer = self.client.get(uri).send().await;
        let mut answer = answer.map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            bail!("the issuer answered {}", answer.status());
        }
        let max_age = max_age_of(&answer);
        let mut document = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            ensure!(
                document.len() + chunk.len() <= MAXIMUM_JWKS_BYTES,
                "the issuer's answer is longer than {MAXIMUM_JWKS_BYTES} bytes"
            );
            document.extend_from_slice(&chunk);
        }
        Ok((document, max_age))
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
