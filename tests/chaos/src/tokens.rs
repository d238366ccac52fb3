//! Tokens as the issuer signs them, for the run's own secret.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use shared_claims::{
    claims::{ACCESS_TOKEN_TYPE, API_AUDIENCE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    revocation::{LOGOUT_EVENT, LOGOUT_LIFETIME_SECS, LOGOUT_TOKEN_TYPE},
    secret::{SECRET_VARIABLE, Secrets},
};

/// Lifetime of a token, in seconds: longer than any run.
const LIFETIME_SECS: u64 = 4 * 60 * 60;
/// Random bytes of the secret.
const SECRET_BYTES: usize = 36;

/// The issuer of a run.
pub(crate) struct Issuer {
    /// The `iss` of its tokens.
    pub(crate) url: String,
    /// The secret that it shares with the gateways.
    pub(crate) secret: String,
    key: EncodingKey,
    key_id: String,
}

impl Issuer {
    /// Makes an issuer with a random secret.
    ///
    /// # Errors
    ///
    /// Returns an error if the system gives no random bytes.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let secret = random_text(SECRET_BYTES)?;
        let secrets = Secrets::parse(SECRET_VARIABLE, &secret, ',').context("the secret")?;
        Ok(Self {
            url: "http://127.0.0.1:9".to_owned(),
            key: EncodingKey::from_secret(secret.as_bytes()),
            key_id: secrets.signing().key_id().context("the key id")?,
            secret,
        })
    }

    /// Signs a user's token for the session `sid`, with every right in the rooms `chaos:*`.
    ///
    /// # Errors
    ///
    /// Returns an error if the token cannot be signed.
    pub(crate) fn user(&self, sub: &str, sid: &str) -> anyhow::Result<String> {
        let now = now_secs();
        let grant = json!({
            "type": "realtime", "actions": ["sub", "pub", "hst", "prs"], "rooms": ["chaos:*"],
        });
        self.sign(ACCESS_TOKEN_TYPE, &json!({
            "iss": self.url, "sub": sub, "aud": REALTIME_AUDIENCE, "exp": now + LIFETIME_SECS, "iat": now,
            "jti": random_text(12)?, "sid": sid, "client_id": LOGIN_CLIENT_ID,
            "authorization_details": [grant],
        }))
    }

    /// Signs a back end's token, which may publish and disconnect users.
    ///
    /// # Errors
    ///
    /// Returns an error if the token cannot be signed.
    pub(crate) fn back_end(&self) -> anyhow::Result<String> {
        let now = now_secs();
        self.sign(ACCESS_TOKEN_TYPE, &json!({
            "iss": self.url, "sub": "client:chaos", "aud": API_AUDIENCE, "exp": now + LIFETIME_SECS,
            "iat": now, "jti": random_text(12)?, "sid": random_text(12)?, "client_id": "chaos",
            "scope": "rt.publish rt.kick",
        }))
    }

    /// Signs the logout token of a session (OpenID Connect Back-Channel Logout 1.0, section 2.4).
    ///
    /// # Errors
    ///
    /// Returns an error if the token cannot be signed.
    pub(crate) fn logout(&self, sid: &str) -> anyhow::Result<String> {
        let now = now_secs();
        self.sign(LOGOUT_TOKEN_TYPE, &json!({
            "iss": self.url, "aud": REALTIME_AUDIENCE, "iat": now, "exp": now + LOGOUT_LIFETIME_SECS,
            "jti": random_text(12)?, "sid": sid, "events": { (LOGOUT_EVENT): {} },
        }))
    }

    fn sign(&self, kind: &str, claims: &Value) -> anyhow::Result<String> {
        let header = json!({ "typ": kind, "alg": "HS256", "kid": self.key_id });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, Algorithm::HS256)?;
        Ok(format!("{signed}.{signature}"))
    }
}

/// Returns random bytes as text.
///
/// # Errors
///
/// Returns an error if the system gives none.
pub(crate) fn random_text(bytes: usize) -> anyhow::Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).context("no random bytes")?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

fn now_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
