//! What the handlers of all sockets share.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use shared_claims::{VerifiedClaims, VerifiedLogout, verify::LogoutScope};

use crate::{
    config::{AuthSettings, Config, CredentialSource, Limits},
    keys::{KeySource, Keys},
    limits::{Quotas, RefusalFlood},
    metrics::{Cause, Metrics},
    revocations::{RevocationError, Revocations},
    rooms::{Rooms, policy::Policy},
    session::{Identity, Index, Session},
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
    pub policy: Policy,
    /// Bounds on what clients can make grow.
    pub limits: Limits,
    /// How long nothing is heard of a client that is there, at most.
    pub silence: Duration,
    /// What exists now of that.
    pub quotas: Quotas,
    /// Who is refused too often.
    pub flood: RefusalFlood,
    /// Who posts too many logout tokens that are refused. It counts apart from `flood`, or clients
    /// that share the issuer's address could keep its logout tokens away.
    pub logout_flood: RefusalFlood,
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
        let timers = Arc::default();
        Ok(Arc::new(Self {
            keys: Keys::new(config, source, &metrics)?,
            quotas: Quotas::new(&config.limits),
            flood: RefusalFlood::new(config.limits.refusals_per_address),
            logout_flood: RefusalFlood::new(config.limits.logout_refusals_per_address),
            metrics,
            credentials: config.credentials.clone(),
            auth: config.auth.clone(),
            policy: Policy::new(config),
            limits: config.limits.clone(),
            silence: config.heartbeat.silence(),
            rooms: Rooms::new(config, &timers),
            sessions: Index::default(),
            revocations: Revocations::open(&config.revocations)?,
            timers,
            issuer: config.issuer.clone(),
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
        Identity::of(claims, &self.policy, (connection, now))
    }

    /// The sessions of a user; without `issuer`, of our own issuer's.
    #[must_use]
    pub fn sessions_of_user(&self, issuer: Option<&str>, subject: &str) -> Vec<Arc<Session>> {
        let issuer = issuer.unwrap_or(self.policy.issuer());
        let scope = LogoutScope::Subject(subject.to_owned());
        self.sessions.find(issuer, &scope)
    }

    /// The sessions whose tokens have this `sid`; without `issuer`, of our own issuer's.
    #[must_use]
    pub fn sessions_of_session(&self, issuer: Option<&str>, sid: &str) -> Vec<Arc<Session>> {
        let issuer = issuer.unwrap_or(self.policy.issuer());
        let scope = LogoutScope::Session(sid.to_owned());
        self.sessions.find(issuer, &scope)
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
        for scope in &logout.scopes {
            for session in self.sessions.find(&logout.iss, scope) {
                let identity = session.identity();
                let is_meant = |claims: &VerifiedClaims| scope.ends(claims.iat, logout.iat);
                if identity.claims().is_some_and(is_meant) {
                    tracing::info!(connection = %session.connection, "dismissed: its session was revoked");
                    session.dismiss(Cause::Revoked);
                }
            }
        }
        self.revocations.write(remembered?).await
    }
}
