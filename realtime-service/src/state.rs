//! The state of one gateway.

mod commands;
mod drain;
mod shared_limits;

use std::sync::Arc;

use shared_claims::{VerifiedLogout, verify::LogoutScope};

pub(crate) use self::commands::{
    Acknowledged, Connected, Meta, NotDrained, Outgoing, Reach, RoomCount, Target,
};
pub use self::drain::DrainPlan;
use crate::{
    auth::revocations::RevocationError,
    clock::wall_now,
    cluster::Cluster,
    config::{Config, KeySource},
    limits::RefusalLimiter,
    metrics::{Cause, Metrics},
    session::{Session, SessionContext},
    timers::Timers,
    transport::TransportContext,
};

/// Reason why a revocation is not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The revocation is not kept.
    #[error(transparent)]
    NotKept(#[from] RevocationError),
    /// The event for back ends is not stored.
    #[error("webhooks.file cannot be written")]
    Untold,
}

/// The state of one gateway.
pub struct AppState {
    /// What all connections share.
    pub transport: Arc<TransportContext>,
    /// What all sessions share.
    pub sessions: Arc<SessionContext>,
    /// Counts refused logout tokens per address. It counts apart from refused handshakes, or clients
    /// that share the issuer's address could keep its logout tokens away.
    pub logout_refusals: RefusalLimiter,
    /// The Redis server that several gateways share, if this is one of them.
    pub cluster: Option<Arc<Cluster>>,
    /// Our own issuer.
    issuer: String,
    drain: drain::CurrentDrain,
}

impl AppState {
    /// The state of a gateway that accepts the tokens of the issuers in `config`; the keys of our
    /// own come from `source`.
    ///
    /// # Errors
    ///
    /// When a rule for rooms, the keys, the file of revocations or a setting of the cluster cannot be used.
    pub fn new(config: &Config, source: KeySource) -> anyhow::Result<Arc<Self>> {
        let (metrics, timers) = (Arc::new(Metrics::new()), Arc::<Timers>::default());
        let transport = TransportContext::new(config, &metrics, &timers);
        let cluster = Cluster::new(&config.cluster, &metrics)?;
        let sessions = SessionContext::new(config, source, &transport, cluster.as_ref())?;
        let context = Arc::downgrade(&sessions);
        sessions.revocations.on_revoked(move |logout| {
            if let Some(context) = context.upgrade() {
                context.end_revoked(logout);
            }
        });
        let context = Arc::downgrade(&sessions);
        sessions.rooms.on_occupied(move |room| {
            let context = context.upgrade()?;
            let book = context.back_ends.room_occupied(room)?;
            Some(Box::new(book))
        });
        Ok(Arc::new(Self {
            sessions,
            cluster,
            transport,
            logout_refusals: RefusalLimiter::new(config.limits.logout_refusals_per_address),
            issuer: config.issuer.clone(),
            drain: drain::CurrentDrain::default(),
        }))
    }

    /// Our own issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the sessions of a user; without `issuer`, of our own issuer.
    #[must_use]
    pub fn sessions_of_user(&self, issuer: Option<&str>, subject: &str) -> Vec<Arc<Session>> {
        let scope = LogoutScope::Subject(subject.to_owned());
        let issuer = issuer.unwrap_or(&self.issuer);
        self.sessions.sessions.find(issuer, &scope)
    }

    /// Returns the sessions that belong to a session at their issuer; without `issuer`, at our own.
    #[must_use]
    pub fn sessions_of_session(&self, issuer: Option<&str>, sid: &str) -> Vec<Arc<Session>> {
        let scope = LogoutScope::Session(sid.to_owned());
        let issuer = issuer.unwrap_or(&self.issuer);
        self.sessions.sessions.find(issuer, &scope)
    }

    /// Disconnects every socket of a subject or a session of `issuer`, in all namespaces, and
    /// returns how many there were. Their clients get a DISCONNECT packet, after which stock clients
    /// do not come back by themselves; a stalled one is closed all the same.
    ///
    /// A client that still has a token can come back with it. What must not come back is revoked: at
    /// the issuer, or by [`Self::revoke`].
    pub fn disconnect(&self, issuer: &str, scope: &LogoutScope) -> usize {
        let sessions = self.sessions.sessions.find(issuer, scope);
        for session in &sessions {
            tracing::info!(connection = %session.connection, "disconnected by the application");
            session.disconnect(Cause::Disconnected);
        }
        sessions.len()
    }

    /// Revokes what a logout token names, here and for every handshake to come; when this returns it
    /// is durable, and so is the event for back ends unless their queue is full.
    ///
    /// # Errors
    ///
    /// When the revocation or the event cannot be written, or there is no room for the revocation. Its sockets have
    /// ended all the same. A repetition does what is missing.
    pub async fn revoke(&self, logout: &VerifiedLogout) -> Result<(), RevokeError> {
        let context = &self.sessions;
        let lifetime = context.keys.maximum_lifetime_secs(&logout.iss);
        let now = wall_now();
        let remembered = context.revocations.remember(logout, (lifetime, now));
        let owner = self.owner_of(logout);
        context.end_revoked(logout);
        context.revocations.write(remembered?).await?;
        let owner = owner.as_deref();
        let stored = context.back_ends.session_revoked(logout, owner, now);
        stored.await.map_err(|_| RevokeError::Untold)
    }

    /// Returns the subject of a session that a logout names, if one of its sockets is here.
    fn owner_of(&self, logout: &VerifiedLogout) -> Option<Arc<str>> {
        let scopes = logout.scopes.iter();
        let mut sessions = scopes.flat_map(|scope| self.sessions.sessions.find(&logout.iss, scope));
        let identity = sessions.next()?.identity();
        Some(identity.principal.as_ref()?.subject.clone())
    }
}
