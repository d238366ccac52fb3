//! Channels of a shard of a Redis Cluster (sharded pub/sub), and their way to another shard.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;
use redis::{RedisResult, Value, cmd};

use super::{Channels, Entry, Link, resume};
use crate::cluster::{connection::is_unanswered, link::is_of_moving_slot};

/// Sends one command for each channel, since two channels may have different slots, and waits for as many
/// answers.
///
/// An answer says nothing about its channel: when a slot moves, the server ends subscriptions by push
/// messages, which look like confirmations. A channel is confirmed by its own push message.
pub(super) async fn send(
    link: &Link,
    command: &'static str,
    channels: &[Arc<str>],
) -> RedisResult<()> {
    let answers = channels.iter().map(|channel| {
        let channel = std::slice::from_ref(channel);
        link.subscriptions.change_channels(command, channel)
    });
    for answer in join_all(answers).await {
        match answer {
            Err(error) if is_unanswered(&error) => {
                return Err(error);
            }
            Err(error) if is_of_moving_slot(&error) => link.terms.map_outdated.notify_one(),
            _ => {}
        }
    }
    Ok(())
}

impl Channels {
    /// Notes that the server has confirmed a channel. A listener for which nobody waits learns that it may
    /// have missed messages.
    pub(in crate::cluster) fn note_subscribed(&self, channel: &[u8], generation: u64) {
        let Ok(channel) = str::from_utf8(channel) else {
            return;
        };
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        let channel: Arc<str> = channel.into();
        state.subscribed.insert(channel.clone());
        let is_live = state.is_live;
        let Some(entry) = state.entries.get_mut(&channel) else {
            // The channel was removed meanwhile.
            state.changed.insert(channel);
            drop(state);
            self.changed.notify_one();
            return;
        };
        let (was_confirmed, is_awaited) = (entry.is_confirmed, !entry.waiting.is_empty());
        let given_up = entry.confirm();
        let has_ended = std::mem::take(&mut entry.has_ended);
        let must_resume = is_live && !was_confirmed && (has_ended || given_up > 0 || !is_awaited);
        let resumption = must_resume.then(|| entry.resumption());
        drop(state);
        resume(resumption.as_slice(), generation);
    }

    /// Notes that the server has ended a subscription. Returns whether it did so by itself.
    pub(in crate::cluster) fn note_unsubscribed(&self, channel: &[u8], generation: u64) -> bool {
        let Ok(channel) = str::from_utf8(channel) else {
            return false;
        };
        let mut state = self.lock();
        if state.generation != generation {
            return false;
        }
        state.subscribed.remove(channel);
        let Some(entry) = state.entries.get_mut(channel) else {
            return false;
        };
        entry.has_ended |= entry.is_confirmed;
        std::mem::replace(&mut entry.is_confirmed, false)
    }

    /// Checks that the connection with the subscriptions answers, and subscribes to channels that the
    /// server has refused or ended. Returns whether there are any.
    pub(in crate::cluster) async fn check(&self, link: &Link) -> RedisResult<bool> {
        if !self.is_sharded {
            return Ok(false);
        }
        let ping = cmd("PING");
        let answer = ping.query_async(&mut link.subscriptions.clone()).await;
        let answer: RedisResult<Value> = answer;
        if let Err(error) = answer
            && is_unanswered(&error)
        {
            return Err(error);
        }
        let mut state = self.lock();
        let refused = state
            .entries
            .iter()
            .filter(|(_, entry)| !entry.is_confirmed);
        let refused: HashSet<Arc<str>> = refused.map(|(channel, _)| channel.clone()).collect();
        let is_any = !refused.is_empty();
        state.changed.extend(refused);
        drop(state);
        self.changed.notify_one();
        Ok(is_any)
    }

    /// Takes the channels out that `has_moved` to another shard.
    pub(in crate::cluster) fn take_moved(
        &self,
        has_moved: impl Fn(&str) -> bool,
    ) -> Vec<(Arc<str>, Entry)> {
        let mut state = self.lock();
        let moved: Vec<_> = state
            .entries
            .extract_if(|channel, _| has_moved(channel))
            .collect();
        state
            .changed
            .extend(moved.iter().map(|(channel, _)| channel.clone()));
        drop(state);
        self.changed.notify_one();
        moved
    }

    /// Adds a channel of another shard, with its listener, which is resumed when it is confirmed.
    pub(in crate::cluster) fn insert_moved(&self, channel: Arc<str>, mut entry: Entry, floor: u64) {
        entry.floor = floor;
        (entry.is_confirmed, entry.has_ended) = (false, true);
        let mut state = self.lock();
        state.changed.insert(channel.clone());
        state.entries.insert(channel, entry);
        drop(state);
        self.changed.notify_one();
    }
}
