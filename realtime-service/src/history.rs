//! What was said in a room lately, for those who come back to it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared_claims::{authorization::Action, json::Object};
use tokio::time::Instant;

use crate::{
    config::HistorySettings,
    events::{Call, EventError, room},
    messages::Published,
    rooms::Position,
};

/// About what a message takes of memory besides its data, in bytes.
const MESSAGE_BYTES: usize = 512;

/// The last messages of one room: so many, so long, and of so many bytes at most.
///
/// What is kept has no gap, and ends with the room's newest message, unless that has gone as well.
#[derive(Default)]
pub struct History {
    kept: VecDeque<(Instant, Arc<Published>)>,
    bytes: usize,
}

/// Where a client's part of a room's messages ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The life of the room that the offset belongs to.
    pub epoch: String,
    /// The number of the last message that the client has; 0 for none.
    pub offset: u64,
}

impl History {
    /// Keeps the room's newest message.
    pub fn push(&mut self, message: Arc<Published>, now: Instant, settings: &HistorySettings) {
        self.bytes += weight(&message);
        self.kept.push_back((now, message));
        self.trim(now, settings);
    }

    /// Lets go of what is too much or too old.
    pub fn trim(&mut self, now: Instant, settings: &HistorySettings) {
        let age = Duration::from_secs(settings.secs);
        while let Some((at, _)) = self.kept.front() {
            let is_within = self.kept.len() <= settings.messages
                && self.bytes <= settings.bytes
                && *at + age > now;
            if is_within {
                return;
            }
            self.forget_first();
        }
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The messages after the one numbered `offset` in a room whose newest is numbered `newest`;
    /// `None` when one of them has gone, or `offset` was never reached.
    #[must_use]
    pub fn after(&self, offset: u64, newest: u64) -> Option<Vec<Arc<Published>>> {
        let missing = usize::try_from(newest.checked_sub(offset)?).ok()?;
        (missing <= self.kept.len()).then(|| self.last(missing))
    }

    /// The last `count` messages, or as many as there are.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Arc<Published>> {
        let skipped = self.kept.len().saturating_sub(count);
        let kept = self.kept.iter().skip(skipped);
        kept.map(|(_, message)| message.clone()).collect()
    }

    /// About what it takes of memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the newest message that is kept was published.
    #[must_use]
    pub fn newest_at(&self) -> Option<Instant> {
        self.kept.back().map(|(at, _)| *at)
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn forget_first(&mut self) {
        if let Some((_, message)) = self.kept.pop_front() {
            self.bytes -= weight(&message);
        }
    }
}

/// About what a message takes of memory, in bytes.
fn weight(message: &Published) -> usize {
    message.message.data.bytes() + MESSAGE_BYTES
}

/// The payload of `rt:history`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    room: Value,
    since: Option<Object<Since>>,
    limit: Option<usize>,
}

/// The answer.
#[derive(Serialize)]
struct Kept<'a> {
    messages: &'a [Arc<Published>],
    #[serde(flatten)]
    position: &'a Position,
    more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
}

/// `rt:history`: what is kept of a room, oldest first; one need not be in it.
pub(crate) async fn read(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Read = call.argument()?;
    let room = room(payload.room)?;
    call.require(Action::History, &room)?;
    let limit = payload.limit.unwrap_or(usize::MAX);
    let rooms = &call.gateway.rooms;
    let since = payload.since.map(|Object(since)| since);
    let extract = rooms.read(&room, since.as_ref(), limit);
    let answer = Kept {
        messages: &extract.messages,
        position: &extract.position,
        more: extract.more,
        recovered: extract.recovered,
    };
    call.succeed(&answer).await;
    Ok(())
}

#[cfg(test)]
mod tests;
