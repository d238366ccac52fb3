//! The one function that accepts a token.
//!
//! `jsonwebtoken` alone is too lenient for this: it takes an unknown `crit`, any `typ`, an `iss`
//! that is an array, an `exp` in ten thousand years. It is used for the signature; everything else
//! is decided here, in one order.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value};

use crate::{
    authorization::{AuthorizationDetail, MAXIMUM_DETAILS, REALTIME_TYPE},
    claims::{ACCESS_TOKEN_TYPE, Audience, Claims, MAXIMUM_LIFETIME_SECS, Profile},
    ids::is_identifier,
    key_set::KeySet,
    rejection::Rejection,
};

/// The longest token that is looked at, in bytes.
pub const MAXIMUM_TOKEN_BYTES: usize = 8 * 1024;

/// How far the issuer's clock may be ahead of ours, in seconds, for `nbf` and `iat`. There is none
/// for `exp`: a session ends the second its token stops being accepted, or clients would loop.
pub const CLOCK_LEEWAY_SECS: u64 = 30;

/// Claims that [`Verifier::verify`] has accepted; there is no other way to have them.
#[derive(Clone, Debug)]
pub struct VerifiedClaims(Claims);

impl std::ops::Deref for VerifiedClaims {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl VerifiedClaims {
    /// When the token ends.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.exp)
    }
}

/// Accepts tokens of one issuer that are meant for one audience.
pub struct Verifier {
    issuer: String,
    audience: String,
    keys: Arc<KeySet>,
}

impl Verifier {
    /// A verifier of access tokens that `issuer` signed with one of `keys` for `audience`.
    #[must_use]
    pub fn new(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        keys: impl Into<Arc<KeySet>>,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            keys: keys.into(),
        }
    }

    /// Accepts `token` at the time `now`, or says why not.
    ///
    /// The order is fixed, so that what is cheap and public comes before what is costly or secret:
    /// size, segments and their JSON; an empty signature; the header, whose algorithm must be one of
    /// the issuer's and whose `typ` that of an access token; `iss`; `kid`; the key's own algorithm;
    /// the signature; and then the claims.
    ///
    /// # Errors
    ///
    /// The first [`Rejection`] in that order.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<VerifiedClaims, Rejection> {
        let unverified = UnverifiedToken::parse(token)?;
        unverified.header.check(&self.keys)?;
        if unverified.claims.iss.as_ref().and_then(Value::as_str) != Some(&self.issuer) {
            return Err(Rejection::IssuerInvalid);
        }
        let kid = unverified.header.kid.as_ref().and_then(Value::as_str);
        let key = kid
            .and_then(|kid| self.keys.get(kid))
            .ok_or(Rejection::KeyUnknown)?;
        if Some(key.algorithm) != unverified.header.algorithm() {
            return Err(Rejection::AlgorithmInvalid);
        }
        let matches = jsonwebtoken::crypto::verify(
            unverified.signature,
            unverified.signed.as_bytes(),
            &key.key,
            key.algorithm,
        );
        if !matches.unwrap_or(false) {
            return Err(Rejection::SignatureInvalid);
        }
        let now_secs = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        unverified
            .claims
            .check(now_secs, &self.audience)
            .map(VerifiedClaims)
    }
}

/// A token that is well-formed and nothing more.
struct UnverifiedToken<'a> {
    signed: &'a str,
    signature: &'a str,
    header: UnverifiedHeader,
    claims: UnverifiedClaims,
}

impl<'a> UnverifiedToken<'a> {
    fn parse(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > MAXIMUM_TOKEN_BYTES {
            return Err(Rejection::TokenTooLarge);
        }
        let mut segments = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) = (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        ) else {
            return Err(Rejection::TokenMalformed);
        };
        let header = decode(header)?;
        let claims = decode(claims)?;
        if signature.is_empty() {
            return Err(Rejection::SignatureMissing);
        }
        URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| Rejection::TokenMalformed)?;
        let signed = &token[..token.len() - signature.len() - 1];
        Ok(Self {
            signed,
            signature,
            header,
            claims,
        })
    }
}

/// Decodes a segment strictly: base64url without padding and with zero trailing bits, and one JSON
/// object of which no known member stands twice.
fn decode<T: DeserializeOwned>(segment: &str) -> Result<T, Rejection> {
    let json = URL_SAFE_NO_PAD
        .decode(segment)
        .map_err(|_| Rejection::TokenMalformed)?;
    // Not straight into `T`: that would also be taken from an array, and serde skips a member that
    // nobody reads without looking at its text, be it no UTF-8 or half a surrogate pair.
    serde_json::from_slice::<Map<String, Value>>(&json).map_err(|_| Rejection::TokenMalformed)?;
    serde_json::from_slice(&json).map_err(|_| Rejection::TokenMalformed)
}

/// The header's members that decide something. `jku`, `x5u`, `jwk` and `x5c` are not among them:
/// a token does not say where its key comes from.
#[derive(Deserialize)]
struct UnverifiedHeader {
    alg: Option<Value>,
    typ: Option<Value>,
    kid: Option<Value>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
    #[serde(default, deserialize_with = "is_present")]
    zip: bool,
    #[serde(default, deserialize_with = "is_present")]
    b64: bool,
}

impl UnverifiedHeader {
    fn check(&self, keys: &KeySet) -> Result<(), Rejection> {
        if self.crit || self.zip || self.b64 {
            return Err(Rejection::HeaderUnsupported);
        }
        if !self
            .algorithm()
            .is_some_and(|algorithm| keys.allows(algorithm))
        {
            return Err(Rejection::AlgorithmInvalid);
        }
        let typ = self
            .typ
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default();
        // A media type, so its case does not count, nor does the prefix (RFC 7515, section 4.1.9).
        let typ = typ.to_ascii_lowercase();
        if typ.strip_prefix("application/").unwrap_or(&typ) != ACCESS_TOKEN_TYPE {
            return Err(Rejection::TypeInvalid);
        }
        Ok(())
    }

    fn algorithm(&self) -> Option<Algorithm> {
        self.alg.as_ref()?.as_str()?.parse().ok()
    }
}

/// The claims of a token whose signature may be anything, and whose types may be too.
#[derive(Deserialize)]
struct UnverifiedClaims {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    exp: Option<Value>,
    iat: Option<Value>,
    #[serde(default, deserialize_with = "some")]
    nbf: Option<Value>,
    jti: Option<Value>,
    sid: Option<Value>,
    client_id: Option<Value>,
    scope: Option<Value>,
    authorization_details: Option<Value>,
    // An ID token has a nonce, a logout token has events; an access token has neither.
    #[serde(default, deserialize_with = "is_present")]
    nonce: bool,
    #[serde(default, deserialize_with = "is_present")]
    events: bool,
    preferred_username: Option<Value>,
    name: Option<Value>,
    given_name: Option<Value>,
    family_name: Option<Value>,
    email: Option<Value>,
}

impl UnverifiedClaims {
    fn check(self, now_secs: u64, audience: &str) -> Result<Claims, Rejection> {
        let latest = now_secs.saturating_add(CLOCK_LEEWAY_SECS);
        let exp = seconds(self.exp)?;
        if now_secs >= exp {
            return Err(Rejection::TokenExpired);
        }
        if exp > latest.saturating_add(MAXIMUM_LIFETIME_SECS) {
            return Err(Rejection::LifetimeTooLong);
        }
        let nbf = self.nbf.map(|nbf| seconds(Some(nbf))).transpose()?;
        if nbf.is_some_and(|nbf| nbf > latest) {
            return Err(Rejection::TokenNotActive);
        }
        let iat = seconds(self.iat)?;
        if iat > latest {
            return Err(Rejection::IssuedInFuture);
        }
        match exp.checked_sub(iat) {
            None => return Err(Rejection::ClaimsInvalid),
            Some(lifetime) if lifetime > MAXIMUM_LIFETIME_SECS => {
                return Err(Rejection::LifetimeTooLong);
            }
            Some(_) => {}
        }
        let aud = self
            .aud
            .and_then(|aud| serde_json::from_value::<Audience>(aud).ok());
        let aud = aud
            .filter(|aud| aud.contains(audience))
            .ok_or(Rejection::AudienceInvalid)?;
        if self.nonce || self.events {
            return Err(Rejection::ClaimsInvalid);
        }
        Ok(Claims {
            iss: identifier(self.iss)?,
            sub: identifier(self.sub)?,
            aud,
            exp,
            iat,
            nbf,
            jti: identifier(self.jti)?,
            sid: identifier(self.sid)?,
            client_id: identifier(self.client_id)?,
            scope: text(self.scope)?,
            authorization_details: details(self.authorization_details)?,
            profile: Profile {
                preferred_username: text(self.preferred_username)?,
                name: text(self.name)?,
                given_name: text(self.given_name)?,
                family_name: text(self.family_name)?,
                email: text(self.email)?,
            },
        })
    }
}

/// A time in whole seconds since the epoch, as our issuer writes it.
fn seconds(value: Option<Value>) -> Result<u64, Rejection> {
    value
        .as_ref()
        .and_then(Value::as_u64)
        .ok_or(Rejection::ClaimsInvalid)
}

fn identifier(value: Option<Value>) -> Result<String, Rejection> {
    text(value)?
        .filter(|text| is_identifier(text))
        .ok_or(Rejection::ClaimsInvalid)
}

/// The rights that are ours. Those of another type are somebody else's, and may be anything.
fn details(value: Option<Value>) -> Result<Vec<AuthorizationDetail>, Rejection> {
    let all = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(all)) if all.len() <= MAXIMUM_DETAILS => all,
        Some(_) => return Err(Rejection::ClaimsInvalid),
    };
    all.into_iter()
        .filter(|detail| detail.get("type").and_then(Value::as_str) == Some(REALTIME_TYPE))
        .map(|detail| serde_json::from_value(detail).map_err(|_| Rejection::ClaimsInvalid))
        .collect()
}

fn text(value: Option<Value>) -> Result<Option<String>, Rejection> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Rejection::ClaimsInvalid),
    }
}

/// Whether a member stands there at all, be it as `null`.
fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A member's value, `null` included, which `Option` alone takes for an absent member.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
