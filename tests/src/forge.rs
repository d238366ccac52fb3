//! Tokens that the issuer would not sign, with the key that it would sign them with.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};
use shared_claims::{
    claims::{ACCESS_TOKEN_TYPE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    revocation::{LOGOUT_EVENT, LOGOUT_LIFETIME_SECS, LOGOUT_TOKEN_TYPE},
    secret::{SECRET_VARIABLE, Secrets},
};

use crate::random_text;

/// A token in the making: as it starts it would be accepted, and each change attacks one property.
#[derive(Clone)]
pub struct Forge {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    algorithm: Algorithm,
    key: EncodingKey,
}

/// The time, in seconds since the epoch.
#[must_use]
pub fn now_secs() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    since.as_secs()
}

impl Forge {
    /// A token of `issuer` for a person of its own, that lasts for a quarter of an hour.
    #[must_use]
    pub fn new(issuer: &str, secret: &str) -> Self {
        let secrets = Secrets::parse(SECRET_VARIABLE, secret, ',').expect("a good secret");
        let key_id = secrets.signing().key_id().expect("a key id");
        let now = now_secs();
        Self {
            header: object(json!({"typ": ACCESS_TOKEN_TYPE, "alg": "HS256", "kid": key_id})),
            claims: object(json!({
                "iss": issuer, "sub": random_text(16), "aud": REALTIME_AUDIENCE, "exp": now + 900,
                "iat": now, "jti": random_text(16), "sid": random_text(16),
                "client_id": LOGIN_CLIENT_ID, "preferred_username": "forged",
            })),
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(secret.as_bytes()),
        }
    }

    /// A token that another `issuer` gives to the client `app` for `audience`, signed by a key of the
    /// curve P-256: as many do, it names no session.
    #[must_use]
    pub fn of_another(issuer: &str, audience: &str, (key_id, key): (&str, EncodingKey)) -> Self {
        let now = now_secs();
        Self {
            header: object(json!({"typ": ACCESS_TOKEN_TYPE, "alg": "ES256", "kid": key_id})),
            claims: object(json!({
                "iss": issuer, "sub": random_text(16), "aud": audience, "exp": now + 900,
                "iat": now, "azp": "app",
            })),
            algorithm: Algorithm::ES256,
            key,
        }
    }

    /// The logout token of what `claims` name, such as `sid`, `sub` or both.
    #[must_use]
    pub fn logout(self, claims: &[&str]) -> Self {
        let named: Vec<_> = claims
            .iter()
            .map(|name| (*name, self.claims[*name].clone()))
            .collect();
        let now = now_secs();
        let bare = ["sid", "sub", "client_id", "preferred_username"]
            .into_iter()
            .fold(self, Self::without_claim)
            .header("typ", LOGOUT_TOKEN_TYPE)
            .claim("jti", random_text(16))
            .claim("events", json!({ (LOGOUT_EVENT): {} }))
            .claim("iat", now)
            .claim("exp", now + LOGOUT_LIFETIME_SECS);
        let add = |forge: Self, (name, value)| forge.claim(name, value);
        named.into_iter().fold(bare, add)
    }

    /// Sets a member of the header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a claim out.
    #[must_use]
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Lets the token end in `secs` seconds.
    #[must_use]
    pub fn expires_in(self, secs: u64) -> Self {
        self.claim("exp", now_secs() + secs)
    }

    /// Signs with another algorithm and secret; what the header says stays as it is.
    #[must_use]
    pub fn signed_by(mut self, algorithm: Algorithm, secret: &[u8]) -> Self {
        self.algorithm = algorithm;
        self.key = EncodingKey::from_secret(secret);
        self
    }

    /// A claim as it stands.
    ///
    /// # Panics
    ///
    /// When there is no such claim, or it is no text.
    #[must_use]
    pub fn text_of(&self, name: &str) -> &str {
        self.claims[name].as_str().expect("a claim that is text")
    }

    /// When the token ends, in seconds since the epoch.
    ///
    /// # Panics
    ///
    /// When it does not say.
    #[must_use]
    pub fn exp(&self) -> u64 {
        self.claims["exp"].as_u64().expect("an exp")
    }

    /// The signed token.
    #[must_use]
    pub fn token(&self) -> String {
        let encode = |members: &Map<String, Value>| {
            URL_SAFE_NO_PAD.encode(Value::Object(members.clone()).to_string())
        };
        let signed = format!("{}.{}", encode(&self.header), encode(&self.claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm)
            .expect("a signature");
        format!("{signed}.{signature}")
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}
