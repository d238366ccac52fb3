//! Who is behind a socket, what they may do, and until when: what the last accepted token says.

use std::time::SystemTime;

use serde::Serialize;
use shared_claims::VerifiedClaims;
use tokio::time::Instant;

use crate::rooms::policy::{Grants, Holder, Policy};

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

/// What a socket stands for at a moment. It is replaced as a whole when a token is renewed.
pub struct Identity {
    /// Who it is; `None` for a guest, who has presented no token yet.
    pub principal: Option<Principal>,
    /// What others are shown.
    pub sender: Sender,
    /// What the token and the rules let it do.
    pub grants: Grants,
    claims: Option<VerifiedClaims>,
    /// The end of the token by the clock that timers go by, and by the one on the wall: the former
    /// stands still while a machine is suspended.
    expires_at: Option<(Instant, SystemTime)>,
}

/// Who sent a message.
#[derive(Clone, Debug, Serialize)]
pub struct Sender {
    /// The issuer, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The subject of the token; a guest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The name to show, when the token has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A random id of this connection. It is not Socket.IO's `socket.id`, which is the Engine.IO
    /// `sid`, and whoever knows that one can take the connection over. A back end has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection: String,
}

impl Identity {
    /// Somebody who has presented no token: they may do what `policy` opens to guests.
    #[must_use]
    pub fn guest(policy: &Policy, connection: String) -> Self {
        Self {
            principal: None,
            sender: Sender {
                iss: None,
                sub: None,
                name: None,
                connection,
            },
            grants: policy.grants(&Holder::Guest),
            claims: None,
            expires_at: None,
        }
    }

    /// The owner of a token that was accepted at `now`.
    #[must_use]
    pub fn of(
        claims: VerifiedClaims,
        policy: &Policy,
        (connection, now): (String, SystemTime),
    ) -> Self {
        let left = claims.expires_at().duration_since(now).unwrap_or_default();
        let profile = &claims.profile;
        let name = profile
            .name
            .as_ref()
            .or(profile.preferred_username.as_ref());
        let holder = policy.bearer(&claims);
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
                connection,
            },
            grants: policy.grants(&holder),
            expires_at: Some((Instant::now() + left, claims.expires_at())),
            claims: Some(claims),
        }
    }

    /// What the token says; `None` for a guest.
    #[must_use]
    pub fn claims(&self) -> Option<&VerifiedClaims> {
        self.claims.as_ref()
    }

    /// When the token ends; a guest has none that could.
    #[must_use]
    pub fn expires_at(&self) -> Option<(Instant, SystemTime)> {
        self.expires_at
    }

    /// Whether the token has ended, by either clock.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.expires_at
            .is_some_and(|(timer, wall)| timer <= Instant::now() || wall <= SystemTime::now())
    }
}
