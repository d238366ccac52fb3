//! Where an issuer publishes its keys, and how they are fetched.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use arc_swap::ArcSwapOption;
use reqwest::{
    Client, Response, Url, header,
    redirect::{Action, Attempt, Policy},
};
use serde::Deserialize;
use shared_claims::{
    json,
    key_set::{KeySet, MAXIMUM_JWKS_BYTES},
};

/// The bounds on what the issuer says about how long its keys can be kept, and what counts when it
/// says nothing.
const SHORTEST_MAX_AGE: Duration = Duration::from_secs(1);
const LONGEST_MAX_AGE: Duration = Duration::from_secs(60 * 60);
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// How long the issuer may take to accept a connection, and to answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// The most redirects that are followed for one document.
const MAXIMUM_REDIRECTS: usize = 3;

/// The name by which the gateway asks; some issuers answer 403 to a client without one.
const USER_AGENT: &str = concat!("latchkey-realtime/", env!("CARGO_PKG_VERSION"));

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
    discovered: ArcSwapOption<String>,
}

/// Keys as an issuer published them.
pub(super) struct Published {
    pub(super) keys: KeySet,
    /// The time for which the keys can be kept.
    pub(super) max_age: Duration,
    /// The address of the keys.
    pub(super) uri: String,
}

/// The members of an issuer's metadata that decide something.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Metadata {
    /// Where the keys of `issuer` are, if this is its metadata.
    fn keys_of(self, issuer: &str) -> anyhow::Result<String> {
        // Else one tenant's metadata could stand in for another's (section 4.3).
        ensure!(
            self.issuer == issuer,
            "the metadata is of another issuer, {:?}",
            self.issuer
        );
        let is_as_safe = self.jwks_uri.starts_with("https://")
            || (issuer.starts_with("http://") && self.jwks_uri.starts_with("http://"));
        ensure!(
            is_as_safe,
            "the metadata names keys that are not at an https address"
        );
        Ok(self.jwks_uri)
    }
}

impl Publication {
    /// What is published at `place`; nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub(super) fn new(place: Place) -> anyhow::Result<Self> {
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Policy::custom(follow_within_origin))
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ANSWER_DEADLINE)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            place,
            client,
            discovered: ArcSwapOption::empty(),
        })
    }

    /// Fetches the keys.
    ///
    /// # Errors
    ///
    /// When the issuer does not answer with any key that can be used; the error names the document
    /// and the step that failed.
    pub(super) async fn fetch(&self) -> anyhow::Result<Published> {
        let uri = self.uri().await?;
        let fetched = self.fetch_from(&uri).await;
        if fetched.is_err() {
            // They may have moved: the metadata says so the next time.
            self.discovered.store(None);
        }
        fetched.with_context(|| format!("the keys at {}", printable(&uri)))
    }

    async fn fetch_from(&self, uri: &str) -> anyhow::Result<Published> {
        let (document, max_age) = self.get(uri).await?;
        let keys = KeySet::from_jwks(&document)?;
        if keys.is_empty() {
            let first = keys.unusable().first();
            bail!(
                "no published key can be used{}",
                first.map_or(String::new(), |key| format!(": {}", key.reason))
            );
        }
        Ok(Published {
            keys,
            max_age,
            uri: uri.to_owned(),
        })
    }

    async fn uri(&self) -> anyhow::Result<String> {
        let issuer = match &self.place {
            Place::Keys(uri) => return Ok(uri.clone()),
            Place::Discovery(issuer) => issuer,
        };
        if let Some(uri) = self.discovered.load_full() {
            return Ok(uri.as_ref().clone());
        }
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let place = format!("{base}/.well-known/openid-configuration");
        let found = self.discover(issuer, &place).await;
        let uri = found.with_context(|| format!("the metadata at {}", printable(&place)))?;
        self.discovered.store(Some(Arc::new(uri.clone())));
        Ok(uri)
    }

    async fn discover(&self, issuer: &str, place: &str) -> anyhow::Result<String> {
        let (document, _) = self.get(place).await?;
        let metadata: Metadata =
            json::from_object(&document).context("no JSON object with issuer and jwks_uri")?;
        metadata.keys_of(issuer)
    }

    /// A document of bounded length, and how long it can be kept. Caches on the way are asked for a
    /// fresh one, since a request is made when the known document is in doubt.
    async fn get(&self, uri: &str) -> anyhow::Result<(Vec<u8>, Duration)> {
        let request = self
            .client
            .get(uri)
            .header(header::CACHE_CONTROL, "no-cache");
        let answer = request.send().await;
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

/// Follows a redirect to the same origin (RFC 6454, section 4). Another origin is not the one that
/// the settings name.
fn follow_within_origin(attempt: Attempt<'_>) -> Action {
    let same = attempt.previous().first().map(Url::origin);
    if same != Some(attempt.url().origin()) {
        let place = attempt.url().origin().ascii_serialization();
        return attempt.error(format!("the redirect is to another origin, {place}"));
    }
    match attempt.previous().len() > MAXIMUM_REDIRECTS {
        true => attempt.error(format!("more than {MAXIMUM_REDIRECTS} redirects")),
        false => attempt.follow(),
    }
}

/// An address as it may be printed: without a password and without a query, which could hold secrets.
pub(super) fn printable(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        Err(_) => "an address that is no URL".to_owned(),
    }
}

/// What `Cache-Control` says (RFC 9111, section 5.2.2.1), within our bounds.
fn max_age_of(answer: &Response) -> Duration {
    let directives = answer.headers().get_all(header::CACHE_CONTROL);
    directives
        .into_iter()
        .filter_map(|directives| directives.to_str().ok())
        .flat_map(|directives| directives.split(','))
        .find_map(|directive| {
            let (name, secs) = directive.trim().split_once('=')?;
            let is_max_age = name.eq_ignore_ascii_case("max-age");
            is_max_age.then(|| secs.trim_matches('"').parse().ok())?
        })
        .map_or(DEFAULT_MAX_AGE, Duration::from_secs)
        .clamp(SHORTEST_MAX_AGE, LONGEST_MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_by_https_unless_their_issuer_is_at_http_itself() {
        let (safe, unsafe_) = ("https://a.example/keys", "http://a.example/keys");
        for (issuer, jwks_uri, is_taken) in [
            ("https://a.example", safe, true),
            ("https://a.example", unsafe_, false),
            ("https://a.example", "http://169.254.169.254/keys", false),
            ("https://a.example", "file:///keys", false),
            ("https://a.example", "", false),
            ("http://a.example", unsafe_, true),
            ("http://a.example", safe, true),
            ("http://a.example", "file:///keys", false),
        ] {
            let metadata = Metadata {
                issuer: issuer.to_owned(),
                jwks_uri: jwks_uri.to_owned(),
            };
            let keys = metadata.keys_of(issuer);
            assert_eq!(keys.is_ok(), is_taken, "{issuer}: {jwks_uri}");
        }
    }
}
