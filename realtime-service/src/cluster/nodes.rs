//! The register of gateways in Redis: each has a lease, and each removes what dead ones left.
//!
//! A gateway has one name from its start to its end. Its *id* is the name and a number, which counts the
//! leases: a gateway whose lease has run out begins another, under another id. Whatever it wrote under
//! the id before is removed, and cannot be mistaken for what it writes now.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Script;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
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

/// Time for which a gateway without a lease is remembered while Redis is connected: it may be alive, and may be
/// about to begin another lease.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// A gateway's place in the register.
pub(super) struct Registration {
    name: String,
    leases: AtomicU64,
    /// The id under which the gateway has a lease, as far as it knows.
    id: watch::Sender<Option<Arc<str>>>,
    /// Notified when the lease has to be looked after at once.
    is_due: Notify,
    others: Mutex<Others>,
}

/// The other gateways that may be alive.
#[derive(Default)]
struct Others {
    /// The names, each with the time at which the gateway had a lease, or at which the connection was made in
    /// which it was looked for.
    seen: HashMap<String, Instant>,
    /// The generation of the connection in which the register was read last.
    generation: u64,
}

impl Others {
    /// Learns the names in the register: of the gateways with a lease, and of those that have ended.
    fn learn(&mut self, generation: u64, living: &[&str], ended: &[&str], now: Instant) {
        if std::mem::replace(&mut self.generation, generation) != generation {
            // While the connection was lost, nobody could be seen.
            self.seen.values_mut().for_each(|seen| *seen = now);
        }
        for name in living {
            self.seen.insert((*name).to_owned(), now);
        }
        self.seen.retain(|name, seen| {
            let has_ended = ended.contains(&&**name) && !living.contains(&&**name);
            !has_ended && now.duration_since(*seen) < REMEMBERED_FOR
        });
    }
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

    /// Returns the names of the other gateways that may be alive, in order: those with a lease, and those that
    /// had one in the last minute and have not ended.
    #[must_use]
    pub fn other_gateways(&self) -> Vec<String> {
        let others = self.registration.others.lock();
        let others = others.unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = others.seen.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Remembers gateways that have come since the register was read last.
    pub(super) fn remember<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let others = self.registration.others.lock();
        let mut others = others.unwrap_or_else(PoisonError::into_inner);
        for name in names {
            let seen = others.seen.entry(name.clone());
            seen.or_insert_with(Instant::now);
        }
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
        let (has_lease, has_more, living, ended): (bool, bool, Vec<String>, Vec<String>) =
            link.invoke_beyond_bound(&script, id.len()).await?;
        let mut living: Vec<_> = living.iter().map(|id| name_of(id)).collect();
        living.retain(|name| *name != self.gateway());
        let ended: Vec<_> = ended.iter().map(|id| name_of(id)).collect();
        let others = self.registration.others.lock();
        let mut others = others.unwrap_or_else(PoisonError::into_inner);
        others.learn(link.generation(), &living, &ended, Instant::now());
        drop(others);
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

    /// Returns the name of the key of all gateways that have ended.
    pub(super) fn ended(&self) -> String {
        self.name("gateways:ended")
    }
}

#[cfg(test)]
mod tests;
