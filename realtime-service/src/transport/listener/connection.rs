//! One connection, as its requests know it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::HeaderMap;

use super::{KillSwitch, Observer, Place, Proxies, RefusalData};
use crate::transport::engine::UpgradeTask;

/// The connection that a request came by.
pub struct Connection {
    /// Where the other end is: the client, or a proxy.
    pub peer: SocketAddr,
    /// The proxies that are believed whom they speak for.
    pub proxies: Arc<Proxies>,
    /// Closes this connection.
    pub switch: KillSwitch,
    /// Whether this connection is a WebSocket, whose refusals get their data.
    pub refusal_data: RefusalData,
    /// A place that is given back when this connection ends.
    pub place: Place,
    /// The session that this connection serves as a WebSocket, while it serves one.
    pub observer: Arc<Observer>,
    /// Set when the next response makes the connection a WebSocket of the engine: its head is kept for
    /// the engine, which sends it with the first packet.
    pub(super) keeps_head: AtomicBool,
    /// Set when the head of the next request has a `Content-Length` beside a `Transfer-Encoding`.
    pub(super) is_ambiguous: AtomicBool,
    /// The task of the WebSocket that the connection becomes. The task of the connection goes on as this
    /// one, which spares a task for each handshake.
    upgrade: Mutex<Option<UpgradeTask>>,
}

impl Connection {
    /// A connection of `peer` that `switch` closes.
    pub(crate) fn new(peer: SocketAddr, proxies: Arc<Proxies>, switch: KillSwitch) -> Self {
        Self {
            peer,
            proxies,
            switch,
            refusal_data: RefusalData::default(),
            place: Place::default(),
            observer: Arc::default(),
            keeps_head: AtomicBool::new(false),
            is_ambiguous: AtomicBool::new(false),
            upgrade: Mutex::default(),
        }
    }

    /// The address of the client that a request with these headers comes from.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(self.peer.ip(), headers)
    }

    /// Has `task` serve the WebSocket that the next response makes of this connection.
    pub fn upgrade_by(&self, task: UpgradeTask) {
        self.keeps_head.store(true, Ordering::Release);
        *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Takes the task out, if there is one.
    pub(super) fn take_upgrade(&self) -> Option<UpgradeTask> {
        let mut upgrade = self.upgrade.lock().unwrap_or_else(PoisonError::into_inner);
        upgrade.take()
    }
}
