//! The keys of one issuer, by their id.

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::secret::Secrets;

/// A key that verifies: it has one id and one algorithm, and is used for no other.
pub(crate) struct VerifyingKey {
    id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// The keys by which tokens of one issuer are verified.
pub struct KeySet(Vec<VerifyingKey>);

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
                algorithm: Algorithm::HS256,
                key: DecodingKey::from_secret(secret.expose()),
            });
        }
        Ok(Self(keys))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.id == id)
    }

    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.algorithm == algorithm)
    }
}
