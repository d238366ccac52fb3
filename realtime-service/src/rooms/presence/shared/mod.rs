//! Presence for several gateways: each writes the users of its own rooms to Redis, and reads those of
//! the others.
//!
//! A write has the state of a room at the moment of the write, so that many changes are one request, and
//! nothing waits but the names of rooms and users that have changed. While Redis is away not even these
//! wait: afterwards every room is written again.

pub(in crate::rooms) mod record;

use std::{
    collections::{HashMap, HashSet},
    iter::Peekable,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Script, Value, cmd};
use tokio::sync::Notify;

use self::record::{Page, UserRow, Written};
use crate::{
    cluster::{Away, Cluster, Link, name_of},
    rooms::{RoomName, User},
};

static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("write.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("read.lua")));

/// Maximum number of rows in one write. Others see a larger change in parts.
const ROWS: usize = 1000;

/// Maximum size of the rows in one write, in bytes, unless a single row is larger: each is a message to every
/// gateway with members in the room.
const WRITE_BYTES: usize = 64 * 1024;

/// About how many rows of a gateway one read returns.
const READ_ROWS: usize = 100;

/// Size of a large row, in bytes: 1,024 bytes of data, which the escapes of JSON double, a name, an issuer and
/// a subject.
const ROW_BYTES: usize = 4 * 1024;

/// Maximum number of changes that wait to be written. With more, everything is written again.
const MAXIMUM_CHANGES: usize = 100_000;

/// Maximum size of a page, in bytes: Redis returns a few rows more than it is asked for.
const PAGE_BYTES: usize = 2 * READ_ROWS * ROW_BYTES;

/// Presence of all rooms in Redis.
pub(in crate::rooms) struct SharedPresence {
    cluster: Arc<Cluster>,
    version: AtomicU64,
    pending: Mutex<Pending>,
    /// Notified when something is to be written.
    changed: Notify,
    outdated: Mutex<HashSet<RoomName>>,
    /// Notified when a room is to be read.
    is_outdated: Notify,
}

/// Changes that wait to be written.
#[derive(Default)]
struct Pending {
    rooms: HashMap<RoomName, Changes>,
    /// Number of users in `rooms`, and of the rooms.
    count: usize,
    /// Whether all rooms are to be written.
    is_everything: bool,
    /// The id under which rooms were written.
    id: Option<Arc<str>>,
    /// The rooms that were written under this id, each with the version.
    written: HashMap<RoomName, u64>,
}

/// Changes of one room.
#[derive(Default)]
pub(in crate::rooms) struct Changes {
    /// The users whose rows have changed.
    pub(in crate::rooms) users: HashSet<User>,
    /// Whether all rows are to be written.
    pub(in crate::rooms) is_whole: bool,
}

/// The state of a room at the moment of a write.
pub(in crate::rooms) struct Rows {
    /// Number of connections, those of guests included.
    pub(in crate::rooms) connections: usize,
    pub(in crate::rooms) rows: Vec<UserRow>,
}

/// Rows were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rooms) struct NotWritten;

impl SharedPresence {
    pub(in crate::rooms) fn new(cluster: Arc<Cluster>) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            version: AtomicU64::new(0),
            pending: Mutex::default(),
            changed: Notify::new(),
            outdated: Mutex::default(),
            is_outdated: Notify::new(),
        })
    }

    pub(in crate::rooms) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns the name of a room's channel, which is also the key of the set of gateways.
    pub(in crate::rooms) fn channel(&self, room: &RoomName) -> String {
        self.cluster.name(&format!("present:{{{}}}", room.key()))
    }

    /// Notes that the number of connections in a room has changed, or the row of a user.
    pub(in crate::rooms) fn mark(&self, room: &RoomName, user: Option<&User>) {
        let mut pending = self.pending();
        if pending.is_everything {
            return;
        }
        if !self.cluster.reaches(&self.cluster.name("")) || pending.count > MAXIMUM_CHANGES {
            pending.rooms = HashMap::new();
            pending.count = 0;
            pending.is_everything = true;
            drop(pending);
            self.changed.notify_one();
            return;
        }
        let mut added = 0;
        let changes = pending.rooms.entry(room.clone()).or_insert_with(|| {
            added += 1;
            Changes::default()
        });
        if let Some(user) = user {
            added += usize::from(changes.users.insert(user.clone()));
        }
        pending.count += added;
        drop(pending);
        self.changed.notify_one();
    }

    /// Notes that a room is to be written as a whole.
    pub(in crate::rooms) fn mark_whole(&self, room: RoomName) {
        self.pending().rooms.entry(room).or_default().is_whole = true;
        self.changed.notify_one();
    }

    /// Waits until Redis is connected, this gateway has a lease, and something is to be written. Takes it
    /// out, with the id of the lease; `all` names all rooms.
    pub(in crate::rooms) async fn take(
        &self,
        all: impl Fn() -> Vec<RoomName>,
    ) -> (Arc<str>, Vec<(RoomName, Changes)>) {
        let mut leases = self.cluster.leases();
        loop {
            self.cluster.connected().await;
            let id = leases.borrow_and_update().clone();
            if let Some(id) = id {
                let taken = self.take_now(&id, &all);
                if !taken.is_empty() {
                    return (id, taken);
                }
            }
            tokio::select! {
                () = self.changed.notified() => {}
                // The cluster holds the sender.
                _ = leases.changed() => {}
            }
        }
    }

    fn take_now(
        &self,
        id: &Arc<str>,
        all: &impl Fn() -> Vec<RoomName>,
    ) -> Vec<(RoomName, Changes)> {
        let mut pending = self.pending();
        let is_new = pending.id.as_ref() != Some(id);
        if is_new {
            pending.id = Some(id.clone());
            // Under the id before, whatever was written is removed by itself.
            pending.written.clear();
        }
        let is_everything = std::mem::take(&mut pending.is_everything) || is_new;
        pending.count = 0;
        let mut rooms = std::mem::take(&mut pending.rooms);
        if is_everything {
            let written: Vec<_> = pending.written.keys().cloned().collect();
            drop(pending);
            for room in all().into_iter().chain(written) {
                rooms.entry(room).or_default().is_whole = true;
            }
        }
        rooms.into_iter().collect()
    }

    /// Whether rows of a room are written, which others can follow.
    pub(in crate::rooms) fn is_written(&self, room: &RoomName) -> bool {
        self.pending().written.contains_key(room)
    }

    /// Writes the rows of a room; `None` when nobody of this gateway is in it. Without `is_whole`, the
    /// rows follow those of the write before.
    ///
    /// # Errors
    ///
    /// When they are not written, or it is not known. They have to be written as a whole then.
    pub(in crate::rooms) async fn write(
        &self,
        room: &RoomName,
        id: &Arc<str>,
        rows: Option<Rows>,
        is_whole: bool,
    ) -> Result<(), NotWritten> {
        let link = self.cluster.link().map_err(|_| NotWritten)?;
        let previous = self.pending().written.remove(room);
        let Some(Rows { connections, rows }) = rows else {
            if previous.is_some() || is_whole {
                let head = format!("D {id}");
                self.invoke(&link, (room, id), "drop", ["", &head], &[])
                    .await?;
            }
            return Ok(());
        };
        let mut previous = previous.filter(|_| !is_whole);
        let mut texts = rows.iter().map(record::encode).peekable();
        loop {
            let part = next_part(&mut texts);
            let is_complete = texts.peek().is_none();
            let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
            let written = Written {
                version,
                connections,
                is_complete,
            };
            let written = written.encode();
            let (kind, text) = match previous {
                None => ("replace", "-".to_owned()),
                Some(version) => ("change", version.to_string()),
            };
            let head = format!("C {id} {text} {written}");
            self.invoke(&link, (room, id), kind, [&written, &head], &part)
                .await?;
            previous = Some(version);
            if is_complete {
                break;
            }
        }
        let mut pending = self.pending();
        if let Some(version) = previous.filter(|_| pending.id.as_ref() == Some(id)) {
            pending.written.insert(room.clone(), version);
        }
        Ok(())
    }

    async fn invoke(
        &self,
        link: &Link,
        (room, id): (&RoomName, &Arc<str>),
        kind: &str,
        [written, head]: [&str; 2],
        rows: &[[String; 2]],
    ) -> Result<(), NotWritten> {
        let channel = self.channel(room);
        let mut script = WRITE.key(self.cluster.register());
        script
            .key(&channel)
            .key(format!("{channel}:{id}"))
            .key(self.cluster.name(&format!("shares:{id}")))
            .arg(link.publish_command())
            .arg(&**id)
            .arg(kind)
            .arg(written)
            .arg(head);
        let mut bytes = head.len();
        for texts in rows {
            bytes += bytes_of(texts);
            script.arg(&texts[..]);
        }
        match link.invoke::<bool>(&script, bytes).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.cluster.forget_lease(id);
                Err(NotWritten)
            }
            Err(Away) => Err(NotWritten),
        }
    }

    /// Reads the first rows of all other gateways about a room.
    pub(in crate::rooms) async fn read(
        &self,
        room: &RoomName,
        link: &Link,
    ) -> Result<Vec<Page>, Away> {
        let others = self.cluster.other_gateways().len().max(1);
        let channel = self.channel(room);
        let mut script = READ.key(&channel);
        script.arg(READ_ROWS);
        let reading = link.invoke(&script, 0);
        let most = PAGE_BYTES * others;
        let pages: Vec<Value> = self.cluster.read(&channel, most, reading).await?;
        let pages = pages.into_iter().map(record::page);
        let pages: Vec<Page> = pages.collect::<Option<_>>().ok_or(Away).inspect_err(|_| {
            tracing::error!(%room, "the presence in Redis cannot be read");
        })?;
        let is_other = |page: &Page| name_of(&page.id) != self.cluster.gateway();
        Ok(pages.into_iter().filter(is_other).collect())
    }

    /// Reads further rows of one gateway, and returns them with the place to read on.
    pub(in crate::rooms) async fn read_on(
        &self,
        room: &RoomName,
        link: &Link,
        (id, cursor): (&str, u64),
    ) -> Result<(u64, Vec<UserRow>), Away> {
        let channel = self.channel(room);
        let mut scan = cmd("HSCAN");
        scan.arg(format!("{channel}:{id}")).arg(cursor);
        scan.arg("COUNT").arg(READ_ROWS);
        let reading = link.query(&scan);
        let (cursor, values): (u64, Vec<Value>) =
            self.cluster.read(&channel, PAGE_BYTES, reading).await?;
        Ok((cursor, record::rows(values).ok_or(Away)?))
    }

    /// Notes that the users of a room on other gateways have to be read.
    pub(in crate::rooms) fn mark_outdated(&self, room: &RoomName) {
        self.lock_outdated().insert(room.clone());
        self.is_outdated.notify_one();
    }

    /// Waits until rooms have to be read, for `limit` at most, and takes them out.
    pub(in crate::rooms) async fn outdated(&self, limit: Duration) -> Vec<RoomName> {
        if self.lock_outdated().is_empty() {
            let _ = tokio::time::timeout(limit, self.is_outdated.notified()).await;
        }
        self.lock_outdated().drain().collect()
    }

    /// Number of requests that have written rows.
    #[cfg(test)]
    pub(in crate::rooms) fn writes(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_outdated(&self) -> MutexGuard<'_, HashSet<RoomName>> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the rows of one write out: [`ROWS`] and [`WRITE_BYTES`] of them at most, and one at least.
fn next_part(rows: &mut Peekable<impl Iterator<Item = [String; 2]>>) -> Vec<[String; 2]> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while part.len() < ROWS
        && let Some(row) =
            rows.next_if(|row| part.is_empty() || bytes + bytes_of(row) <= WRITE_BYTES)
    {
        bytes += bytes_of(&row);
        part.push(row);
    }
    part
}

fn bytes_of(row: &[String; 2]) -> usize {
    row.iter().map(String::len).sum()
}

#[cfg(test)]
mod tests;
