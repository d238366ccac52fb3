//! A room's log in Redis, which several gateways share. A script of the server numbers a message, keeps
//! it, finds a repeated id and publishes the message, in one step.
//!
//! A log that was lost begins a new epoch: when its keys have gone, and when another run of the server
//! wrote them, since a server that was restarted or replaced may have lost the newest messages.

mod record;

use std::{
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use redis::{FromRedisValue, Script, Value};

use super::{
    Appended, Draft, Extract, LogError, MemoryLog, MemoryLogs, Message, MessageKey, Position,
    Selection,
    recent_ids::{ID_LIFETIME, MOST_IDS},
};
use crate::{
    clock,
    cluster::{Away, Cluster, Invocation, Link, Listener},
    config::HistorySettings,
    ids::random_id,
    rooms::{Epoch, RoomName},
};

static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("log.lua"), include_str!("append.lua"))));
static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("log.lua"), include_str!("read.lua"))));

/// Time after which Redis forgets the epoch of a room that nobody publishes in, subscribes to or
/// reads. It exceeds the longest `history.secs`.
const ROOM_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The same for a room that had no message: any name can be subscribed to or read.
const EMPTY_ROOM_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The ends of the names of a room's keys, and of its channel.
const KEYS: [&str; 4] = ["log", "messages", "ids", "id-order"];
const CHANNEL: &str = "live";

/// Number of arguments of each script.
const ARGUMENTS: usize = 14;

/// Parts that all logs in Redis share.
pub(in crate::rooms) struct RedisLogs {
    cluster: Arc<Cluster>,
    settings: HistorySettings,
    /// The logs of rooms that go on while Redis is away.
    alone: Arc<MemoryLogs>,
}

/// A room's log in Redis.
pub(in crate::rooms) struct RedisLog {
    room: RoomName,
    logs: Arc<RedisLogs>,
    /// The name of the room's channel: the beginning of its keys, and [`CHANNEL`].
    channel: String,
    listener: OnceLock<Weak<dyn Listener>>,
    /// The log of this gateway alone, from when Redis was away.
    alone: Mutex<Option<Arc<MemoryLog>>>,
}

/// The answer to a message: the epoch, the offset, whether it was appended before, and then the record that is kept.
type Answer = (String, u64, bool, Option<Vec<u8>>);

/// A message of a room's channel: a message of the room, or the beginning of an epoch.
pub(in crate::rooms) struct Notice<'a> {
    pub(in crate::rooms) position: Position,
    record: &'a [u8],
}

impl RedisLogs {
    pub(in crate::rooms) fn new(
        cluster: Arc<Cluster>,
        settings: HistorySettings,
        alone: Arc<MemoryLogs>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            settings,
            alone,
        })
    }

    /// Whether a log may go on in the memory of this gateway, which its room has to keep then.
    pub(in crate::rooms) fn may_go_on_alone(&self) -> bool {
        self.cluster.goes_on_alone()
    }
}

impl RedisLog {
    pub(in crate::rooms) fn new(room: RoomName, logs: Arc<RedisLogs>) -> Self {
        let cluster = &logs.cluster;
        // Keys with the same text in braces are on the same server of a Redis Cluster. No name of a room and
        // no namespace has braces.
        let channel = cluster.name(&["{", room.key(), "}:", CHANNEL].concat());
        Self {
            channel,
            room,
            listener: OnceLock::new(),
            alone: Mutex::default(),
            logs,
        }
    }

    /// Has `listener` get the messages of all gateways: from when this returns, if the server can be reached, and
    /// later otherwise. The future waits until the server has confirmed it.
    pub(in crate::rooms) fn listen(
        &self,
        listener: Weak<dyn Listener>,
    ) -> impl Future<Output = Result<(), LogError>> + use<> {
        let listener = self.listener.get_or_init(|| listener);
        let listening = self.logs.cluster.listen(&self.channel, listener.clone());
        async move { listening.await.map_err(LogError::from) }
    }

    /// Ends what [`Self::listen`] began.
    pub(super) fn ignore(&self) {
        if let Some(listener) = self.listener.get() {
            self.logs.cluster.ignore(&self.channel, listener);
        }
    }

    pub(in crate::rooms) async fn append(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, LogError> {
        let cluster = &self.logs.cluster;
        if !cluster.reaches(&self.channel) {
            return self.append_alone(draft, key);
        }
        let record = record::encode(draft);
        let id = key.map(|key| format!("{}\n{}", key.publisher, key.id));
        let id = id.unwrap_or_default();
        let prepare = |link: &Link| {
            let mut script = self.script(&APPEND, link, record.len() + id.len());
            script
                .arg(&[&record])
                .arg(&[&id])
                .number(ID_LIFETIME.as_millis() as u64)
                .number(MOST_IDS as u64);
            script
        };
        let appended = cluster.invoke(&self.channel, record.len(), prepare).await?;
        let ((epoch, offset, is_duplicate, original), generation): (Answer, u64) = appended;
        let position = position(epoch, offset);
        let original = original.and_then(|record| record::decode(&self.room, &record));
        Ok(Appended {
            position,
            message: None,
            is_duplicate,
            original: original.map(Box::new),
            generation,
        })
    }

    /// Appends to the log of this gateway alone, if the settings have it so.
    fn append_alone(&self, draft: &Draft, key: Option<&MessageKey>) -> Result<Appended, LogError> {
        if !self.logs.cluster.goes_on_alone() {
            return Err(LogError::Unavailable);
        }
        let generation = self.generation_alone();
        let appended = self.alone().append(draft, key, clock::now().timer)?;
        Ok(Appended {
            generation,
            ..appended
        })
    }

    pub(super) async fn read(&self, selection: &Selection) -> Result<Extract, LogError> {
        let cluster = &self.logs.cluster;
        if !cluster.reaches(&self.channel) {
            return self.read_alone(selection);
        }
        let (epoch, offset) = match &selection.since {
            Some(since) => (since.epoch.as_str(), since.offset),
            None => ("", 0),
        };
        let limit = selection.limit;
        let limit = limit.map_or("-1".to_owned(), |limit| {
            limit.min(MOST_MESSAGES).to_string()
        });
        let prepare = |link: &Link| {
            let mut script = self.script(&READ, link, epoch.len());
            script
                .arg(&[epoch])
                .number(offset)
                .number(selection.last.min(MOST_MESSAGES) as u64)
                .arg(&[&limit]);
            script
        };
        let reading = cluster.invoke(&self.channel, epoch.len(), prepare);
        let most = self.logs.settings.bytes;
        let (answer, generation) = cluster.read(&self.channel, most, reading).await?;
        let extract = self.extract(answer, generation);
        extract.ok_or(LogError::Unavailable)
    }

    /// Reads the log of this gateway alone, if the settings have it so and there is one.
    fn read_alone(&self, selection: &Selection) -> Result<Extract, LogError> {
        let cluster = &self.logs.cluster;
        let generation = self.generation_alone();
        let alone = self.lock_alone().clone();
        let alone = alone.filter(|_| cluster.goes_on_alone());
        let extract = alone.map(|log| log.read(selection, clock::now().timer));
        let extract = extract.ok_or(LogError::Unavailable)?;
        Ok(Extract {
            generation,
            ..extract
        })
    }

    /// Returns a place in the log of this gateway alone, for a subscriber who enters while Redis is
    /// away, and the room's epoch is not known.
    pub(in crate::rooms) fn position_alone(&self) -> (Position, u64) {
        let generation = self.generation_alone();
        (self.alone().newest(), generation)
    }

    /// Returns the generation that begins when Redis is connected, or has begun.
    pub(in crate::rooms) fn generation_shared(&self) -> u64 {
        self.generation_alone() + 1
    }

    fn generation_alone(&self) -> u64 {
        self.logs.cluster.generation_alone(&self.channel)
    }

    /// Returns the connection to the server of the log; `None` while there is none.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.logs.cluster.link_of(&self.channel).ok()
    }

    pub(super) fn is_away(&self) -> bool {
        !self.logs.cluster.reaches(&self.channel)
    }

    /// Whether messages of the channel and answers come over two connections, so that their order does
    /// not say which epoch is the later one.
    pub(in crate::rooms) fn has_two_connections(&self) -> bool {
        self.logs.cluster.has_two_connections()
    }

    /// Waits until Redis is connected.
    pub(super) async fn reachable(&self) {
        self.logs.cluster.connected_to(&self.channel).await;
    }

    /// Takes a message of the channel apart.
    pub(in crate::rooms) fn notice<'a>(&self, payload: &'a [u8]) -> Option<Notice<'a>> {
        let mut parts = payload.splitn(3, |byte| *byte == b' ');
        let epoch = str::from_utf8(parts.next()?).ok()?.to_owned();
        let offset = str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        Some(Notice {
            position: position(epoch, offset),
            record: parts.next()?,
        })
    }

    /// The message of a notice. Without one, the log has to be read.
    pub(in crate::rooms) fn message(&self, notice: &Notice<'_>) -> Option<Arc<Message>> {
        record::message(&self.room, notice.record, &notice.position).map(Arc::new)
    }

    /// Applies to the log of this gateway alone, if there is one.
    pub(super) fn with_alone<T>(&self, work: impl FnOnce(&MemoryLog) -> T) -> Option<T> {
        self.lock_alone().as_deref().map(work)
    }

    fn script(&self, script: &'static Script, link: &Link, bytes: usize) -> Invocation {
        let settings = &self.logs.settings;
        let mut script = Invocation::new(script, KEYS.len(), ARGUMENTS, bytes);
        let name = self.channel.trim_end_matches(CHANNEL);
        for key in KEYS {
            script.arg(&[name, key]);
        }
        script
            .arg(&[link.tenure()])
            .arg(&[random_id()])
            .arg(&[&self.channel])
            .number(settings.messages as u64)
            .number(settings.secs * 1000)
            .number(settings.bytes as u64)
            .number(ROOM_LIFETIME.as_secs())
            .number(EMPTY_ROOM_LIFETIME.as_secs())
            .arg(&[link.former_tenures()])
            .arg(&[link.publish_command()]);
        script
    }

    fn extract(&self, answer: Vec<Value>, generation: u64) -> Option<Extract> {
        let mut values = answer.into_iter();
        let epoch = String::from_redis_value(values.next()?).ok()?;
        let mut number = || i64::from_redis_value(values.next()?).ok();
        let (offset, mut recovered, more) = (number()?, number()?, number()?);
        let position = position(epoch, u64::try_from(offset).ok()?);
        let mut messages = Vec::with_capacity(values.len() / 2);
        while let Some(offset) = values.next() {
            let place = Position {
                offset: u64::from_redis_value(offset).ok()?,
                ..position.clone()
            };
            let Some(Value::BulkString(record)) = values.next() else {
                return None;
            };
            let Some(message) = record::message(&self.room, &record, &place) else {
                tracing::error!(room = %self.room, "a message in Redis cannot be read");
                recovered = recovered.min(0);
                continue;
            };
            messages.push(Arc::new(message));
        }
        Some(Extract {
            position,
            messages,
            more: more == 1,
            recovered: (recovered >= 0).then_some(recovered == 1),
            generation,
        })
    }

    fn alone(&self) -> Arc<MemoryLog> {
        let mut alone = self.lock_alone();
        let open = || Arc::new(MemoryLog::new(self.logs.alone.clone()));
        alone.get_or_insert_with(open).clone()
    }

    fn lock_alone(&self) -> std::sync::MutexGuard<'_, Option<Arc<MemoryLog>>> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More messages than any log keeps.
const MOST_MESSAGES: usize = 1_000_000;

impl From<Away> for LogError {
    fn from(_: Away) -> Self {
        Self::Unavailable
    }
}

fn position(epoch: String, offset: u64) -> Position {
    Position {
        epoch: Epoch::new(epoch),
        offset,
    }
}
