//! The claims of an access token, checked in one order.

use serde_json::{Map, Value};

use super::{CLOCK_LEEWAY_SECS, TokenRules, unverified::UnverifiedClaims};
use crate::{
    authorization::{AuthorizationDetail, MAXIMUM_DETAILS, REALTIME_TYPE},
    claims::{Audience, Claims, Profile},
    ids::is_identifier,
    rejection::Rejection,
};

/// What Keycloak writes into the claim `typ` of tokens that are no access tokens.
const OTHER_KINDS: [&str; 4] = ["ID", "Logout", "Offline", "Refresh"];

/// And of those that are.
const ACCESS_KINDS: [&str; 2] = ["Bearer", "DPoP"];

/// Where scopes stand, at most providers and at Microsoft's and Okta's.
const SCOPES: [&str; 2] = ["scope", "scp"];

/// Where the client stands that a token was given to.
const CLIENTS: [&str; 4] = ["client_id", "azp", "appid", "cid"];

impl UnverifiedClaims {
    /// Checks the claims of a token whose header does not say that it is an access token, and which
    /// must say so itself: by scopes, by a client that it was given to and is not meant for, or as
    /// Keycloak does. An ID token is meant for the client that it was given to, and may have nothing
    /// else that tells it from an access token whose audience is that client.
    pub(super) fn check_untyped(
        self,
        now_secs: u64,
        rules: &TokenRules,
        all: &Map<String, Value>,
    ) -> Result<Claims, Rejection> {
        let claims = self.check(now_secs, rules, all)?;
        let text = |name: &str| all.get(name).and_then(Value::as_str);
        let has_scope = SCOPES.iter().any(|name| all.contains_key(*name));
        let mut clients = CLIENTS.iter().filter_map(|name| text(name));
        let is_for_another = clients.any(|client| !claims.aud.contains(client));
        let says_so = text("typ").is_some_and(|typ| ACCESS_KINDS.contains(&typ));
        (has_scope || is_for_another || says_so)
            .then_some(claims)
            .ok_or(Rejection::ClaimsInvalid)
    }

    pub(super) fn check(
        mut self,
        now_secs: u64,
        rules: &TokenRules,
        all: &Map<String, Value>,
    ) -> Result<Claims, Rejection> {
        let latest = now_secs.saturating_add(CLOCK_LEEWAY_SECS);
        let exp = seconds(self.exp.take())?;
        if now_secs >= exp {
            return Err(Rejection::TokenExpired);
        }
        if exp > latest.saturating_add(rules.maximum_lifetime_secs) {
            return Err(Rejection::LifetimeTooLong);
        }
        let nbf = self.nbf.take().map(|nbf| seconds(Some(nbf))).transpose()?;
        if nbf.is_some_and(|nbf| nbf > latest) {
            return Err(Rejection::TokenNotActive);
        }
        let iat = issued_at(self.iat.take(), latest)?;
        match exp.checked_sub(iat) {
            None => return Err(Rejection::ClaimsInvalid),
            Some(lifetime) if lifetime > rules.maximum_lifetime_secs => {
                return Err(Rejection::LifetimeTooLong);
            }
            Some(_) => {}
        }
        let aud = audience(self.aud.take(), &rules.audience)?;
        if self.is_of_another_kind(rules) {
            return Err(Rejection::ClaimsInvalid);
        }
        self.rename(rules, all);
        self.say(rules, (aud, exp, iat, nbf))
    }

    /// Whether it is an ID token, or a logout token, whatever else it says.
    fn is_of_another_kind(&self, rules: &TokenRules) -> bool {
        let typ = self.typ.as_ref().and_then(Value::as_str);
        let says_so = !rules.is_ours && typ.is_some_and(|typ| OTHER_KINDS.contains(&typ));
        let is_id = self.nonce || self.at_hash || self.c_hash || self.s_hash;
        is_id || self.events.is_some() || says_so
    }

    /// Puts claims that this issuer names in its own way where they belong.
    fn rename(&mut self, rules: &TokenRules, all: &Map<String, Value>) {
        if rules.is_ours {
            return;
        }
        let names = &rules.claim_names;
        self.name = all.get(&names.name).cloned();
        self.sid = all.get(&names.session).cloned();
        self.scope = all.get(&names.scope).cloned();
        self.client_id = self.client_id.take().or(self.azp.take());
    }

    fn say(
        self,
        rules: &TokenRules,
        (aud, exp, iat, nbf): (Audience, u64, u64, Option<u64>),
    ) -> Result<Claims, Rejection> {
        let id = |value| match (value, rules.is_ours) {
            (None, false) => Ok(None),
            (value, _) => identifier(value).map(Some),
        };
        Ok(Claims {
            iss: identifier(self.iss)?,
            sub: identifier(self.sub)?,
            aud,
            exp,
            iat,
            nbf,
            jti: id(self.jti)?,
            sid: id(self.sid)?,
            client_id: id(self.client_id)?,
            scope: text(self.scope)?,
            authorization_details: details(self.authorization_details)?,
            profile: Profile {
                preferred_username: text(self.preferred_username)?,
                name: text(self.name)?,
                given_name: text(self.given_name)?,
                family_name: text(self.family_name)?,
                email: text(self.email)?,
                // Some providers write a text. What is no boolean verifies nothing.
                email_verified: self.email_verified.as_ref().and_then(Value::as_bool),
            },
        })
    }
}

/// A time in whole seconds since the epoch.
pub(super) fn seconds(value: Option<Value>) -> Result<u64, Rejection> {
    value
        .as_ref()
        .and_then(Value::as_u64)
        .ok_or(Rejection::ClaimsInvalid)
}

/// An `iat` that is not after `latest`.
pub(super) fn issued_at(value: Option<Value>, latest: u64) -> Result<u64, Rejection> {
    let iat = seconds(value)?;
    if iat > latest {
        return Err(Rejection::IssuedInFuture);
    }
    Ok(iat)
}

/// An `aud` that `audience` is among.
pub(super) fn audience(value: Option<Value>, audience: &str) -> Result<Audience, Rejection> {
    value
        .and_then(|aud| serde_json::from_value::<Audience>(aud).ok())
        .filter(|aud| aud.contains(audience))
        .ok_or(Rejection::AudienceInvalid)
}

pub(super) fn identifier(value: Option<Value>) -> Result<String, Rejection> {
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
