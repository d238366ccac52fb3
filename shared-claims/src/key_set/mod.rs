//! The keys of one issuer, by their id.

mod jwk;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use self::jwk::Jwk;
pub use self::jwk::UnusableReason;
use crate::{json, secret::Secrets};

/// The most keys of a set that are looked at.
pub const MAXIMUM_KEYS: usize = 100;

/// The longest set that is read, in bytes.
pub const MAXIMUM_JWKS_BYTES: usize = 256 * 1024;

/// A key that verifies tokens. A token under its id must use one of its algorithms.
pub(crate) struct VerifyingKey {
    id: String,
    algorithms: &'static [Algorithm],
    /// The member `issuer`, which Microsoft writes into keys that several tenants share.
    pub(crate) issuer: Option<String>,
    pub(crate) key: DecodingKey,
}

impl VerifyingKey {
    /// Whether the key verifies signatures of `algorithm`.
    pub(crate) fn serves(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

/// A published key that verifies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableKey {
    /// The member `kid`, when it is text.
    pub id: Option<String>,
    /// Reason to leave the key out.
    pub reason: UnusableReason,
}

/// The keys by which tokens of one issuer are verified.
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    unusable: Vec<UnusableKey>,
}

/// A document that is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than [`MAXIMUM_JWKS_BYTES`].
    #[error("the set of keys is longer than {MAXIMUM_JWKS_BYTES} bytes")]
    TooLarge,
    /// More than [`MAXIMUM_KEYS`].
    #[error("the set has more than {MAXIMUM_KEYS} keys")]
    TooMany,
    /// Not a JSON object with an array of keys.
    #[error("not a set of keys (RFC 7517)")]
    Malformed,
}

impl KeySet {
    /// The keys of an issuer that shares its secrets with us: each is for HS256 alone.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider cannot name a secret.
    pub fn from_secrets(secrets: &Secrets) -> Result<Self, jsonwebtoken::errors::Error> {
        let mut keys = Vec::new();
        for secret in secrets.iter() {
            keys.push(VerifyingKey {
                id: secret.key_id()?,
                algorithms: &[Algorithm::HS256],
                issuer: None,
                key: DecodingKey::from_secret(secret.expose()),
            });
        }
        Ok(Self {
            keys,
            unusable: Vec::new(),
        })
    }

    /// Reads the public keys of an issuer that publishes them (RFC 7517): of the curves P-256, P-384
    /// and Ed25519, and RSA of 2048 bits or more.
    ///
    /// A key that is not for verifying, is too weak, has no id, or has the id of another is left out,
    /// and so is every secret key, because a public document holds no secret. [`Self::unusable`]
    /// lists these keys; the others verify.
    ///
    /// # Errors
    ///
    /// When the document is no set of keys, or too long.
    pub fn from_jwks(document: &[u8]) -> Result<Self, JwksError> {
        if document.len() > MAXIMUM_JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        // serde skips a member that nobody reads without looking at its text, be it no UTF-8.
        let _: Value = serde_json::from_slice(document).map_err(|_| JwksError::Malformed)?;
        let set: Jwks = json::from_object(document).ok_or(JwksError::Malformed)?;
        if set.keys.len() > MAXIMUM_KEYS {
            return Err(JwksError::TooMany);
        }
        let ids: Vec<Option<String>> = set.keys.iter().map(id_of).collect();
        let is_unique = |id: &str| ids.iter().flatten().filter(|other| *other == id).count() == 1;
        let (mut keys, mut unusable) = (Vec::new(), Vec::new());
        for (key, id) in set.keys.into_iter().zip(&ids) {
            let read = serde_json::from_value::<Jwk>(key);
            let read = read.map_err(|_| UnusableReason::Malformed);
            match read.and_then(Jwk::verifying_key) {
                Ok(key) if is_unique(&key.id) => keys.push(key),
                refused => unusable.push(UnusableKey {
                    id: id.clone(),
                    reason: refused.err().unwrap_or(UnusableReason::SharedId),
                }),
            }
        }
        Ok(Self { keys, unusable })
    }

    /// Whether no key verifies anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the id and the algorithms of every key that verifies, in the order of the document.
    pub fn usable(&self) -> impl Iterator<Item = (&str, &'static [Algorithm])> {
        self.keys
            .iter()
            .map(|key| (key.id.as_str(), key.algorithms))
    }

    /// Returns the published keys that were left out, in the order of the document.
    #[must_use]
    pub fn unusable(&self) -> &[UnusableKey] {
        &self.unusable
    }

    pub(crate) fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.serves(algorithm))
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

fn id_of(key: &Value) -> Option<String> {
    key.get("kid")?.as_str().map(str::to_owned)
}
