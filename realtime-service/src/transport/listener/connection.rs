//! The state of one connection that its requests share.

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

/// The connection of a request.
pub struct Connection {
    /// The address of the client, or of a proxy.
    pub peer: SocketAddr,
    /// The proxies whose headers name the client.
    pub proxies: Arc<Proxies>,
    /// Closes this connection.
    pub switch: KillSwitch,
    /// The version of the protocol whose refusals get their data, while socketioxide serves a WebSocket
    /// on this connection.
    pub refusal_data: RefusalData,
    /// The permit of a session, released when this connection ends.
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
    /// Makes a connection of `peer` that `switch` closes.
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

    /// Returns the address of the client that sends a request with these headers.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(self.peer.ip(), headers)
    }

    /// Has `task` serve the WebSocket that the next response makes of this connection.
    pub fn upgrade_by(&self, task: UpgradeTask) {
        self.keeps_head.store(true, Ordering::Release);
        // Bound to a name, so that a task which was never run is dropped after the lock.
        let _former = {
            let mut upgrade = self.upgrade.lock().unwrap_or_else(PoisonError::into_inner);
            upgrade.replace(task)
        };
    }

    /// Takes the task of the WebSocket, if there is one.
    pub(super) fn take_upgrade(&self) -> Option<UpgradeTask> {
        let mut upgrade = self.upgrade.lock().unwrap_or_else(PoisonError::into_inner);
        upgrade.take()
    }
}
