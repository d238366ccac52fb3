//! Delivery follows the log: each message once, in the order of the offsets, or the members are told
//! which ones are missing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;

use super::{Room, RoomError, State, following::Following};
use crate::{
    cluster::Cluster,
    outbox,
    rooms::{
        Draft, Message, Position, PublishError, Since,
        log::{Appended, Extract, LogError, MessageKey, Selection},
        members::Delivery,
        position::Place,
    },
    transport::turn::Turn,
};

/// How long delivery waits before it reads the log again, when the log could not be reached or a
/// message is not in it.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

/// Maximum number and size of the messages that are kept for an earlier message to arrive. Further
/// ones are read from the log.
const EARLY_MESSAGES: usize = 1024;
const EARLY_BYTES: usize = 4 * 1024 * 1024;

/// How far delivery is behind the log.
#[derive(Default)]
pub(super) struct Backlog {
    /// The newest offset that is known to be in the log.
    newest: u64,
    /// Whether a task reads messages from the log that were not delivered.
    is_catching_up: bool,
    /// The generation of the cluster in which the log has to be read, and that in which it was.
    pub(super) required: u64,
    verified: u64,
    /// Whether an epoch was heard of that may be the current one.
    pub(super) is_disputed: bool,
    early: Early,
}

impl Backlog {
    /// Forgets what belongs to an epoch that has ended.
    pub(super) fn forget(&mut self) {
        self.newest = 0;
        self.early = Early::default();
    }
}

/// The messages that have arrived before an earlier one.
#[derive(Default)]
struct Early {
    messages: BTreeMap<u64, Arc<Message>>,
    bytes: usize,
}

impl Early {
    fn insert(&mut self, message: &Arc<Message>) {
        let bytes = message.memory();
        let has_room = self.messages.len() < EARLY_MESSAGES && self.bytes + bytes <= EARLY_BYTES;
        if has_room
            && self
                .messages
                .insert(message.offset(), message.clone())
                .is_none()
        {
            self.bytes += bytes;
        }
    }

    fn remove(&mut self, offset: u64) -> Option<Arc<Message>> {
        let message = self.messages.remove(&offset)?;
        self.bytes -= message.memory();
        Some(message)
    }

    fn take_all(&mut self) -> BTreeMap<u64, Arc<Message>> {
        std::mem::take(self).messages
    }
}

impl State {
    /// Returns whether messages are missing that are in the log, or may be. When none is, or nobody is
    /// here, the task ends.
    fn must_catch_up(&mut self) -> bool {
        self.backlog.is_catching_up = self.is_behind();
        self.backlog.is_catching_up
    }

    fn is_behind(&self) -> bool {
        let backlog = &self.backlog;
        let is_behind = self.delivered.offset < backlog.newest;
        let must_read = backlog.is_disputed || backlog.verified < backlog.required;
        (is_behind || must_read) && !self.members.is_empty()
    }
}

impl Room {
    /// Appends a message to the log, and delivers it.
    pub(in crate::rooms) async fn publish(
        self: &Arc<Self>,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, RoomError<PublishError>> {
        if self.terms.outboxes.is_overloaded() {
            return Err(RoomError::Other(PublishError::Overloaded));
        }
        let appended = match self.log.append(draft, key).await {
            Ok(appended) => appended,
            Err(LogError::Closed) => return Err(RoomError::Retired),
            Err(LogError::Unavailable) => {
                return Err(RoomError::Other(PublishError::Unavailable));
            }
        };
        if !appended.is_duplicate {
            let (position, generation) = (&appended.position, appended.generation);
            let message = appended.message.clone();
            let message = message.or_else(|| self.encode_own(draft, position));
            let is_current = self.receive(position, message.as_ref(), generation);
            // Redis came back meanwhile, and nobody will ever hear of the message.
            if !is_current && !Cluster::is_shared(generation) {
                return Err(RoomError::Other(PublishError::Unavailable));
            }
        }
        Ok(appended)
    }

    /// Encodes a message that was appended to the log in Redis, if somebody is here. The channel may have brought
    /// the message before.
    fn encode_own(&self, draft: &Draft, position: &Position) -> Option<Arc<Message>> {
        self.log.redis()?;
        let is_needed = !self.lock().members.is_empty() && !self.has_delivered(position);
        is_needed.then(|| Arc::new(Message::encode(draft, position)))
    }

    /// Delivers a message that follows the last delivered one. Keeps any other message until the
    /// messages before it are read from the log, and reads the message too when it is `None`. Returns whether
    /// the message's epoch is the current one.
    pub(super) fn receive(
        self: &Arc<Self>,
        position: &Position,
        message: Option<&Arc<Message>>,
        generation: u64,
    ) -> bool {
        // Before the lock, so that packets leave after it is released.
        let _turn = Turn::begin();
        let mut state = self.lock();
        let (offset, start) = (position.offset, position.offset - 1);
        if self.follow(&mut state, position, generation, start) == Following::Former {
            let is_disputed = state.backlog.is_disputed;
            drop(state);
            if is_disputed {
                self.catch_up(0);
            }
            return false;
        }
        if offset <= state.delivered.offset {
            return true;
        }
        if state.members.is_empty() {
            // Whoever enters from now on reads the log first.
            state.delivered.offset = offset;
            state.backlog.forget();
            return true;
        }
        let message = match message {
            Some(message) if offset == state.delivered.offset + 1 => message,
            early => {
                if let Some(message) = early {
                    state.backlog.early.insert(message);
                }
                drop(state);
                self.catch_up(offset);
                return true;
            }
        };
        self.deliver(&mut state, message);
        loop {
            let next = state.delivered.offset + 1;
            let Some(message) = state.backlog.early.remove(next) else {
                break;
            };
            self.deliver(&mut state, &message);
        }
        true
    }

    /// Delivers the next message to the members.
    fn deliver(&self, state: &mut State, message: &Arc<Message>) {
        state.delivered.offset = message.offset();
        let delivery = Delivery {
            place: state.delivered,
            packet: self.terms.outboxes.share(message.packet().clone()),
        };
        let delivered = state.members.deliver(&delivery, self.terms.outboxes.now());
        self.terms.outboxes.metrics().message_delivered(delivered);
    }

    /// Reads the messages from the log that were not delivered, up to `offset` at least. One task
    /// does so at a time.
    pub(super) fn catch_up(self: &Arc<Self>, offset: u64) {
        let mut state = self.lock();
        state.backlog.newest = state.backlog.newest.max(offset);
        if !state.is_behind() || std::mem::replace(&mut state.backlog.is_catching_up, true) {
            return;
        }
        drop(state);
        let room = self.clone();
        tokio::spawn(async move {
            let mut lost = Place::default();
            while room.lock().must_catch_up() {
                match room.deliver_missing(lost).await {
                    Ok(None) => continue,
                    Ok(Some(newest)) => lost = newest,
                    Err(_) => room.log.reachable().await,
                }
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
        });
    }

    /// Delivers the messages of the log that were not delivered. When it could not deliver all of
    /// them, or there was none, it returns the place of the newest message in the log.
    ///
    /// A message that the log does not keep may be on its way here. Delivery stops before it, unless
    /// its place is `lost` or before that: then the members are told of a gap.
    async fn deliver_missing(&self, lost: Place) -> Result<Option<Place>, LogError> {
        let extract = self.log.read(&self.missing()).await;
        let extract = extract.inspect_err(|_| self.lock().backlog.is_disputed = true)?;
        let _turn = Turn::begin();
        let mut state = self.lock();
        let (position, generation) = (&extract.position, extract.generation);
        let newest = position.offset;
        if self.follow_read(&mut state, position, generation, newest) == Following::Former {
            return Ok(Some(lost));
        }
        let life = state.delivered.life;
        let lost_until = if lost.life == life { lost.offset } else { 0 };
        state.backlog.newest = state.backlog.newest.max(newest);
        state.backlog.verified = generation;
        let before = state.delivered.offset;
        let is_blocked = self.deliver_known(&mut state, &extract, lost_until);
        let lost = lost_until.min(newest);
        if !is_blocked && state.delivered.offset < lost {
            self.announce_gap(&mut state, &extract, lost);
        }
        let is_done = state.delivered.offset >= newest && state.delivered.offset > before;
        let newest = Place {
            life,
            offset: newest,
        };
        Ok((!is_done).then_some(newest))
    }

    /// Selects the messages that were not delivered, or all if some of them are not kept.
    fn missing(&self) -> Selection {
        let mut state = self.lock();
        // An epoch of which is heard from now on may be later than the read.
        state.backlog.is_disputed = false;
        let since = state.epochs.current().map(|epoch| Since {
            epoch: epoch.0.to_string(),
            offset: state.delivered.offset,
        });
        Selection {
            since,
            last: usize::MAX,
            limit: None,
        }
    }

    /// Delivers the messages that were read or have arrived, up to the first one that is missing; returns
    /// whether one is.
    fn deliver_known(&self, state: &mut State, extract: &Extract, lost_until: u64) -> bool {
        let mut known = state.backlog.early.take_all();
        let kept = extract.messages.iter();
        known.extend(kept.map(|message| (message.offset(), message.clone())));
        let mut is_blocked = false;
        for (offset, message) in known {
            if offset <= state.delivered.offset {
                continue;
            }
            let lost = lost_until.min(offset - 1);
            if !is_blocked && state.delivered.offset < lost {
                self.announce_gap(state, extract, lost);
            }
            is_blocked |= state.delivered.offset < offset - 1;
            if is_blocked {
                state.backlog.early.insert(&message);
            } else {
                self.deliver(state, &message);
            }
        }
        is_blocked
    }

    /// Tells the members that the messages up to `until` are lost.
    fn announce_gap(&self, state: &mut State, extract: &Extract, until: u64) {
        let gap = json!({
            "room": self.name, "epoch": extract.position.epoch,
            "from": state.delivered.offset + 1, "to": until,
        });
        state.delivered.offset = until;
        tracing::warn!(room = %self.name, %gap, "messages were lost before they were delivered");
        let Ok(packet) = outbox::event(self.name.namespace(), "rt:gap", &gap) else {
            return;
        };
        // A gap has the place of its last message: members who have that already are not told.
        let delivery = Delivery {
            place: state.delivered,
            packet: self.terms.outboxes.share(packet),
        };
        state.members.deliver(&delivery, self.terms.outboxes.now());
    }
}
