//! What the handlers of all sockets share.

use std::{sync::Arc, time::SystemTime};

use shared_claims::{VerifiedClaims, VerifiedLogout, verify::LogoutScope};

use crate::{
    config::{AuthSettings, Config, CredentialSource, Limits},
    keys::{KeySource, Keys},
    limits::{Quotas, RefusalFlood},
    metrics::{Cause, Metrics},
    revocations::{RevocationError, Revocations},
    rooms::{Rooms, policy::RoomRule},
    session::{Identity, Index},
    timers::Timers,
};

/// The state of one gateway.
pub struct Gateway {
    /// Accepts tokens.
    pub keys: Keys,
    /// Where credentials are looked for.
    pub credentials: Vec<CredentialSource>,
    /// How sockets say who they are.
    pub auth: AuthSettings,
    /// Who may do what in which rooms.
    pub rules: Vec<RoomRule>,
    /// Bounds on what clients can make grow.
    pub limits: Limits,
    /// What exists now of that.
    pub quotas: Quotas,
    /// Who is refused too often.
    pub flood: RefusalFlood,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The rooms and who is in them.
    pub rooms: Rooms,
    /// The sessions by whom a revocation can name.
    pub sessions: Index,
    /// Which tokens are worth nothing any more.
    pub revocations: Revocations,
    /// What ends, and when.
    pub timers: Arc<Timers>,
    /// Our own issuer.
    issuer: String,
    /// Other issuers whose tokens grant rooms by themselves.
    granting_issuers: Vec<String>,
}

impl Gateway {
    /// A gateway that accepts the tokens of the issuers in the settings; the keys of our own come
    /// from `source`.
    ///
    /// # Errors
    ///
    /// When the keys, or the file of revocations, cannot be used.
    pub fn new(config: &Config, source: KeySource) -> anyhow::Result<Arc<Self>> {
        let metrics = Arc::new(Metrics::new());
        let granting = config.issuers.iter().filter(|one| one.grants_rooms);
        Ok(Arc::new(Self {
            keys: Keys::new(config, source, &metrics)?,
            quotas: Quotas::new(&config.limits),
            flood: RefusalFlood::new(config.limits.refusals_per_address),
            metrics,
            credentials: config.credentials.clone(),
            auth: config.auth.clone(),
            rules: config.rooms.clone(),
            limits: config.limits.clone(),
            rooms: Rooms::default(),
            sessions: Index::default(),
            revocations: Revocations::open(&config.revocations)?,
            timers: Arc::default(),
            issuer: config.issuer.clone(),
            granting_issuers: granting.map(|one| one.issuer.clone()).collect(),
        }))
    }

    /// Whom claims that were verified at `now` stand for, on this connection.
    #[must_use]
    pub fn identity_of(
        &self,
        claims: VerifiedClaims,
        connection: String,
        now: SystemTime,
    ) -> Identity {
        let is_ours = claims.iss == self.issuer;
        let trusts_details = is_ours || self.granting_issuers.contains(&claims.iss);
        let origin = (is_ours, trusts_details);
        Identity::of(claims, origin, &self.rules, (connection, now))
    }

    /// The `iss` of our own issuer's tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Ends every socket of a subject or a session of `issuer`, in all namespaces, and tells how
    /// many there were. Their clients get a DISCONNECT packet, after which stock clients do not come
    /// back by themselves; a stalled one is closed all the same.
    ///
    /// Whoever still has a token can come back with it. What must not come back is revoked: at the
    /// issuer, or by [`Self::revoke`].
    pub fn dismiss(&self, issuer: &str, whom: &LogoutScope) -> usize {
        let sessions = self.sessions.find(issuer, whom);
        for session in &sessions {
            tracing::info!(connection = %session.connection, "dismissed by the application");
            session.dismiss(Cause::Dismissed);
        }
        sessions.len()
    }

    /// Ends what a logout token names, here and for every handshake to come; when this returns it
    /// is durable.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or there is no room for it. Its sockets have ended all the same.
    pub async fn revoke(&self, logout: &VerifiedLogout) -> Result<(), RevocationError> {
        let lifetime = self.keys.maximum_lifetime_secs(&logout.iss);
        let remembered = self
            .revocations
            .remember(logout, (lifetime, SystemTime::now()));
        for session in self.sessions.find(&logout.iss, &logout.scope) {
            let is_meant = match logout.scope {
                LogoutScope::Session(_) => true,
                LogoutScope::Subject(_) => session
                    .identity()
                    .claims()
                    .is_some_and(|claims| claims.iat <= logout.iat),
            };
            if is_meant {
                tracing::info!(connection = %session.connection, "dismissed: its session was revoked");
                session.dismiss(Cause::Revoked);
            }
        }
        self.revocations.write(remembered?).await
    }
}
