//! Delivery follows the log: each message once, in the order of the offsets, or the members are told
//! which ones are missing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;

use super::{Room, RoomError, State};
use crate::{
    outbox,
    rooms::{
        Draft, Message, PublishError,
        log::{Appended, Extract, LogError, MessageKey, Selection},
        members::Delivery,
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
    early: Early,
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
    /// Returns whether messages are missing that are in the log. When none is, the task ends.
    fn must_catch_up(&mut self) -> bool {
        self.backlog.is_catching_up = self.delivered < self.backlog.newest;
        self.backlog.is_catching_up
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
        match &appended.message {
            Some(message) => self.receive(message),
            None if appended.is_duplicate => {}
            None => self.catch_up(appended.position.offset),
        }
        Ok(appended)
    }

    /// Delivers a message that follows the last delivered one. Keeps any other message until the
    /// messages before it are read from the log.
    fn receive(self: &Arc<Self>, message: &Arc<Message>) {
        // Before the lock, so that packets leave after it is released.
        let _turn = Turn::begin();
        let mut state = self.lock();
        if message.offset() <= state.delivered {
            return;
        }
        if message.offset() > state.delivered + 1 {
            state.backlog.early.insert(message);
            drop(state);
            return self.catch_up(message.offset());
        }
        self.deliver(&mut state, message);
        loop {
            let next = state.delivered + 1;
            let Some(message) = state.backlog.early.remove(next) else {
                break;
            };
            self.deliver(&mut state, &message);
        }
    }

    /// Delivers the next message to the members.
    fn deliver(&self, state: &mut State, message: &Arc<Message>) {
        state.delivered = message.offset();
        let delivery = Delivery {
            offset: message.offset(),
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
        if state.delivered >= state.backlog.newest
            || std::mem::replace(&mut state.backlog.is_catching_up, true)
        {
            return;
        }
        drop(state);
        let room = self.clone();
        tokio::spawn(async move {
            let mut lost_until = 0;
            while room.lock().must_catch_up() {
                match room.deliver_missing(lost_until).await {
                    Ok(None) => continue,
                    Ok(Some(newest)) => lost_until = newest,
                    Err(_) => {}
                }
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
        });
    }

    /// Delivers the messages of the log that were not delivered. When it could not deliver all of
    /// them, or there was none, it returns the newest offset in the log.
    ///
    /// A message that the log does not keep may be on its way here. Delivery stops before it, unless
    /// its offset is `lost_until` or lower: then the members are told of a gap.
    async fn deliver_missing(&self, lost_until: u64) -> Result<Option<u64>, LogError> {
        let newest = Selection {
            last: usize::MAX,
            ..Selection::default()
        };
        let extract = self.log.read(&newest).await?;
        let newest = extract.position.offset;
        let _turn = Turn::begin();
        let mut state = self.lock();
        let before = state.delivered;
        let mut known = state.backlog.early.take_all();
        let kept = extract.messages.iter();
        known.extend(kept.map(|message| (message.offset(), message.clone())));
        let mut is_blocked = false;
        for (offset, message) in known {
            if offset <= state.delivered {
                continue;
            }
            let lost = lost_until.min(offset - 1);
            if !is_blocked && state.delivered < lost {
                self.announce_gap(&mut state, &extract, lost);
            }
            is_blocked |= state.delivered < offset - 1;
            if is_blocked {
                state.backlog.early.insert(&message);
            } else {
                self.deliver(&mut state, &message);
            }
        }
        let lost = lost_until.min(newest);
        if !is_blocked && state.delivered < lost {
            self.announce_gap(&mut state, &extract, lost);
        }
        let is_done = state.delivered >= newest && state.delivered > before;
        Ok((!is_done).then_some(newest))
    }

    /// Tells the members that the messages up to `until` are lost.
    fn announce_gap(&self, state: &mut State, extract: &Extract, until: u64) {
        let gap = json!({
            "room": self.name, "epoch": extract.position.epoch,
            "from": state.delivered + 1, "to": until,
        });
        state.delivered = until;
        tracing::warn!(room = %self.name, %gap, "messages were lost before they were delivered");
        let Ok(packet) = outbox::event("/", "rt:gap", &gap) else {
            return;
        };
        // A gap has the place of its last message: members who have that already are not told.
        let delivery = Delivery {
            offset: until,
            packet: self.terms.outboxes.share(packet),
        };
        state.members.deliver(&delivery, self.terms.outboxes.now());
    }
}
