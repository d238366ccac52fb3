//! The claims of a logout token, checked in one order.

use serde_json::Value;

use super::{
    CLOCK_LEEWAY_SECS, TokenRules,
    access::{audience, identifier, issued_at, seconds},
    unverified::{UnverifiedClaims, present},
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
    /// What it is about: one thing, or a session and the sockets that cannot be told from it.
    pub scopes: Vec<LogoutScope>,
    /// When the last token that it concerns has expired, in seconds since the epoch, if the issuer is ours and says so.
    pub tokens_exp: Option<u64>,
}

/// What a logout token is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogoutScope {
    /// One session, whoever's it is.
    Session(String),
    /// Every session of a subject whose token is not younger than the logout token.
    Subject(String),
    /// Every session of a subject whose token names no session, and is not younger than the logout
    /// token. Many providers name the session in their logout tokens and not in their access tokens.
    Unnamed(String),
}

impl LogoutScope {
    /// Everything that a logout can name a token by which has this `sub` and this `sid`.
    #[must_use]
    pub fn of(sub: &str, sid: Option<&str>) -> [Self; 2] {
        let session = match sid {
            Some(sid) => Self::Session(sid.to_owned()),
            None => Self::Unnamed(sub.to_owned()),
        };
        [Self::Subject(sub.to_owned()), session]
    }

    /// Whether a token of this scope that was issued at `iat` is worth nothing since a logout of
    /// `logout_iat`. A session ends for good; a subject may come back.
    #[must_use]
    pub fn ends(&self, iat: u64, logout_iat: u64) -> bool {
        match self {
            Self::Session(_) => true,
            Self::Subject(_) | Self::Unnamed(_) => iat <= logout_iat,
        }
    }
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
    audience(claims.aud, &rules.logout_audiences)?;
    let is_logout = claims
        .events
        .as_ref()
        .and_then(|events| events.get(LOGOUT_EVENT))
        .is_some_and(Value::is_object);
    if !is_logout || claims.nonce {
        return Err(Rejection::ClaimsInvalid);
    }
    identifier(claims.jti)?;
    let optional = |value| present(value).map(|one| identifier(Some(one))).transpose();
    let (subject, session) = (optional(claims.sub)?, optional(claims.sid)?);
    let tokens_exp = present(claims.tokens_exp).filter(|_| rules.is_ours);
    let tokens_exp = tokens_exp.map(|exp| seconds(Some(exp))).transpose()?;
    // A subject that stands beside a session widens it by what could be that session, and leaves
    // alone what names another one.
    let scopes = match (session, subject) {
        (Some(session), Some(subject)) => {
            vec![LogoutScope::Session(session), LogoutScope::Unnamed(subject)]
        }
        (Some(session), None) => vec![LogoutScope::Session(session)],
        (None, Some(subject)) => vec![LogoutScope::Subject(subject)],
        (None, None) => return Err(Rejection::ClaimsInvalid),
    };
    Ok(VerifiedLogout {
        iss: identifier(claims.iss)?,
        iat,
        scopes,
        tokens_exp,
    })
}
