//! Parts that every task of a run shares.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{cluster::Cluster, ledger::Ledger, tokens::Issuer};

/// The event of every message.
pub(crate) const EVENT: &str = "m";

/// The cluster, the issuer and the ledger of a run.
pub(crate) struct World {
    /// A random text, with which the ids of this run begin.
    pub(crate) run: String,
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// The signer of all tokens.
    pub(crate) issuer: Issuer,
    /// The token of the back end.
    pub(crate) back_end_token: String,
    /// The ledger.
    pub(crate) ledger: Ledger,
    /// The client of the HTTP API and of the logout endpoint.
    pub(crate) http: reqwest::Client,
}

impl World {
    /// Returns the address of a gateway for clients, which turns to the next gateway with each `attempt`.
    pub(crate) fn public(&self, attempt: usize) -> SocketAddr {
        let gateways = &self.cluster.gateways;
        gateways[attempt % gateways.len()].public
    }
}

/// Returns the name of a room.
pub(crate) fn room_name(room: usize) -> String {
    format!("chaos:{room}")
}

/// Returns a message whose data is also its id.
pub(crate) fn message(room: usize, data: &str) -> Value {
    json!({ "room": room_name(room), "event": EVENT, "data": data, "id": data })
}
