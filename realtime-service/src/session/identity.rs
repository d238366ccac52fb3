//! The identity of a session: who the client is, what it may do, and until when, as its last accepted
//! token says.

use std::time::SystemTime;

use shared_claims::{CompactClaims, VerifiedClaims};
use tokio::time::Instant;

use crate::{
    auth::policy::{Grants, Holder, Policy},
    rooms::Sender,
};

/// Somebody, by the issuer that vouches for them: a subject alone is nobody, since two issuers can
/// have the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The `iss` of the token.
    pub issuer: String,
    /// The `sub` of the token.
    pub subject: String,
    /// The `sid` of the token; some issuers have none.
    pub session: Option<String>,
}

/// The identity of a session at a moment. It is replaced as a whole when a token is renewed.
pub struct Identity {
    /// Who it is; `None` for a guest, who has presented no token yet.
    pub principal: Option<Principal>,
    /// The sender of its messages, as others see it.
    pub sender: Sender,
    /// The grants of the token and of the rules.
    pub grants: Grants,
    claims: Option<CompactClaims>,
    /// The end of the token by the clock that timers go by, and by the one on the wall: the former
    /// stands still while a machine is suspended.
    expires_at: Option<(Instant, SystemTime)>,
}

impl Identity {
    /// The identity of a client without a token, which may do what `policy` opens to guests.
    #[must_use]
    pub fn guest(policy: &Policy, connection: &str) -> Self {
        Self {
            principal: None,
            sender: Sender {
                iss: None,
                sub: None,
                name: None,
                connection: connection.to_owned(),
            },
            grants: policy.grants(&Holder::Guest),
            claims: None,
            expires_at: None,
        }
    }

    /// Builds the identity of a connection from claims that were verified at `now`.
    #[must_use]
    pub fn of(claims: &VerifiedClaims, policy: &Policy, connection: &str, now: SystemTime) -> Self {
        let left = claims.expires_at().duration_since(now).unwrap_or_default();
        let profile = &claims.profile;
        let name = profile
            .name
            .as_ref()
            .or(profile.preferred_username.as_ref());
        let holder = policy.bearer(claims);
        let is_foreign = holder.is_of_another_issuer();
        Self {
            principal: Some(Principal {
                issuer: claims.iss.clone(),
                subject: claims.sub.clone(),
                session: claims.sid.clone(),
            }),
            sender: Sender {
                iss: is_foreign.then(|| claims.iss.clone()),
                sub: Some(claims.sub.clone()),
                name: name.cloned(),
                connection: connection.to_owned(),
            },
            grants: policy.grants(&holder).compact(),
            expires_at: Some((Instant::now() + left, claims.expires_at())),
            claims: Some(CompactClaims::from(claims)),
        }
    }

    /// The claims of the token; `None` for a guest.
    #[must_use]
    pub fn claims(&self) -> Option<VerifiedClaims> {
        self.claims.as_ref()?.expand()
    }

    /// When the token ends; a guest has none that could.
    #[must_use]
    pub fn expires_at(&self) -> Option<(Instant, SystemTime)> {
        self.expires_at
    }
}
