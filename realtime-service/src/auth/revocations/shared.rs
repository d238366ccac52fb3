//! The revocations of all gateways, as a stream in Redis.
//!
//! A revocation is added to the stream and published in one step. Each gateway applies it when it hears
//! of it, and then says so to the gateway that added it. After a loss of the connection, and every two
//! seconds, a gateway reads what was added since it last read. When the stream itself may have been lost,
//! or something could not be added to it, the gateway compares: it reads the whole stream, and adds
//! whatever it has and the stream does not.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use redis::{Script, Value, cmd, from_redis_value_ref};
use shared_claims::VerifiedLogout;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{sleep, timeout},
};

use super::{Record, entries::Entries, line_of, log::Log};
use crate::{
    clock::{unix_secs, wall_now},
    cluster::{Away, Cluster, Link, Listener},
    ids::random_id,
};

/// Adds a revocation to the stream, and publishes it.
static ADD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("add.lua")));

/// Number of revocations that are read at once.
const PAGE: usize = 1000;

/// Maximum time for which the answer to an issuer waits for other gateways. One that is slower applies
/// the revocation later.
const HEARD_TIMEOUT: Duration = Duration::from_millis(500);

/// Interval at which the stream is read although nothing is known to be missing.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// The wait before the stream is read again, when it could not be read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Ends the sessions that a revocation concerns.
type EndSessions = Box<dyn Fn(&VerifiedLogout) + Send + Sync>;

/// The revocations of all gateways.
pub(super) struct SharedRevocations {
    cluster: Arc<Cluster>,
    entries: Arc<Entries>,
    log: Arc<Log>,
    /// The random name of this gateway, to which others say what they have heard of.
    gateway: String,
    stream: String,
    channel: String,
    /// Maximum number of revocations in the stream.
    most: usize,
    /// The longest time for which a revocation is in force.
    lifetime: Duration,
    end_sessions: OnceLock<EndSessions>,
    progress: Mutex<Progress>,
    /// Notified when the stream has to be read.
    outdated: Notify,
    /// The generation in which the stream was read.
    caught_up: watch::Sender<u64>,
    awaited: Mutex<HashMap<String, Awaited>>,
}

/// Place up to which the stream was read.
#[derive(Default)]
struct Progress {
    /// The id of the last revocation that was read. One that was heard of does not count: the channel may
    /// have lost those before it.
    last: Option<String>,
    /// The tenure and the incarnation of the server that the id belongs to.
    source: Option<(String, String)>,
    /// Whether something may be missing in the stream.
    is_incomplete: bool,
}

/// The gateways that have yet to hear of a revocation.
struct Awaited {
    heard: usize,
    expected: Option<usize>,
    done: Option<oneshot::Sender<()>>,
}

/// The random name of a revocation while it is awaited, also if whoever waits gives up.
struct Ticket<'a> {
    revocations: &'a SharedRevocations,
    text: String,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.revocations.awaited().remove(&self.text);
    }
}

/// Takes what other gateways have heard of.
struct Heard(Weak<SharedRevocations>);

impl SharedRevocations {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        entries: Arc<Entries>,
        log: Arc<Log>,
        (most, lifetime): (usize, Duration),
    ) -> Arc<Self> {
        Arc::new(Self {
            stream: cluster.name("revocations"),
            channel: cluster.name("revocations:live"),
            cluster,
            entries,
            log,
            gateway: random_id(),
            most,
            lifetime,
            end_sessions: OnceLock::new(),
            progress: Mutex::default(),
            outdated: Notify::new(),
            caught_up: watch::Sender::new(0),
            awaited: Mutex::default(),
        })
    }

    /// Has `end_sessions` called with each revocation of another gateway.
    pub(super) fn on_revoked(&self, end_sessions: EndSessions) {
        // There is one registry of sessions.
        let _ = self.end_sessions.set(end_sessions);
    }

    /// Adds a revocation, and waits until every gateway that is there has applied it.
    ///
    /// # Errors
    ///
    /// When Redis does not have it. It is added when Redis is there again.
    pub(super) async fn add(&self, line: &str) -> Result<(), Away> {
        let ticket = Ticket {
            revocations: self,
            text: random_id(),
        };
        let heard = self.expect(&ticket.text);
        let added = self.publish(line, &ticket.text).await;
        let gateways = added.inspect_err(|_| {
            self.progress().is_incomplete = true;
            self.outdated.notify_one();
        })?;
        self.settle(&ticket.text, |awaited| awaited.expected = Some(gateways));
        if timeout(HEARD_TIMEOUT, heard).await.is_err() {
            tracing::warn!("a gateway has not said in time that it applied a revocation");
        }
        Ok(())
    }

    /// Begins to count the gateways that have heard of a revocation.
    fn expect(&self, ticket: &str) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        let awaited = Awaited {
            heard: 0,
            expected: None,
            done: Some(done),
        };
        self.awaited().insert(ticket.to_owned(), awaited);
        heard
    }

    async fn publish(&self, line: &str, ticket: &str) -> Result<usize, Away> {
        let link = self.cluster.link()?;
        let mut script = ADD.key(&self.stream);
        script
            .arg(&self.channel)
            .arg(format!("{} {ticket}", self.gateway))
            .arg(line)
            .arg(self.most)
            .arg(u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX))
            .arg(link.publish_command());
        link.invoke_beyond_bound(&script, line.len()).await
    }

    /// Follows the stream; never returns.
    pub(super) async fn run(self: &Arc<Self>) {
        let revocations: Weak<Self> = Arc::downgrade(self);
        let heard = Arc::new(Heard(revocations.clone()));
        let weak: Weak<Heard> = Arc::downgrade(&heard);
        // A subscription that is not confirmed now is confirmed later, and then everything is read.
        let _ = self
            .cluster
            .listen(&self.heard_channel(&self.gateway), weak)
            .await;
        let _ = self.cluster.listen(&self.channel, revocations).await;
        loop {
            self.cluster.connected().await;
            match self.catch_up().await {
                Ok(()) => {
                    // The channel may have lost a revocation, and nothing says so.
                    let _ = timeout(READ_INTERVAL, self.outdated.notified()).await;
                }
                Err(Away) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Waits until the stream was read once, for as long as Redis may take.
    pub(super) async fn caught_up(&self, limit: Duration) {
        let mut caught_up = self.caught_up.subscribe();
        let waited = timeout(limit, caught_up.wait_for(|generation| *generation > 0)).await;
        if waited.is_err() {
            tracing::warn!(
                "Redis cannot be reached: revocations of other gateways are not known yet"
            );
        }
    }

    /// Reads what was added since the last time, or compares everything.
    async fn catch_up(&self) -> Result<(), Away> {
        let link = self.cluster.link()?;
        let source = (link.tenure().to_owned(), link.incarnation().to_owned());
        let mut last = {
            let mut progress = self.progress();
            let is_same = progress.source.as_ref() == Some(&source);
            let last = progress.last.take();
            last.filter(|_| is_same && !progress.is_incomplete)
        };
        let is_comparing = last.is_none();
        // A revocation that cannot be added from now on makes another comparison necessary.
        self.progress().is_incomplete = false;
        let compared = self.read_on(&link, &mut last, is_comparing).await;
        let mut progress = self.progress();
        if compared.is_err() {
            // Lines that were read need not be read again, and a comparison has to begin anew.
            progress.is_incomplete |= is_comparing;
            progress.last = last;
            return compared;
        }
        progress.source = Some(source);
        progress.last = Some(last.unwrap_or_else(|| "0-0".to_owned()));
        self.caught_up.send_replace(link.generation());
        Ok(())
    }

    async fn read_on(
        &self,
        link: &Link,
        last: &mut Option<String>,
        is_comparing: bool,
    ) -> Result<(), Away> {
        let (mut seen, hasher) = (HashSet::new(), RandomState::new());
        loop {
            let page = self.read_page(link, last.as_deref()).await?;
            let mut lines = Vec::new();
            for (id, record) in &page {
                lines.extend(self.apply(record).then(|| line_of(record)));
                *last = Some(id.clone());
                let keys = record.keys().filter(|_| is_comparing);
                seen.extend(keys.map(|key| hasher.hash_one((key, record.iat, record.until))));
            }
            // The disk sets the pace, however long the stream is.
            self.log.append_all(lines).await;
            if page.len() < PAGE {
                break;
            }
        }
        if !is_comparing {
            return Ok(());
        }
        let (mut shard, now) = (0, unix_secs(wall_now()));
        while let Some(entries) = self.entries.copy(shard, now) {
            for (key, entry) in entries {
                if !seen.contains(&hasher.hash_one((&*key, entry.iat, entry.until))) {
                    let scope = std::slice::from_ref(&key.1);
                    let record = Record::of(&key.0, scope, (entry.iat, entry.until));
                    self.publish(&line_of(&record), &random_id()).await?;
                }
            }
            shard += 1;
        }
        Ok(())
    }

    async fn read_page(
        &self,
        link: &Link,
        last: Option<&str>,
    ) -> Result<Vec<(String, Record)>, Away> {
        let after = last.map_or_else(|| "-".to_owned(), |last| format!("({last}"));
        let mut range = cmd("XRANGE");
        range.arg(&self.stream).arg(after).arg("+");
        range.arg("COUNT").arg(PAGE);
        let page: Vec<(String, Vec<Value>)> = link.query(&range).await?;
        let records = page.into_iter().map(|(id, fields)| {
            let line: Option<Vec<u8>> = fields.get(1).and_then(|it| from_redis_value_ref(it).ok());
            let record = line.and_then(|line| serde_json::from_slice(&line).ok());
            if record.is_none() {
                tracing::error!("an entry of the stream of revocations cannot be read");
            }
            // An empty record concerns nobody, and has lapsed.
            (id, record.unwrap_or_default())
        });
        Ok(records.collect())
    }

    /// Applies a revocation of another gateway, unless it is known. Returns whether the file lacks it.
    fn apply(&self, record: &Record) -> bool {
        let now = unix_secs(wall_now());
        let is_known = |key| {
            let known = self.entries.get(&key, now);
            known.is_some_and(|known| known.iat >= record.iat && known.until >= record.until)
        };
        if record.until <= now || record.keys().all(is_known) {
            return false;
        }
        // The bound is not checked: the gateway that took the revocation has checked it.
        for key in record.keys() {
            self.entries.insert(key, record.entry());
        }
        if let Some(end_sessions) = self.end_sessions.get() {
            end_sessions(&record.logout());
        }
        true
    }

    /// Takes a revocation from the channel, and tells the gateway that added it.
    fn receive_line(self: &Arc<Self>, payload: &str) -> Option<()> {
        let mut parts = payload.splitn(4, ' ');
        let (_id, gateway, ticket) = (parts.next()?, parts.next()?, parts.next()?);
        let record: Record = serde_json::from_str(parts.next()?).ok()?;
        if self.apply(&record) {
            self.log.append_later(line_of(&record));
        }
        if gateway == self.gateway {
            self.settle(ticket, |awaited| awaited.heard += 1);
            return Some(());
        }
        let (channel, ticket) = (self.heard_channel(gateway), ticket.to_owned());
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            if let Ok(link) = cluster.link() {
                // The other gateway waits for a moment only.
                let _ = link.publish(&channel, &ticket).await;
            }
        });
        Some(())
    }

    /// Changes what is awaited of a revocation, and tells who waits when all have heard of it.
    fn settle(&self, ticket: &str, change: impl FnOnce(&mut Awaited)) {
        let mut awaited = self.awaited();
        let Some(entry) = awaited.get_mut(ticket) else {
            return;
        };
        change(entry);
        let is_done = entry
            .expected
            .is_some_and(|expected| entry.heard >= expected);
        if is_done && let Some(done) = entry.done.take() {
            // The receiver may have given up.
            let _ = done.send(());
        }
    }

    fn heard_channel(&self, gateway: &str) -> String {
        self.cluster.name(&format!("revocations:heard:{gateway}"))
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<String, Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for SharedRevocations {
    fn receive(self: Arc<Self>, payload: &[u8], _: u64) {
        let received = str::from_utf8(payload).ok();
        let received = received.and_then(|text| self.receive_line(text));
        if received.is_none() {
            tracing::error!("a revocation of another gateway cannot be read");
        }
    }

    fn resume(self: Arc<Self>, _: u64) {
        self.outdated.notify_one();
    }
}

impl Listener for Heard {
    fn receive(self: Arc<Self>, payload: &[u8], _: u64) {
        if let (Some(revocations), Ok(ticket)) = (self.0.upgrade(), str::from_utf8(payload)) {
            revocations.settle(ticket, |awaited| awaited.heard += 1);
        }
    }

    fn resume(self: Arc<Self>, _: u64) {}
}
