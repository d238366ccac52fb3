//! The identity of a session: who the client is, what it may do, and until when, as its last accepted
//! token says.

use std::{sync::Arc, time::SystemTime};

use serde_json::value::RawValue;
use shared_claims::{CompactClaims, VerifiedClaims};
use tokio::time::Instant;

use crate::{
    auth::policy::{Grants, Holder, Policy},
    backends::Admission,
    rooms::Sender,
};

/// Somebody, by the issuer that vouches for them: a subject alone is nobody, since two issuers can
/// have the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The `iss` of the token.
    pub issuer: Arc<str>,
    /// The `sub` of the token.
    pub subject: Arc<str>,
    /// The `sid` of the token; some issuers have none.
    pub session: Option<Arc<str>>,
}

/// The identity of a session at a moment. It is replaced as a whole when a token is renewed.
pub struct Identity {
    /// Who it is; `None` for a guest, who has presented no token yet.
    pub principal: Option<Principal>,
    /// The sender of its messages, as others see it.
    pub sender: Sender,
    /// The grants of the token and of the rules.
    pub grants: Grants,
    /// The contributions of the back end that admitted the client.
    admission: Arc<Admission>,
    claims: Option<CompactClaims>,
    /// The end of the token by the clock that timers go by, and by the one on the wall: the former
    /// stands still while a machine is suspended.
    expires_at: Option<(Instant, SystemTime)>,
}

impl Identity {
    /// The identity of a client without a token, which may do what `policy` opens to guests.
    #[must_use]
    pub fn guest(policy: &Policy, connection: Arc<str>) -> Self {
        Self {
            principal: None,
            sender: Sender {
                iss: None,
                sub: None,
                name: None,
                connection,
            },
            grants: policy.grants(&Holder::Guest),
            admission: Arc::default(),
            claims: None,
            expires_at: None,
        }
    }

    /// Builds the identity of a connection from claims that were verified at `now`.
    #[must_use]
    pub fn of(
        claims: &VerifiedClaims,
        policy: &Policy,
        connection: Arc<str>,
        now: SystemTime,
    ) -> Self {
        Self::admitted(claims, policy, connection, now, Arc::default())
    }

    /// Builds the same identity, with the grants that the back end has added which admitted the client.
    #[must_use]
    pub fn admitted(
        claims: &VerifiedClaims,
        policy: &Policy,
        connection: Arc<str>,
        now: SystemTime,
        admission: Arc<Admission>,
    ) -> Self {
        let left = claims.expires_at().duration_since(now).unwrap_or_default();
        let profile = &claims.profile;
        let name = profile
            .name
            .as_ref()
            .or(profile.preferred_username.as_ref());
        let holder = policy.bearer(claims);
        let is_foreign = holder.is_of_another_issuer();
        let issuer: Arc<str> = match is_foreign {
            true => claims.iss.as_str().into(),
            false => policy.issuer().clone(),
        };
        let subject: Arc<str> = claims.sub.as_str().into();
        Self {
            principal: Some(Principal {
                issuer: issuer.clone(),
                subject: subject.clone(),
                session: claims.sid.as_deref().map(Arc::from),
            }),
            sender: Sender {
                iss: is_foreign.then_some(issuer),
                sub: Some(subject),
                name: name.map(|name| name.as_str().into()),
                connection,
            },
            grants: policy.grants(&holder.with_added(&admission.grants)),
            admission,
            expires_at: Some((Instant::now() + left, claims.expires_at())),
            claims: Some(CompactClaims::from(claims)),
        }
    }

    /// The contributions of the back end that admitted the client.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The key of the user, or of the one connection of a guest, for what each user has a share of. Its
    /// parts are told apart by a character that no identifier has.
    #[must_use]
    pub fn key(&self) -> String {
        let (issuer, subject) = match &self.principal {
            Some(principal) => (&*principal.issuer, &*principal.subject),
            None => ("", &*self.sender.connection),
        };
        [issuer, "\n", subject].concat()
    }

    /// The claims of the token; `None` for a guest.
    #[must_use]
    pub fn claims(&self) -> Option<VerifiedClaims> {
        self.claims.as_ref()?.expand()
    }

    /// The claims of the token as a JSON object; `None` for a guest.
    #[must_use]
    pub fn claims_json(&self) -> Option<&RawValue> {
        self.claims.as_ref().map(CompactClaims::json)
    }

    /// Whether the client has a token of our own issuer.
    #[must_use]
    pub fn is_of_own_issuer(&self) -> bool {
        self.principal.is_some() && self.sender.iss.is_none()
    }

    /// When the token ends; a guest has none that could.
    #[must_use]
    pub fn expires_at(&self) -> Option<(Instant, SystemTime)> {
        self.expires_at
    }
}
