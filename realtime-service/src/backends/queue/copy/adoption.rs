//! Adopting the queue of a dead gateway: its events go into the file here with their ids, in their order, and
//! what it has left open is closed.
//!
//! The adopted copy is removed at the end. Until then another gateway can begin again when the adopter dies: an
//! event is sent at least once, and the first one of a subject before the second.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use redis::{Script, cmd};
use tokio::time::{Instant, sleep};

use super::{Keys, QueueCopy, RENEWAL_INTERVAL};
use crate::{
    backends::queue::{NotStored, journal::complete_lost, now},
    cluster::Away,
};

static REGISTER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("register.lua")));
static ADOPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("adopt.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("read.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));

/// Maximum number of queues that are looked at in one round.
const QUEUES_AT_ONCE: usize = 16;

/// Maximum number of rows of one page, and its size in bytes, unless its last row is larger.
const PAGE_ROWS: usize = 500;
const PAGE_BYTES: usize = 256 * 1024;

/// Time for which a gateway can come back with the file of an adopted queue and learn that it was adopted, in
/// milliseconds: a week.
const MARK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The beginning of the range of all names.
const FROM_THE_START: &str = "-";

/// The adoptions that have begun, by the ids of the queues.
pub(super) type Adoptions = HashMap<String, Adoption>;

/// An adoption that has begun.
pub(super) struct Adoption {
    /// The rest of the range of names.
    rest: String,
    /// The last change that an import made, and the number of rows.
    last: i64,
    rows: usize,
    /// Number of rows that cannot be read: another version may have written them.
    unreadable: usize,
}

impl Default for Adoption {
    fn default() -> Self {
        Self {
            rest: FROM_THE_START.to_owned(),
            last: 0,
            rows: 0,
            unreadable: 0,
        }
    }
}

/// The time since which Redis answers without a break. After an outage every gateway has the time of a lease to renew
/// its own, before others adopt its queue.
#[derive(Default)]
pub(super) struct Uptime(Option<(u64, Instant)>);

impl Uptime {
    /// Notes an answer that came over the connection of a generation, or none. Returns for how long they have come.
    pub(super) fn note(&mut self, generation: Option<u64>, now: Instant) -> Duration {
        let before = self.0.filter(|(same, _)| Some(*same) == generation);
        self.0 = generation.map(|one| before.unwrap_or((one, now)));
        self.0.map_or(Duration::ZERO, |(_, since)| now - since)
    }
}

/// The adoption goes on later: Redis is away, the file cannot be written, or the copy here is behind.
#[derive(Debug)]
pub(super) struct Interrupted;

impl From<Away> for Interrupted {
    fn from(_: Away) -> Self {
        Self
    }
}

impl From<NotStored> for Interrupted {
    fn from(_: NotStored) -> Self {
        Self
    }
}

impl QueueCopy {
    /// Adopts queues that no gateway holds, one after another; never returns.
    pub(super) async fn adopt_queues(&self) {
        let (mut begun, mut uptime) = (Adoptions::new(), Uptime::default());
        loop {
            let (generation, lapsed) = self.register().await.ok().unzip();
            let is_late = uptime.note(generation, Instant::now()) >= self.cluster.lease();
            for id in lapsed.into_iter().flatten().filter(|_| is_late) {
                if *id != *self.progress.id() && self.adopt(&id, &mut begun).await.is_err() {
                    // The next round goes on. After an outage the others renew their leases first.
                    break;
                }
            }
            sleep(RENEWAL_INTERVAL).await;
        }
    }

    /// Registers the queue of this gateway. Returns the generation of the connection, and the ids of queues that may be
    /// without a gateway.
    pub(super) async fn register(&self) -> Result<(u64, Vec<String>), Away> {
        let name = self.register_name();
        let mut script = REGISTER.key(&name);
        script.arg(&*self.progress.id()).arg(self.lease_ms());
        script.arg(QUEUES_AT_ONCE);
        let link = self.cluster.link_of(&name)?;
        let answer = link.invoke_beyond_bound(&script, 0);
        let lapsed = link.unless_silent(answer).await??;
        Ok((link.generation(), lapsed))
    }

    /// Adopts a queue if no gateway holds it, or goes on with the adoption.
    pub(super) async fn adopt(&self, id: &str, begun: &mut Adoptions) -> Result<(), Interrupted> {
        if !self.progress.has(0) {
            return Err(Interrupted);
        }
        let keys = Keys::new(&self.cluster, id);
        match self.claim(&keys).await? {
            1 => {}
            0 => return Ok(()),
            _ => {
                // There is nothing to adopt. A gateway that lives registers its queue again.
                begun.remove(id);
                return Ok(self.unregister(id).await?);
            }
        }
        let adoption = begun.entry(id.to_owned()).or_insert_with(|| {
            tracing::info!(queue = id, "adopting the queue of a gateway that is lost");
            Adoption::default()
        });
        while let Some(last) = self.import_page(&keys, adoption).await? {
            adoption.rest = format!("({last}");
        }
        // The rows are in the file, and must be in its copy as well.
        if !self.progress.has(adoption.last) {
            return Err(Interrupted);
        }
        let Adoption {
            rows, unreadable, ..
        } = *adoption;
        if unreadable > 0 {
            // The copy stays for a gateway that can read it, or whose file it is of.
            return Ok(());
        }
        if self.release(&keys).await? {
            begun.remove(id);
            self.metrics.queue_adopted();
            tracing::warn!(
                queue = id,
                rows,
                "adopted the queue of a gateway that is lost"
            );
            self.unregister(id).await?;
        }
        Ok(())
    }

    /// Takes the lease of a queue that no gateway holds. Returns 1, or 0 when a gateway holds it, or -1 when there is no
    /// copy of it.
    pub(super) async fn claim(&self, keys: &Keys) -> Result<i64, Away> {
        let mut script = ADOPT.key(&keys.lease);
        script.key(&keys.adopted).key(&keys.rows);
        script.key(&keys.draft_rows).key(&keys.draft_order);
        script.arg(&self.adopter).arg(self.lease_ms()).arg(MARK_MS);
        self.invoke(keys, &script, 0).await
    }

    /// Removes the copy of an adopted queue. Returns whether this gateway had its lease.
    async fn release(&self, keys: &Keys) -> Result<bool, Away> {
        let mut script = RELEASE.key(&keys.lease);
        script.key(&keys.adopted).key(&keys.rows).key(&keys.order);
        script.key(&keys.draft_rows).key(&keys.draft_order);
        script.arg(&self.adopter).arg(MARK_MS);
        self.invoke(keys, &script, 0).await
    }

    /// Stores the next rows. Returns the name of the last one; `None` when there are no more.
    pub(super) async fn import_page(
        &self,
        keys: &Keys,
        adoption: &mut Adoption,
    ) -> Result<Option<String>, Interrupted> {
        let mut script = READ.key(&keys.lease);
        script.key(&keys.rows).key(&keys.order);
        script.arg(&self.adopter).arg(self.lease_ms());
        script.arg(&adoption.rest).arg(PAGE_ROWS).arg(PAGE_BYTES);
        let reading = self.invoke(keys, &script, 0);
        let page: Option<Vec<Vec<u8>>> = self.cluster.read(&keys.rows, PAGE_BYTES, reading).await?;
        // Without the lease, another gateway adopts the queue from its beginning.
        let page = page.ok_or(Interrupted)?;
        let Some(name) = page.len().checked_sub(2).and_then(|last| page.get(last)) else {
            return Ok(None);
        };
        let name = String::from_utf8_lossy(name).into_owned();
        adoption.rows += page.len() / 2;
        let lease = keys.lease.clone();
        let imported = self.queue.run(move |store| {
            let mut unreadable = 0;
            for pair in page.chunks(2) {
                let [name, row] = pair else { continue };
                let at = now();
                if !store.import(row, at, &|draft| complete_lost(draft, at))? {
                    unreadable += 1;
                    let row = String::from_utf8_lossy(name);
                    tracing::error!(lease, %row, "a row of an adopted queue cannot be read, and is kept in Redis");
                }
            }
            Ok((store.last_change()?, unreadable))
        });
        let (last, unreadable) = imported.await?;
        adoption.last = last;
        adoption.unreadable += unreadable;
        self.queue.wake();
        Ok(Some(name))
    }

    async fn unregister(&self, id: &str) -> Result<(), Away> {
        let name = self.register_name();
        let mut remove = cmd("ZREM");
        remove.arg(&name).arg(id);
        let link = self.cluster.link_of(&name)?;
        link.query::<i64>(&remove).await.map(drop)
    }

    fn register_name(&self) -> String {
        self.cluster.name("queues")
    }
}
