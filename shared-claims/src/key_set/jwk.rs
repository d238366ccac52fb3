//! One published key (RFC 7517, section 4; RFC 7518, section 6), and the reasons to leave it out.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::VerifyingKey;

/// The shortest modulus of an RSA key, in bytes: 2048 bits (RFC 7518, section 3.3).
const MINIMUM_MODULUS_BYTES: usize = 256;

/// A coordinate of the curve P-256, and a key of Ed25519, in bytes.
const COORDINATE_BYTES: usize = 32;

/// A coordinate of the curve P-384, in bytes.
const LONG_COORDINATE_BYTES: usize = 48;

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

/// Reason for which a published key verifies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableReason {
    /// No object with a `kty` and a `kid`, or a member of another type than the RFC gives it.
    #[error("the key is not an object with the members kty and kid as text")]
    Malformed,
    /// An empty `kid`.
    #[error("the kid is empty")]
    EmptyId,
    /// Two keys of the set have the same `kid`.
    #[error("another key of the set has the same kid")]
    SharedId,
    /// A `use` other than `sig`, or `key_ops` without `verify`.
    #[error("use or key_ops says that the key does not verify signatures")]
    OtherUse,
    /// A secret, or a kind or curve that is not supported.
    #[error("the kind or the curve of the key is not supported: RSA, P-256, P-384 and Ed25519 are")]
    UnsupportedKind,
    /// A point, a modulus or an exponent that is missing, malformed or weak.
    #[error("the key is incomplete or weak; RSA keys need 2048 bits")]
    Weak,
    /// An `alg` that the kind of key does not have, or that is not supported.
    #[error("the alg of the key is not supported, or is not one of its kind")]
    OtherAlgorithm,
}

/// The members of a key that decide something.
#[derive(Deserialize)]
pub(super) struct Jwk {
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
    issuer: Option<String>,
}

impl Jwk {
    /// Checks the key and prepares it for verifying.
    ///
    /// # Errors
    ///
    /// The first [`UnusableReason`].
    pub(super) fn verifying_key(self) -> Result<VerifyingKey, UnusableReason> {
        let verifies = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|operations| operations.iter().any(|one| one == "verify"));
        if !verifies {
            return Err(UnusableReason::OtherUse);
        }
        if self.kid.is_empty() {
            return Err(UnusableReason::EmptyId);
        }
        let (of_kind, key): (&'static [Algorithm], Option<DecodingKey>) =
            match (self.kty.as_str(), self.crv.as_deref()) {
                ("EC", Some("P-256")) => (&[Algorithm::ES256], self.point(COORDINATE_BYTES)),
                ("EC", Some("P-384")) => (&[Algorithm::ES384], self.point(LONG_COORDINATE_BYTES)),
                ("OKP", Some("Ed25519")) => (&[Algorithm::EdDSA], self.ed25519()),
                ("RSA", None) => (RSA, self.rsa()),
                _ => return Err(UnusableReason::UnsupportedKind),
            };
        let key = key.ok_or(UnusableReason::Weak)?;
        Ok(VerifyingKey {
            algorithms: restrict(of_kind, self.alg.as_deref())?,
            id: self.kid,
            issuer: self.issuer,
            key,
        })
    }

    fn point(&self, coordinate_bytes: usize) -> Option<DecodingKey> {
        let (x, y) = (self.x.as_deref()?, self.y.as_deref()?);
        let fits = length_of(x)? == coordinate_bytes && length_of(y)? == coordinate_bytes;
        let key = DecodingKey::from_ec_components(x, y).ok();
        key.filter(|_| fits)
    }

    fn ed25519(&self) -> Option<DecodingKey> {
        let x = self.x.as_deref()?;
        let fits = length_of(x)? == COORDINATE_BYTES && !is_of_small_order(x)?;
        let key = DecodingKey::from_ed_components(x).ok();
        key.filter(|_| fits)
    }

    fn rsa(&self) -> Option<DecodingKey> {
        let (n, e) = (self.n.as_deref()?, self.e.as_deref()?);
        let fits = is_strong_modulus(n)? && is_good_exponent(e)?;
        let key = DecodingKey::from_rsa_components(n, e).ok();
        key.filter(|_| fits)
    }
}

/// The algorithms of an RSA key without `alg`, as Microsoft publishes them: the issuer's settings
/// decide which of them are accepted.
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
];

/// Keeps the one algorithm that `alg` names; all of them when the key has no `alg`.
fn restrict(
    of_kind: &'static [Algorithm],
    alg: Option<&str>,
) -> Result<&'static [Algorithm], UnusableReason> {
    let Some(alg) = alg else {
        return Ok(of_kind);
    };
    let alg: Option<Algorithm> = alg.parse().ok();
    let one = of_kind.iter().find(|one| Some(**one) == alg);
    one.map(std::slice::from_ref)
        .ok_or(UnusableReason::OtherAlgorithm)
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
