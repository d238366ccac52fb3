//! What the handlers of all sockets share.

use std::sync::Arc;

use crate::{
    config::{Config, CredentialSource, Limits},
    keys::{KeySource, Keys},
    limits::{Quotas, RefusalFlood},
    metrics::Metrics,
    rooms::{Rooms, policy::RoomRule},
    timers::Timers,
};

/// The state of one gateway.
pub struct Gateway {
    /// Accepts tokens.
    pub keys: Keys,
    /// Where credentials are looked for.
    pub credentials: Vec<CredentialSource>,
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
    /// What ends, and when.
    pub timers: Arc<Timers>,
}

impl Gateway {
    /// A gateway that accepts the tokens which `config.issuer` signs with one of the keys of
    /// `source`.
    ///
    /// # Errors
    ///
    /// When the keys cannot be used.
    pub fn new(config: &Config, source: KeySource) -> anyhow::Result<Arc<Self>> {
        let metrics = Arc::new(Metrics::new());
        Ok(Arc::new(Self {
            keys: Keys::new(config, source, metrics.clone())?,
            quotas: Quotas::new(&config.limits),
            flood: RefusalFlood::new(config.limits.refusals_per_address),
            metrics,
            credentials: config.credentials.clone(),
            rules: config.rooms.clone(),
            limits: config.limits.clone(),
            rooms: Rooms::default(),
            timers: Arc::default(),
        }))
    }
}
