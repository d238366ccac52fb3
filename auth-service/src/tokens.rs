//! The only place that signs.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use shared_claims::{
    Claims,
    claims::{ACCESS_TOKEN_TYPE, Audience, LOGIN_CLIENT_ID, Profile, REALTIME_AUDIENCE},
    ids,
    secret::Secrets,
};
use zeroize::Zeroizing;

use crate::config::Settings;

/// The random identifiers of one token.
pub struct TokenIds {
    /// The session that the token belongs to.
    pub session_id: String,
    /// The token's own id.
    pub token_id: String,
}

impl TokenIds {
    /// New ones, from the operating system.
    ///
    /// # Errors
    ///
    /// When the operating system has no randomness to give.
    pub fn random() -> anyhow::Result<Self> {
        Ok(Self {
            session_id: random_id()?,
            token_id: random_id()?,
        })
    }
}

/// A new identifier of 22 characters, for a subject, a session or a token.
///
/// # Errors
///
/// When the operating system has no randomness to give.
pub fn random_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no randomness from the operating system")?;
    Ok(ids::from_random(bytes))
}

/// Signs access tokens (RFC 9068) with the first of the shared secrets.
pub struct Signer {
    issuer: String,
    lifetime_secs: u64,
    with_profile: bool,
    header: Header,
    key: EncodingKey,
}

impl Signer {
    /// A signer after the settings.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider cannot name the secret.
    pub fn new(settings: &Settings, secrets: &Secrets) -> anyhow::Result<Self> {
        let header = Header {
            typ: Some(ACCESS_TOKEN_TYPE.to_owned()),
            kid: Some(secrets.signing().key_id().context("cannot name the key")?),
            ..Header::new(Algorithm::HS256)
        };
        Ok(Self {
            issuer: settings.public_url.clone(),
            lifetime_secs: settings.token.lifetime_secs,
            with_profile: settings.token.profile,
            header,
            key: EncodingKey::from_secret(secrets.signing().expose()),
        })
    }

    /// How long a token is accepted, in seconds.
    #[must_use]
    pub fn lifetime_secs(&self) -> u64 {
        self.lifetime_secs
    }

    /// An access token for the gateway that ends a lifetime after `now`. The profile goes in when
    /// there is one and the settings let it.
    ///
    /// # Errors
    ///
    /// When the clock stands before 1970, or the cryptographic provider fails.
    pub fn sign(
        &self,
        subject: &str,
        profile: Option<Profile>,
        ids: TokenIds,
        now: SystemTime,
    ) -> anyhow::Result<Zeroizing<String>> {
        let issued_at = now
            .duration_since(UNIX_EPOCH)
            .context("the clock stands before 1970")?
            .as_secs();
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: subject.to_owned(),
            aud: Audience::One(REALTIME_AUDIENCE.to_owned()),
            exp: issued_at + self.lifetime_secs,
            iat: issued_at,
            nbf: None,
            jti: ids.token_id,
            sid: ids.session_id,
            client_id: LOGIN_CLIENT_ID.to_owned(),
            scope: None,
            profile: profile.filter(|_| self.with_profile).unwrap_or_default(),
        };
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key)
            .context("cannot sign a token")?;
        Ok(Zeroizing::new(token))
    }
}
