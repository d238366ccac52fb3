//! The register of gateways in Redis: each has a lease, and each removes what dead ones left.
//!
//! A gateway has one name from its start to its end. Its *id* is the name and a number, which counts the
//! leases: a gateway whose lease has run out begins another, under another id. Whatever it wrote under
//! the id before is removed, and cannot be mistaken for what it writes now.

use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Script;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{Away, Cluster};
use crate::ids::random_id;

/// Renews the lease, and removes the shares of dead gateways.
static TEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("tend.lua")));

/// Ends the lease.
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("leave.lua")));

/// Interval at which the lease is renewed. The shortest lease is three of it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of shares of dead gateways that one request removes.
const REMOVED_AT_ONCE: usize = 500;

/// A gateway's place in the register.
pub(super) struct Registration {
    name: String,
    leases: AtomicU64,
    /// The id under which the gateway has a lease, as far as it knows.
    id: watch::Sender<Option<Arc<str>>>,
    /// Notified when the lease has to be looked after at once.
    is_due: Notify,
    /// The names of the other gateways that had a lease when the register was read last.
    others: Mutex<Vec<String>>,
}

impl Registration {
    /// Makes a name of a readable part and a random one. There is no lease yet.
    pub(super) fn new(readable: &str) -> Self {
        Self {
            name: format!("{readable}-{}", random_id()),
            leases: AtomicU64::new(0),
            id: watch::Sender::new(None),
            is_due: Notify::new(),
            others: Mutex::default(),
        }
    }
}

/// Returns the name of the gateway with an id.
#[must_use]
pub fn name_of(id: &str) -> &str {
    id.rsplit_once('.').map_or(id, |(name, _)| name)
}

impl Cluster {
    /// Returns the name of this gateway.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.registration.name
    }

    /// Returns the names of the other gateways that were alive when the register was read last.
    #[must_use]
    pub fn other_gateways(&self) -> Vec<String> {
        let others = self.registration.others.lock();
        others.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the changes of the id under which this gateway has a lease.
    #[must_use]
    pub fn leases(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.registration.id.subscribe()
    }

    /// Notes that the lease of `id` has run out, so that another one begins.
    pub fn forget_lease(&self, id: &str) {
        let is_current = |current: &mut Option<Arc<str>>| {
            let is_it = current.as_deref() == Some(id);
            if is_it {
                *current = None;
            }
            is_it
        };
        if self.registration.id.send_if_modified(is_current) {
            self.registration.is_due.notify_one();
        }
    }

    /// Keeps a lease while Redis is connected, and removes what dead gateways left; never returns.
    pub async fn keep_lease(&self) {
        loop {
            self.connected().await;
            let is_done = self.tend().await.unwrap_or(true);
            if is_done {
                let due = self.registration.is_due.notified();
                let _ = timeout(RENEWAL_INTERVAL, due).await;
            }
        }
    }

    /// Renews the lease or begins one. Returns whether nothing is left of dead gateways.
    async fn tend(&self) -> Result<bool, Away> {
        let link = self.link()?;
        let id = self.registration.id.borrow().clone();
        let next = self.registration.leases.load(Ordering::Relaxed) + 1;
        let (id, is_new) = match id {
            Some(id) => (id, false),
            None => (format!("{}.{next}", self.gateway()).into(), true),
        };
        let mut script = TEND.key(self.register());
        script
            .key(self.ended())
            .arg(&*id)
            .arg(self.terms.settings.lease_secs * 1000)
            .arg(u8::from(is_new))
            .arg(self.name("shares"))
            .arg(REMOVED_AT_ONCE)
            .arg(link.publish_command());
        let (has_lease, has_more, living): (bool, bool, Vec<String>) =
            link.invoke_beyond_bound(&script, id.len()).await?;
        let mut others: Vec<_> = living.iter().map(|id| name_of(id).to_owned()).collect();
        others.retain(|name| name != self.gateway());
        others.sort_unstable();
        others.dedup();
        let known = self.registration.others.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = others;
        match (has_lease, is_new) {
            (false, _) => self.forget_lease(&id),
            (true, true) => {
                tracing::info!(gateway = %id, "the lease of this gateway has begun");
                self.registration.leases.store(next, Ordering::Relaxed);
                self.registration.id.send_replace(Some(id));
            }
            (true, false) => {}
        }
        Ok(has_lease && !has_more)
    }

    /// Ends the lease, when the gateway ends. What it wrote is removed after `delay`.
    pub async fn end_lease(&self, delay: Duration) {
        let (Ok(link), Some(id)) = (self.link(), self.registration.id.borrow().clone()) else {
            return;
        };
        let mut script = LEAVE.key(self.register());
        script
            .key(self.ended())
            .arg(&*id)
            .arg(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        // Without an answer the lease runs out by itself.
        let _ = link.invoke_beyond_bound::<()>(&script, id.len()).await;
    }

    /// Returns the name of the key of all leases.
    #[must_use]
    pub fn register(&self) -> String {
        self.name("gateways")
    }

    fn ended(&self) -> String {
        self.name("gateways:ended")
    }
}

#[cfg(test)]
mod tests;
