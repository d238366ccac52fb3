//! What the handlers of all sockets share.

use std::sync::Arc;

use shared_claims::{Verifier, claims::REALTIME_AUDIENCE, key_set::KeySet, secret::Secrets};

use crate::{
    config::{Config, CredentialSource, Limits},
    rooms::{Rooms, policy::RoomRule},
    timers::Timers,
};

/// The state of one gateway.
pub struct Gateway {
    /// Accepts tokens.
    pub verifier: Verifier,
    /// Where credentials are looked for.
    pub credentials: Vec<CredentialSource>,
    /// Who may do what in which rooms.
    pub rules: Vec<RoomRule>,
    /// Bounds on what clients can make grow.
    pub limits: Limits,
    /// The rooms and who is in them.
    pub rooms: Rooms,
    /// What ends, and when.
    pub timers: Arc<Timers>,
}

impl Gateway {
    /// A gateway that accepts the tokens which `config.issuer` signs with one of `secrets`.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider refuses the secrets.
    pub fn new(config: &Config, secrets: &Secrets) -> anyhow::Result<Arc<Self>> {
        let keys = KeySet::from_secrets(secrets)?;
        Ok(Arc::new(Self {
            verifier: Verifier::new(&config.issuer, REALTIME_AUDIENCE, keys),
            credentials: config.credentials.clone(),
            rules: config.rooms.clone(),
            limits: config.limits.clone(),
            rooms: Rooms::default(),
            timers: Arc::default(),
        }))
    }
}
