//! The claims of a logout token, checked in one order.

use serde_json::Value;

use super::{
    CLOCK_LEEWAY_SECS, TokenRules,
    access::{audience, identifier, issued_at, seconds},
    unverified::UnverifiedClaims,
};
use crate::{
    rejection::Rejection,
    revocation::{LOGOUT_EVENT, LOGOUT_LIFETIME_SECS},
};

/// Whose tokens are worth nothing any more; only [`super::Verifier::verify_logout`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLogout {
    /// The issuer. What it says concerns its own tokens alone.
    pub iss: String,
    /// When it said so, in seconds since the epoch.
    pub iat: u64,
    /// What it is about.
    pub scope: LogoutScope,
}

/// What a logout token is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogoutScope {
    /// One session, whoever's it is.
    Session(String),
    /// Every session of a subject whose token is not younger than the logout token.
    Subject(String),
}

pub(super) fn check(
    claims: UnverifiedClaims,
    now_secs: u64,
    rules: &TokenRules,
) -> Result<VerifiedLogout, Rejection> {
    let latest = now_secs.saturating_add(CLOCK_LEEWAY_SECS);
    let iat = issued_at(claims.iat, latest)?;
    // Not every provider writes an `exp`, but each logout token is of the moment.
    let end = iat.saturating_add(LOGOUT_LIFETIME_SECS);
    let exp = match claims.exp {
        None if !rules.is_ours => end,
        exp => seconds(exp)?,
    };
    if now_secs >= exp || now_secs >= end.saturating_add(CLOCK_LEEWAY_SECS) {
        return Err(Rejection::TokenExpired);
    }
    if rules.is_ours && exp > end {
        return Err(Rejection::LifetimeTooLong);
    }
    audience(claims.aud, &rules.logout_audience)?;
    let is_logout = claims
        .events
        .as_ref()
        .and_then(|events| events.get(LOGOUT_EVENT))
        .is_some_and(Value::is_object);
    if !is_logout || claims.nonce {
        return Err(Rejection::ClaimsInvalid);
    }
    identifier(claims.jti)?;
    // A subject that stands beside a session says whose it is, and widens nothing.
    let subject = claims.sub.map(|sub| identifier(Some(sub))).transpose()?;
    let session = claims.sid.map(|sid| identifier(Some(sid))).transpose()?;
    let scope = match (session, subject) {
        (Some(session), _) => LogoutScope::Session(session),
        (None, Some(subject)) => LogoutScope::Subject(subject),
        (None, None) => return Err(Rejection::ClaimsInvalid),
    };
    Ok(VerifiedLogout {
        iss: identifier(claims.iss)?,
        iat,
        scope,
    })
}
