//! The claims of an access token, checked in one order.

use serde_json::{Map, Value};

use super::{
    CLOCK_LEEWAY_SECS, Step, TokenRules,
    rules::{AUDIENCE_CLAIM, RequiredClaim},
    unverified::{UnverifiedClaims, present},
};
use crate::{
    authorization::{AuthorizationDetail, MAXIMUM_DETAILS, REALTIME_TYPE},
    claims::{Audience, Claims, Profile},
    ids::{is_identifier, is_name},
    rejection::Rejection,
};

/// The values of Keycloak's claim `typ` that mean neither an access token nor an ID token.
const FOREIGN_KINDS: [&str; 3] = ["Logout", "Offline", "Refresh"];

/// The value of Keycloak's claim `typ` that means an ID token.
const ID_KIND: &str = "ID";

/// The values of Keycloak's claim `typ` that mean an access token.
const ACCESS_KINDS: [&str; 2] = ["Bearer", "DPoP"];

/// Claims that hold the scopes, at most providers and at Microsoft and Okta.
const SCOPES: [&str; 2] = ["scope", "scp"];

/// Claims that name the client that a token was given to.
const CLIENTS: [&str; 4] = ["client_id", "azp", "appid", "cid"];

/// The claim in which Microsoft repeats the tenant of the issuer.
const TENANT: &str = "tid";

/// The surroundings of one check.
pub(super) struct Context<'a> {
    /// The time, in seconds since the epoch.
    pub(super) now_secs: u64,
    /// The rules of the issuer.
    pub(super) rules: &'a TokenRules,
    /// Every claim as it stands in the token.
    pub(super) all: &'a Map<String, Value>,
    /// Whether the header alone says that the token is an access token.
    pub(super) is_typed: bool,
}

impl Context<'_> {
    fn text(&self, claim: &str) -> Option<&str> {
        let text = self.all.get(claim).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    }
}

/// The times of a token, in whole seconds since the epoch.
struct Times {
    exp: u64,
    iat: u64,
    nbf: Option<u64>,
}

impl UnverifiedClaims {
    /// Checks the claims, after the signature.
    ///
    /// # Errors
    ///
    /// The first [`Rejection`] in the order of [`Step`].
    pub(super) fn check(
        mut self,
        context: &Context<'_>,
        begin: &mut dyn FnMut(Step),
    ) -> Result<Claims, Rejection> {
        let times = self.check_times(context, begin)?;
        begin(Step::Audience);
        let aud = self.check_audience(context)?;
        begin(Step::Kind);
        if !self.is_of_right_kind(context, &aud) {
            return Err(Rejection::ClaimsInvalid);
        }
        begin(Step::RequiredClaims);
        let mut required = context.rules.required_claims.iter();
        if !required.all(|claim| claim.is_met_by(context.all)) {
            return Err(Rejection::ClaimsInvalid);
        }
        begin(Step::Claim(TENANT));
        self.check_tenant(context)?;
        self.rename(context);
        self.finish(context.rules, aud, times, begin)
    }

    fn check_times(
        &mut self,
        context: &Context<'_>,
        begin: &mut dyn FnMut(Step),
    ) -> Result<Times, Rejection> {
        let maximum_lifetime = context.rules.maximum_lifetime_secs;
        let latest = context.now_secs.saturating_add(CLOCK_LEEWAY_SECS);
        begin(Step::Expiry);
        let exp = seconds(self.exp.take())?;
        if context.now_secs >= exp {
            return Err(Rejection::TokenExpired);
        }
        if exp > latest.saturating_add(maximum_lifetime) {
            return Err(Rejection::LifetimeTooLong);
        }
        begin(Step::NotBefore);
        let nbf = present(self.nbf.take());
        let nbf = nbf.map(|nbf| seconds(Some(nbf))).transpose()?;
        if nbf.is_some_and(|nbf| nbf > latest) {
            return Err(Rejection::TokenNotActive);
        }
        begin(Step::IssuedAt);
        let iat = issued_at(self.iat.take(), latest)?;
        match exp.checked_sub(iat) {
            None => Err(Rejection::ClaimsInvalid),
            Some(lifetime) if lifetime > maximum_lifetime => Err(Rejection::LifetimeTooLong),
            Some(_) => Ok(Times { exp, iat, nbf }),
        }
    }

    /// Checks the claim that names the audience; and `aud`, when another claim does.
    fn check_audience(&mut self, context: &Context<'_>) -> Result<Audience, Rejection> {
        let rules = context.rules;
        let aud = self.aud.take();
        if rules.audience_claim == AUDIENCE_CLAIM {
            return audience(aud, &rules.audiences);
        }
        if let Some(aud) = present(aud) {
            audience(Some(aud), &rules.audiences)?;
        }
        let named = context.all.get(&rules.audience_claim);
        audience(named.cloned(), &rules.audiences)
    }

    /// Whether the token is an access token, or an ID token that the rules accept.
    fn is_of_right_kind(&self, context: &Context<'_>, aud: &Audience) -> bool {
        let rules = context.rules;
        let typ = self.typ.as_ref().and_then(Value::as_str);
        let kind = typ.filter(|_| !rules.is_ours);
        if self.events.is_some() || kind.is_some_and(|kind| FOREIGN_KINDS.contains(&kind)) {
            return false;
        }
        if rules.accepts_id_tokens {
            return self.is_for_us_alone(rules, aud);
        }
        if kind == Some(ID_KIND) || self.nonce || self.at_hash || self.c_hash || self.s_hash {
            return false;
        }
        context.is_typed || self.proves_its_kind(context, aud)
    }

    /// Whether an ID token was given to us and is meant for nobody else (OpenID Connect Core 1.0,
    /// section 3.1.3.7).
    fn is_for_us_alone(&self, rules: &TokenRules, aud: &Audience) -> bool {
        let is_ours = |text: &str| rules.audiences.iter().any(|one| one == text);
        let is_given_to_us = match present(self.azp.clone()) {
            None => true,
            Some(azp) => azp.as_str().is_some_and(is_ours),
        };
        let is_for_others = match aud {
            Audience::One(_) => false,
            Audience::Many(all) => !all.iter().all(|one| is_ours(one)),
        };
        is_given_to_us && !is_for_others
    }

    /// Whether a token says by its claims that it is an access token: by scopes, by a client that it
    /// was given to and is not meant for, as Keycloak does, or by a claim that the issuer's rules
    /// require. An ID token is meant for the client that it was given to, and may have nothing else
    /// that tells it from an access token whose audience is that client.
    fn proves_its_kind(&self, context: &Context<'_>, aud: &Audience) -> bool {
        let is_there = |name: &&str| present(context.all.get(*name).cloned()).is_some();
        let has_scope = SCOPES.iter().any(is_there);
        let mut clients = CLIENTS.iter().filter_map(|name| context.text(name));
        let is_for_another = clients.any(|client| !aud.contains(client));
        let says_so = context
            .text("typ")
            .is_some_and(|typ| ACCESS_KINDS.contains(&typ));
        let mut required = context.rules.required_claims.iter();
        let is_told_apart = required.any(RequiredClaim::is_of_no_id_token);
        has_scope || is_for_another || says_so || is_told_apart
    }

    /// Checks that the tenant's own claim, when there is one, names the tenant of `iss`.
    fn check_tenant(&self, context: &Context<'_>) -> Result<(), Rejection> {
        let iss = self.iss.as_ref().and_then(Value::as_str);
        let tenant = iss.and_then(|iss| context.rules.issuer.tenant_of(iss));
        let claim = present(context.all.get(TENANT).cloned());
        match (tenant, claim) {
            (Some(tenant), Some(claim)) if claim.as_str() != Some(tenant) => {
                Err(Rejection::ClaimsInvalid)
            }
            _ => Ok(()),
        }
    }

    /// Puts claims that this issuer names in its own way where they belong.
    fn rename(&mut self, context: &Context<'_>) {
        if context.rules.is_ours {
            return;
        }
        let names = &context.rules.claim_names;
        let find = |name: &String| present(context.all.get(name).cloned());
        self.name = find(&names.name);
        self.sid = find(&names.session);
        self.scope = names.scope.iter().find_map(find);
        self.client_id = present(self.client_id.take()).or(self.azp.take());
    }

    fn finish(
        self,
        rules: &TokenRules,
        aud: Audience,
        Times { exp, iat, nbf }: Times,
        begin: &mut dyn FnMut(Step),
    ) -> Result<Claims, Rejection> {
        let mut named = |name, value| {
            begin(Step::Claim(name));
            value
        };
        let iss = identifier(named("iss", self.iss))?;
        let sub = identifier(named("sub", self.sub))?;
        let mut id = |name, value| match present(named(name, value)) {
            None if !rules.is_ours => Ok(None),
            value => identifier(value).map(Some),
        };
        let jti = id("jti", self.jti)?;
        let sid = id("sid", self.sid)?;
        let client_id = id("client_id", self.client_id)?;
        let scope = match named("scope", self.scope) {
            Some(Value::Array(all)) if !rules.is_ours => Some(scopes(&all)?),
            scope => text(scope)?,
        };
        let authorization_details =
            details(named("authorization_details", self.authorization_details))?;
        Ok(Claims {
            iss,
            sub,
            aud,
            exp,
            iat,
            nbf,
            jti,
            sid,
            client_id,
            scope,
            authorization_details,
            profile: Profile {
                preferred_username: name(named("preferred_username", self.preferred_username))?,
                name: name(named("name", self.name))?,
                given_name: name(named("given_name", self.given_name))?,
                family_name: name(named("family_name", self.family_name))?,
                email: text(named("email", self.email))?,
                // Some providers write a text. A value that is no boolean verifies nothing.
                email_verified: self.email_verified.as_ref().and_then(Value::as_bool),
            },
        })
    }
}

/// The largest whole number that a JSON number with a fraction holds exactly.
const MAXIMUM_EXACT: f64 = 9_007_199_254_740_992.0;

/// Returns a time in whole seconds since the epoch. A fraction, which RFC 7519, section 2, allows, is
/// cut off.
pub(super) fn seconds(value: Option<Value>) -> Result<u64, Rejection> {
    let value = value.ok_or(Rejection::ClaimsInvalid)?;
    let whole = value.as_u64().or_else(|| {
        let secs = value.as_f64().filter(|_| value.is_f64())?;
        let is_exact = (0.0..=MAXIMUM_EXACT).contains(&secs);
        // In this range the conversion cuts off the fraction and changes nothing else.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        is_exact.then_some(secs as u64)
    });
    whole.ok_or(Rejection::ClaimsInvalid)
}

/// An `iat` that is not after `latest`.
pub(super) fn issued_at(value: Option<Value>, latest: u64) -> Result<u64, Rejection> {
    let iat = seconds(value)?;
    if iat > latest {
        return Err(Rejection::IssuedInFuture);
    }
    Ok(iat)
}

/// An `aud` that one of `audiences` is among.
pub(super) fn audience(value: Option<Value>, audiences: &[String]) -> Result<Audience, Rejection> {
    value
        .and_then(|aud| serde_json::from_value::<Audience>(aud).ok())
        .filter(|aud| audiences.iter().any(|one| aud.contains(one)))
        .ok_or(Rejection::AudienceInvalid)
}

pub(super) fn identifier(value: Option<Value>) -> Result<String, Rejection> {
    text(value)?
        .filter(|text| is_identifier(text))
        .ok_or(Rejection::ClaimsInvalid)
}

/// The rights that are ours. Those of another type are somebody else's, and may be anything.
fn details(value: Option<Value>) -> Result<Vec<AuthorizationDetail>, Rejection> {
    let all = match present(value) {
        None => return Ok(Vec::new()),
        Some(Value::Array(all)) if all.len() <= MAXIMUM_DETAILS => all,
        Some(_) => return Err(Rejection::ClaimsInvalid),
    };
    all.into_iter()
        .filter(|detail| detail.get("type").and_then(Value::as_str) == Some(REALTIME_TYPE))
        .map(|detail| serde_json::from_value(detail).map_err(|_| Rejection::ClaimsInvalid))
        .collect()
}

/// Joins a list of scopes with spaces. A scope has no space of its own (RFC 6749, section 3.3).
fn scopes(all: &[Value]) -> Result<String, Rejection> {
    let texts = all.iter().map(|one| {
        let text = one.as_str().filter(|text| !text.contains(' '));
        text.ok_or(Rejection::ClaimsInvalid)
    });
    let texts: Result<Vec<&str>, Rejection> = texts.collect();
    Ok(texts?.join(" "))
}

/// A name of a person. One that shows something else than it is counts as absent: clients show it to
/// others.
fn name(value: Option<Value>) -> Result<Option<String>, Rejection> {
    Ok(text(value)?.filter(|text| is_name(text)))
}

fn text(value: Option<Value>) -> Result<Option<String>, Rejection> {
    match present(value) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Rejection::ClaimsInvalid),
    }
}
