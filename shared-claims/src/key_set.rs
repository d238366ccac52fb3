//! The keys of one issuer, by their id.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::{json, secret::Secrets};

/// The most keys of a set that are looked at.
pub const MAXIMUM_KEYS: usize = 100;

/// The longest set that is read, in bytes.
pub const MAXIMUM_JWKS_BYTES: usize = 256 * 1024;

/// The shortest modulus of an RSA key, in bytes: 2048 bits (RFC 7518, section 3.3).
const MINIMUM_MODULUS_BYTES: usize = 256;

/// A coordinate of the curve P-256, and a key of Ed25519, in bytes.
const COORDINATE_BYTES: usize = 32;

/// The points of Ed25519 whose order is 8 or less, as text holds them, without the bit of the sign;
/// the last two are the first two, written as numbers beyond the field. With such a point for a key,
/// anybody can make signatures that match, and RFC 8032 does not ask a verifier to look.
const SMALL_ORDER: [[u8; COORDINATE_BYTES]; 7] = [
    [0; COORDINATE_BYTES],
    with_ends(1, 0, 0),
    [
        0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98,
        0xF0, 0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53,
        0xFC, 0x05,
    ],
    [
        0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67,
        0x0F, 0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC,
        0x03, 0x7A,
    ],
    with_ends(0xEC, 0xFF, 0x7F),
    with_ends(0xED, 0xFF, 0x7F),
    with_ends(0xEE, 0xFF, 0x7F),
];

const fn with_ends(first: u8, between: u8, last: u8) -> [u8; COORDINATE_BYTES] {
    let mut bytes = [between; COORDINATE_BYTES];
    bytes[0] = first;
    bytes[COORDINATE_BYTES - 1] = last;
    bytes
}

/// A key that verifies: it has one id and one algorithm, and is used for no other.
pub(crate) struct VerifyingKey {
    id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// The keys by which tokens of one issuer are verified.
pub struct KeySet(Vec<VerifyingKey>);

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
                algorithm: Algorithm::HS256,
                key: DecodingKey::from_secret(secret.expose()),
            });
        }
        Ok(Self(keys))
    }

    /// The public keys of an issuer that publishes them (RFC 7517): ES256, RS256 of 2048 bits or
    /// more, and Ed25519.
    ///
    /// A key that is not for verifying, is too weak, has no id, or has the id of another is left out,
    /// and so is every secret key: whatever stands in a public document is none. The rest can be
    /// used.
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
        let is_unique = |id: &str| {
            let same = ids.iter().flatten().filter(|other| *other == id);
            same.count() == 1
        };
        let keys = set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.parse())
            .filter(|key| is_unique(&key.id));
        Ok(Self(keys.collect()))
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.id == id)
    }

    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.algorithm == algorithm)
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// The members of a key that decide something (RFC 7517, section 4; RFC 7518, section 6).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

fn id_of(key: &Value) -> Option<String> {
    key.get("kid")?.as_str().map(str::to_owned)
}

impl Jwk {
    fn parse(self) -> Option<VerifyingKey> {
        let verifies = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|operations| operations.iter().any(|one| one == "verify"));
        if !verifies || self.kid.is_empty() {
            return None;
        }
        let (algorithm, name, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                let (x, y) = (self.x.as_deref()?, self.y.as_deref()?);
                let fits = length_of(x)? == COORDINATE_BYTES && length_of(y)? == COORDINATE_BYTES;
                let key = DecodingKey::from_ec_components(x, y).ok();
                (Algorithm::ES256, "ES256", key.filter(|_| fits)?)
            }
            ("OKP", Some("Ed25519")) => {
                let x = self.x.as_deref()?;
                let fits = length_of(x)? == COORDINATE_BYTES && !is_of_small_order(x)?;
                let key = DecodingKey::from_ed_components(x).ok();
                (Algorithm::EdDSA, "EdDSA", key.filter(|_| fits)?)
            }
            ("RSA", None) => {
                let (n, e) = (self.n.as_deref()?, self.e.as_deref()?);
                let fits = is_strong_modulus(n)? && is_good_exponent(e)?;
                let key = DecodingKey::from_rsa_components(n, e).ok();
                (Algorithm::RS256, "RS256", key.filter(|_| fits)?)
            }
            _ => return None,
        };
        let is_meant_for_it = self.alg.as_deref().is_none_or(|alg| alg == name);
        is_meant_for_it.then_some(VerifyingKey {
            id: self.kid,
            algorithm,
            key,
        })
    }
}

fn length_of(text: &str) -> Option<usize> {
    URL_SAFE_NO_PAD.decode(text).ok().map(|bytes| bytes.len())
}

fn is_of_small_order(text: &str) -> Option<bool> {
    let mut point = URL_SAFE_NO_PAD.decode(text).ok()?;
    *point.last_mut()? &= 0x7F;
    Some(SMALL_ORDER.iter().any(|one| point == one))
}

fn is_strong_modulus(text: &str) -> Option<bool> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let significant = bytes.iter().skip_while(|byte| **byte == 0);
    let mut significant = significant.peekable();
    // The first bit of a modulus of 2048 bits is one.
    let is_long = significant.peek().is_some_and(|first| **first >= 0x80);
    let length = significant.count();
    Some(length > MINIMUM_MODULUS_BYTES || (length == MINIMUM_MODULUS_BYTES && is_long))
}

/// An exponent of 1 would make every text its own signature, and an even one is none.
fn is_good_exponent(text: &str) -> Option<bool> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let is_odd = bytes.last().is_some_and(|last| last % 2 == 1);
    let is_one = bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>() == 1;
    Some(is_odd && !is_one && bytes.len() <= 8)
}
