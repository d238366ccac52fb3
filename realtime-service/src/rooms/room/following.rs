//! How a room follows a log that other gateways write too: into its epochs, by its channel, and after the
//! channel was lost.

use std::sync::Arc;

use serde_json::json;

use super::{Room, State, epochs::Step};
use crate::{
    cluster::{Cluster, Listener},
    outbox,
    rooms::{
        Position, SubscribeOptions,
        log::{Extract, RedisLog},
        members::Delivery,
    },
    transport::turn::Turn,
};

/// Whether something that the log said belongs to the current epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Following {
    /// It does.
    Current,
    /// It does, and the members have been told that the epoch has begun.
    Begun,
    /// It does not: the epoch has ended.
    Former,
}

impl Room {
    /// Follows the log into the epoch of `position`, which was heard of in `generation`. Of an epoch that
    /// others have begun, delivery begins after the offset `start`. An epoch of which the order says nothing
    /// is not followed: then the log has to be read by [`Self::catch_up`].
    pub(super) fn follow(
        &self,
        state: &mut State,
        position: &Position,
        generation: u64,
        start: u64,
    ) -> Following {
        let has_two = self.log.redis().is_some_and(RedisLog::has_two_connections);
        // A client that enters an empty room reads the log.
        if has_two
            && !state.members.is_empty()
            && state.epochs.is_disputed(&position.epoch, generation)
        {
            state.backlog.is_disputed = true;
            return Following::Former;
        }
        let delivered = state.delivered.offset;
        let step = state.epochs.enter(&position.epoch, generation, delivered);
        self.take_step(state, position, generation, (step, start))
    }

    /// Follows the log as [`Self::follow`] does, to what the only task has read that reads for all members.
    pub(super) fn follow_read(
        &self,
        state: &mut State,
        position: &Position,
        generation: u64,
        start: u64,
    ) -> Following {
        let has_two = self.log.redis().is_some_and(RedisLog::has_two_connections);
        let delivered = state.delivered.offset;
        let step = match has_two {
            true => state
                .epochs
                .enter_read(&position.epoch, generation, delivered),
            false => state.epochs.enter(&position.epoch, generation, delivered),
        };
        self.take_step(state, position, generation, (step, start))
    }

    fn take_step(
        &self,
        state: &mut State,
        position: &Position,
        generation: u64,
        (step, start): (Step, u64),
    ) -> Following {
        let offset = match step {
            Step::Current => return Following::Current,
            Step::Former => return Following::Former,
            Step::First | Step::Joined => start,
            Step::Next => 0,
            Step::Resumed(offset) => offset,
        };
        state.epochs.start = offset;
        state.delivered.offset = offset;
        if step == Step::First {
            return Following::Current;
        }
        state.delivered.life += 1;
        state.backlog.forget();
        let from = match step {
            Step::Resumed(_) => offset + 1,
            _ => 1,
        };
        self.announce_epoch(state, position, from, generation);
        Following::Begun
    }

    /// Tells the members that an epoch has begun, and which of its messages they do not get.
    fn announce_epoch(&self, state: &mut State, position: &Position, from: u64, generation: u64) {
        if state.members.is_empty() {
            return;
        }
        if Cluster::is_shared(generation) {
            self.terms.outboxes.metrics().cluster_epoch();
        }
        let gap = json!({
            "room": self.name, "epoch": position.epoch,
            "from": from, "to": state.delivered.offset,
        });
        tracing::info!(room = %self.name, %gap, "the room goes on in another epoch");
        let Ok(packet) = outbox::event(self.name.namespace(), "rt:gap", &gap) else {
            return;
        };
        let delivery = Delivery {
            place: state.delivered,
            packet: self.terms.outboxes.share(packet),
        };
        state.members.deliver(&delivery, self.terms.outboxes.now());
    }

    /// Reads the log in the next connection to Redis, or in the current one, and delivers what was not
    /// delivered.
    pub(super) fn verify(self: &Arc<Self>, generation: u64) {
        let mut state = self.lock();
        let required = &mut state.backlog.required;
        *required = generation.max(*required);
        drop(state);
        self.catch_up(0);
    }

    /// Returns what can be said to a subscriber while Redis is away; `None` when the log is not there.
    /// Whatever the log has is delivered once it can be read.
    pub(super) fn extract_alone(self: &Arc<Self>, options: &SubscribeOptions) -> Option<Extract> {
        let log = self.log.redis()?;
        let known = {
            let state = self.lock();
            let epoch = state.epochs.current().cloned();
            let offset = state.delivered.offset;
            epoch.map(|epoch| (Position { epoch, offset }, state.epochs.generation()))
        };
        let (position, generation) = known.unwrap_or_else(|| log.position_alone());
        self.verify(log.generation_shared());
        Some(Extract {
            position,
            messages: Vec::new(),
            more: false,
            recovered: options.since.as_ref().map(|_| false),
            generation,
        })
    }

    fn receive_notice(self: &Arc<Self>, log: &RedisLog, payload: &[u8], generation: u64) {
        let Some(notice) = log.notice(payload) else {
            tracing::error!(room = %self.name, "a message of the channel cannot be read");
            return;
        };
        let position = &notice.position;
        if self.has_delivered(position) {
            return;
        }
        match log.message(&notice).filter(|_| position.offset > 0) {
            Some(message) => {
                self.receive(position, Some(&message), generation);
            }
            None => {
                let _turn = Turn::begin();
                let start = position.offset.saturating_sub(1);
                let followed = self.follow(&mut self.lock(), position, generation, start);
                let is_former = followed == Following::Former;
                self.catch_up(if is_former { 0 } else { position.offset });
            }
        }
    }

    /// Whether a message need not be decoded.
    pub(super) fn has_delivered(&self, position: &Position) -> bool {
        let state = self.lock();
        position.offset > 0
            && state.epochs.current() == Some(&position.epoch)
            && position.offset <= state.delivered.offset
    }
}

impl Listener for Room {
    fn receive(self: Arc<Self>, payload: &[u8], generation: u64) {
        if let Some(log) = self.log.redis() {
            self.receive_notice(log, payload, generation);
        }
    }

    fn resume(self: Arc<Self>, generation: u64) {
        // A read of this generation that is done, or under way, may have come before the channel.
        self.lock().backlog.is_disputed = true;
        self.verify(generation);
    }
}
