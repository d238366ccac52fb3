//! A token that is well-formed and nothing more.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value};

use super::MAXIMUM_TOKEN_BYTES;
use crate::{claims::ACCESS_TOKEN_TYPE, json::unambiguous_object, rejection::Rejection};

/// A token whose signature may be anything. All that it is good for is to find its verifier.
pub struct UnverifiedToken<'a> {
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: UnverifiedHeader,
    pub(super) claims: UnverifiedClaims,
    pub(super) all: Map<String, Value>,
}

impl<'a> UnverifiedToken<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// When it is too long, not three segments of strict base64url with JSON objects in the first
    /// two, or has no signature.
    pub fn parse(token: &'a str) -> Result<Self, Rejection> {
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
        let (header, _) = decode(header)?;
        let (claims, all) = decode(claims)?;
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
            all,
        })
    }

    /// The issuer that the token claims to be of.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.iss.as_ref()?.as_str()
    }

    /// Moves the claims out. A token without claims is accepted by no verifier.
    pub(super) fn take_claims(&mut self) -> (UnverifiedClaims, Map<String, Value>) {
        (
            std::mem::take(&mut self.claims),
            std::mem::take(&mut self.all),
        )
    }
}

/// Decodes a segment strictly: base64url without padding and with zero trailing bits, and one JSON
/// object in which no member stands twice, at any depth.
fn decode<T: DeserializeOwned>(segment: &str) -> Result<(T, Map<String, Value>), Rejection> {
    let json = URL_SAFE_NO_PAD
        .decode(segment)
        .map_err(|_| Rejection::TokenMalformed)?;
    // Not straight into `T`: that would also be taken from an array, and serde skips a member that
    // nobody reads without looking at its text, be it no UTF-8 or half a surrogate pair.
    let all = unambiguous_object(&json).ok_or(Rejection::TokenMalformed)?;
    let known = serde_json::from_slice(&json).map_err(|_| Rejection::TokenMalformed)?;
    Ok((known, all))
}

/// The header's members that decide something. `jku`, `x5u`, `jwk` and `x5c` are not among them:
/// a token does not say where its key comes from.
#[derive(Deserialize)]
pub(super) struct UnverifiedHeader {
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
    pub(super) fn check_extensions(&self) -> Result<(), Rejection> {
        if self.crit || self.zip || self.b64 {
            return Err(Rejection::HeaderUnsupported);
        }
        Ok(())
    }

    /// Checks `typ`, a media type, so its case does not count, nor does the prefix (RFC 7515,
    /// section 4.1.9).
    pub(super) fn check_type(&self, types: &[impl AsRef<str>]) -> Result<(), Rejection> {
        let typ = match &self.typ {
            None => "",
            Some(typ) => typ.as_str().ok_or(Rejection::TypeInvalid)?,
        };
        let typ = typ.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        types
            .iter()
            .any(|one| one.as_ref() == typ)
            .then_some(())
            .ok_or(Rejection::TypeInvalid)
    }

    /// Whether the header alone says that it is an access token (RFC 9068, section 2.1).
    pub(super) fn is_of_access_token(&self) -> bool {
        self.check_type(&[ACCESS_TOKEN_TYPE]).is_ok()
    }

    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        self.alg.as_ref()?.as_str()?.parse().ok()
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.kid.as_ref()?.as_str()
    }
}

/// The claims of a token whose types may be anything too.
#[derive(Default, Deserialize)]
pub(super) struct UnverifiedClaims {
    pub(super) iss: Option<Value>,
    pub(super) sub: Option<Value>,
    pub(super) aud: Option<Value>,
    pub(super) exp: Option<Value>,
    pub(super) iat: Option<Value>,
    pub(super) nbf: Option<Value>,
    pub(super) jti: Option<Value>,
    pub(super) sid: Option<Value>,
    pub(super) client_id: Option<Value>,
    pub(super) azp: Option<Value>,
    pub(super) scope: Option<Value>,
    pub(super) authorization_details: Option<Value>,
    // An ID token has a nonce, a logout token has events; an access token has neither.
    #[serde(default, deserialize_with = "is_present")]
    pub(super) nonce: bool,
    #[serde(default, deserialize_with = "some")]
    pub(super) events: Option<Value>,
    pub(super) tokens_exp: Option<Value>,
    // The hashes of what was handed out beside an ID token (OpenID Connect Core 1.0, section 3.3.2.11,
    // and FAPI 1.0).
    #[serde(default, deserialize_with = "is_present")]
    pub(super) at_hash: bool,
    #[serde(default, deserialize_with = "is_present")]
    pub(super) c_hash: bool,
    #[serde(default, deserialize_with = "is_present")]
    pub(super) s_hash: bool,
    pub(super) typ: Option<Value>,
    pub(super) preferred_username: Option<Value>,
    pub(super) name: Option<Value>,
    pub(super) given_name: Option<Value>,
    pub(super) family_name: Option<Value>,
    pub(super) email: Option<Value>,
    pub(super) email_verified: Option<Value>,
}

/// Returns the value of an optional claim. Some providers write `null`, an empty text or an empty list for
/// a claim that a token does not have.
pub(super) fn present(value: Option<Value>) -> Option<Value> {
    value.filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    })
}

/// Whether a member stands there at all, be it as `null`.
fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A member's value, `null` included, which `Option` alone takes for an absent member.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
