//! The one way in which a token is accepted.
//!
//! `jsonwebtoken` alone is too lenient for this: it takes an unknown `crit`, any `typ`, an `iss`
//! that is an array, an `exp` in ten thousand years. It is used for the signature; everything else
//! is decided here, in one order.

mod access;
mod issuer_name;
mod logout;
mod rules;
mod step;
mod unverified;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

pub use self::{
    issuer_name::{ANY_TENANT, IssuerName, TENANT_PLACEHOLDER},
    logout::{LogoutScope, VerifiedLogout},
    rules::{ANY_VALUE, AUDIENCE_CLAIM, ClaimNames, RequiredClaim, TokenRules},
    step::Step,
    unverified::UnverifiedToken,
};
use crate::{claims::Claims, key_set::KeySet, rejection::Rejection};

/// The longest token that is looked at, in bytes.
pub const MAXIMUM_TOKEN_BYTES: usize = 8 * 1024;

/// How far the issuer's clock may be ahead of ours, in seconds, for `nbf` and `iat`. There is none
/// for `exp`: a session ends the second its token stops being accepted, or clients would loop.
pub const CLOCK_LEEWAY_SECS: u64 = 30;

/// Claims that [`Verifier::verify`] has accepted; there is no other way to have them.
#[derive(Clone, Debug)]
pub struct VerifiedClaims {
    known: Claims,
    all: Map<String, Value>,
}

impl std::ops::Deref for VerifiedClaims {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.known
    }
}

impl VerifiedClaims {
    /// When the token ends.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.known.exp)
    }

    /// Every claim as it stands in the token, those that mean nothing to us too.
    #[must_use]
    pub fn all(&self) -> &Map<String, Value> {
        &self.all
    }
}

/// Verified claims in little memory, for whoever keeps those of many tokens and asks rarely.
#[derive(Clone)]
pub struct CompactClaims {
    known: Box<str>,
    all: Box<RawValue>,
}

impl From<&VerifiedClaims> for CompactClaims {
    fn from(claims: &VerifiedClaims) -> Self {
        // Claims were JSON before, and are JSON again.
        Self {
            known: serde_json::to_string(&claims.known)
                .unwrap_or_default()
                .into(),
            all: to_raw_value(&claims.all).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        }
    }
}

impl CompactClaims {
    /// Returns the claims; `None` never happens, since they were written from claims.
    #[must_use]
    pub fn expand(&self) -> Option<VerifiedClaims> {
        Some(VerifiedClaims {
            known: serde_json::from_str(&self.known).ok()?,
            all: serde_json::from_str(self.all.get()).ok()?,
        })
    }

    /// Returns every claim of the token as a JSON object. The claims are serialized again, so spaces and
    /// the notation of a value may differ from those in the token.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.all
    }
}

/// Accepts tokens of one issuer that are meant for us.
pub struct Verifier {
    rules: Arc<TokenRules>,
    keys: Arc<KeySet>,
}

impl Verifier {
    /// A verifier of access tokens that `issuer`, one of our own kind, signed with one of `keys`
    /// for `audience`.
    #[must_use]
    pub fn new(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        keys: impl Into<Arc<KeySet>>,
    ) -> Self {
        Self::with_rules(TokenRules::of_our_issuer(issuer, audience), keys)
    }

    /// A verifier of tokens that keep `rules` and are signed with one of `keys`.
    #[must_use]
    pub fn with_rules(rules: impl Into<Arc<TokenRules>>, keys: impl Into<Arc<KeySet>>) -> Self {
        Self {
            rules: rules.into(),
            keys: keys.into(),
        }
    }

    /// Returns the keys by which the verifier accepts tokens.
    #[must_use]
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The same verifier for tokens that are meant for another `audience`.
    #[must_use]
    pub fn for_audience(&self, audience: impl Into<String>) -> Self {
        let rules = TokenRules {
            audiences: vec![audience.into()],
            ..(*self.rules).clone()
        };
        Self::with_rules(rules, self.keys.clone())
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
        self.verify_parsed(&mut UnverifiedToken::parse(token)?, now)
    }

    /// Verifies a token that was parsed to find its issuer. The claims are moved out of the token once
    /// its signature is good; until then another verifier can be asked about the same token.
    ///
    /// # Errors
    ///
    /// See [`Self::verify`].
    pub fn verify_parsed(
        &self,
        token: &mut UnverifiedToken<'_>,
        now: SystemTime,
    ) -> Result<VerifiedClaims, Rejection> {
        self.verify_observed(token, now, &mut |_| {})
    }

    /// Verifies as [`Self::verify_parsed`] does, and calls `begin` with each step before it is taken:
    /// when the token is refused, the last one is the step that failed.
    ///
    /// # Errors
    ///
    /// See [`Self::verify`].
    pub fn verify_observed(
        &self,
        token: &mut UnverifiedToken<'_>,
        now: SystemTime,
        begin: &mut dyn FnMut(Step),
    ) -> Result<VerifiedClaims, Rejection> {
        self.check_signature(token, &self.rules.types, begin)?;
        let (claims, all) = token.take_claims();
        let known = claims.check(
            &access::Context {
                now_secs: seconds_of(now),
                rules: &self.rules,
                all: &all,
                is_typed: token.header.is_of_access_token(),
            },
            begin,
        )?;
        Ok(VerifiedClaims { known, all })
    }

    /// Verifies a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6). The claims are
    /// moved out of the token once its signature is good.
    ///
    /// # Errors
    ///
    /// The first [`Rejection`] in the order of [`Self::verify`].
    pub fn verify_logout(
        &self,
        token: &mut UnverifiedToken<'_>,
        now: SystemTime,
    ) -> Result<VerifiedLogout, Rejection> {
        self.check_signature(token, self.rules.logout_types(), &mut |_| {})?;
        let (claims, _) = token.take_claims();
        logout::check(claims, seconds_of(now), &self.rules)
    }

    /// Whether the token names a key that is not among ours, of an algorithm that its issuer may
    /// use: the issuer may have published it since.
    #[must_use]
    pub fn lacks_key_of(&self, token: &UnverifiedToken<'_>) -> bool {
        let algorithm = token.header.algorithm();
        let is_allowed = algorithm.is_some_and(|one| self.rules.algorithms.contains(&one));
        let key_id = token.header.key_id();
        is_allowed && key_id.is_some_and(|id| self.keys.get(id).is_none())
    }

    /// Checks everything that comes before the claims. `types` are the values of `typ` that are taken.
    fn check_signature(
        &self,
        token: &UnverifiedToken<'_>,
        types: &[impl AsRef<str>],
        begin: &mut dyn FnMut(Step),
    ) -> Result<(), Rejection> {
        let header = &token.header;
        begin(Step::Extensions);
        header.check_extensions()?;
        begin(Step::Algorithm);
        let algorithm = header
            .algorithm()
            .filter(|one| self.rules.algorithms.contains(one) && self.keys.allows(*one))
            .ok_or(Rejection::AlgorithmInvalid)?;
        begin(Step::Type);
        header.check_type(types)?;
        begin(Step::Issuer);
        let iss = token
            .issuer()
            .filter(|iss| self.rules.issuer.covers(iss))
            .ok_or(Rejection::IssuerInvalid)?;
        begin(Step::Key);
        let key = header
            .key_id()
            .and_then(|id| self.keys.get(id))
            .filter(|key| self.rules.issuer.admits_key(key.issuer.as_deref(), iss))
            .ok_or(Rejection::KeyUnknown)?;
        begin(Step::KeyAlgorithm);
        if !key.serves(algorithm) {
            return Err(Rejection::AlgorithmInvalid);
        }
        begin(Step::Signature);
        let matches = jsonwebtoken::crypto::verify(
            token.signature,
            token.signed.as_bytes(),
            &key.key,
            algorithm,
        );
        matches
            .unwrap_or(false)
            .then_some(())
            .ok_or(Rejection::SignatureInvalid)
    }
}

/// Whole seconds since the epoch; a clock before it stands at its beginning.
fn seconds_of(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
