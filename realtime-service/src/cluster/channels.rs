//! The channels that this gateway listens to. One task subscribes and unsubscribes, in batches, and
//! does so again in every new connection.

mod sharded;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use redis::RedisResult;
use tokio::sync::{Notify, oneshot};

use super::Link;

/// Maximum number of channels in one command.
const BATCH: usize = 500;

/// Takes the messages of a channel.
pub trait Listener: Send + Sync {
    /// Takes a message. It must not block: the connection waits for it.
    fn receive(self: Arc<Self>, payload: &[u8], generation: u64);

    /// Learns that any number of messages may have been lost before this moment of `generation`.
    fn resume(self: Arc<Self>, generation: u64);
}

/// The channels of one server, and who listens.
pub(super) struct Channels {
    /// Whether the server is a shard of a Redis Cluster. Then it confirms each channel by a push message, and
    /// ends subscriptions by itself when a slot moves.
    is_sharded: bool,
    state: Mutex<State>,
    /// Notified when a channel is to be subscribed to, or not any more.
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<Arc<str>, Entry>,
    /// The channels that the connection may have another relation to than the entries.
    changed: HashSet<Arc<str>>,
    /// The channels that the connection is subscribed to.
    subscribed: HashSet<Arc<str>>,
    generation: u64,
    /// Whether the connection is in use. Before that, it is subscribed to all channels.
    is_live: bool,
}

/// The listener of a channel.
pub(super) struct Entry {
    listener: Weak<dyn Listener>,
    /// The first generation of the channel on this server, if that is later than the connection's.
    floor: u64,
    is_confirmed: bool,
    /// Whether the subscription has ended or moved since it was confirmed.
    has_ended: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Channels {
    pub(super) fn new(is_sharded: bool) -> Self {
        Self {
            is_sharded,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds a channel or replaces its listener. Returns what is told when the subscription is
    /// confirmed, unless it is. No message of it is of an earlier generation than `floor`.
    pub(super) fn insert(
        &self,
        channel: &str,
        listener: Weak<dyn Listener>,
        floor: u64,
    ) -> Option<oneshot::Receiver<()>> {
        let mut state = self.lock();
        let (confirmed, receiver) = match state.entries.get_mut(channel) {
            Some(entry) => {
                entry.listener = listener;
                if entry.is_confirmed {
                    return None;
                }
                let (sender, receiver) = oneshot::channel();
                entry.waiting.push(sender);
                return Some(receiver);
            }
            None => oneshot::channel(),
        };
        let channel: Arc<str> = channel.into();
        let entry = Entry {
            listener,
            floor,
            is_confirmed: false,
            has_ended: false,
            waiting: vec![confirmed],
        };
        state.entries.insert(channel.clone(), entry);
        state.changed.insert(channel);
        drop(state);
        self.changed.notify_one();
        Some(receiver)
    }

    /// Removes a channel, if `listener` is still its listener.
    pub(super) fn remove(&self, channel: &str, listener: &Weak<dyn Listener>) {
        let mut state = self.lock();
        let entry = state.entries.get(channel);
        if !entry.is_some_and(|entry| Weak::ptr_eq(&entry.listener, listener)) {
            return;
        }
        if let Some((channel, _)) = state.entries.remove_entry(channel) {
            state.changed.insert(channel);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Hands a message to the listener of its channel.
    pub(super) fn dispatch(&self, channel: &[u8], payload: &[u8], generation: u64) {
        let Ok(channel) = str::from_utf8(channel) else {
            return;
        };
        let entry = {
            let state = self.lock();
            let entry = state.entries.get(channel);
            entry.map(|entry| (entry.listener.clone(), entry.floor))
        };
        if let Some((listener, floor)) = entry
            && let Some(listener) = listener.upgrade()
        {
            listener.receive(payload, generation.max(floor));
        }
    }

    /// Begins with a connection that is subscribed to nothing.
    pub(super) fn begin(&self, generation: u64) {
        let mut state = self.lock();
        (state.generation, state.is_live) = (generation, false);
        state.subscribed.clear();
        state.changed = state.entries.keys().cloned().collect();
        for entry in state.entries.values_mut() {
            entry.is_confirmed = false;
        }
    }

    /// Notes that the connection is lost. Nobody waits any longer.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_live = false;
        for entry in state.entries.values_mut() {
            entry.is_confirmed = false;
            entry.waiting.clear();
        }
    }

    /// Resumes every listener.
    pub(super) fn resume_all(&self, generation: u64) {
        let listeners: Vec<_> = {
            let mut state = self.lock();
            state.is_live = true;
            state.entries.values().map(Entry::resumption).collect()
        };
        resume(&listeners, generation);
    }

    /// Subscribes and unsubscribes as channels are added and removed; returns why it cannot.
    pub(super) async fn maintain(&self, link: &Link) -> String {
        loop {
            if let Err(error) = self.synchronize(link).await {
                return error.to_string();
            }
            self.changed.notified().await;
        }
    }

    /// Subscribes and unsubscribes until the connection listens to what it should.
    pub(super) async fn synchronize(&self, link: &Link) -> RedisResult<()> {
        let connection = &link.subscriptions;
        loop {
            let (added, removed) = self.take_batch();
            if added.is_empty() && removed.is_empty() {
                return Ok(());
            }
            let waiting = link.silence.wait();
            if self.is_sharded {
                sharded::send(link, "SUNSUBSCRIBE", &removed).await?;
                sharded::send(link, "SSUBSCRIBE", &added).await?;
            } else {
                if !removed.is_empty() {
                    connection.change_channels("UNSUBSCRIBE", &removed).await?;
                }
                if !added.is_empty() {
                    connection.change_channels("SUBSCRIBE", &added).await?;
                }
                self.confirm(&added, &removed);
            }
            waiting.answer();
        }
    }

    /// Takes channels that changed: which are to be subscribed to, and which not any more.
    fn take_batch(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let mut state = self.lock();
        let batch: Vec<_> = state.changed.iter().take(BATCH).cloned().collect();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for channel in batch {
            state.changed.remove(&channel);
            match state.entries.contains_key(&channel) {
                true => added.push(channel),
                false if state.subscribed.contains(&channel) => removed.push(channel),
                false => {}
            }
        }
        (added, removed)
    }

    /// Notes what the server has confirmed. A listener that waited in vain before learns that it may
    /// have missed messages.
    fn confirm(&self, added: &[Arc<str>], removed: &[Arc<str>]) {
        let mut late = Vec::new();
        let mut state = self.lock();
        let generation = state.generation;
        for channel in removed {
            state.subscribed.remove(channel);
        }
        for channel in added {
            state.subscribed.insert(channel.clone());
            let Some(entry) = state.entries.get_mut(channel) else {
                continue;
            };
            if entry.confirm() > 0 {
                late.push(entry.resumption());
            }
        }
        drop(state);
        resume(&late, generation);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Tells those who wait that the channel is subscribed to, also after one of them has given up. Returns
    /// how many have.
    fn confirm(&mut self) -> usize {
        self.is_confirmed = true;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting.filter_map(|it| it.send(()).err()).count()
    }

    fn resumption(&self) -> (Weak<dyn Listener>, u64) {
        (self.listener.clone(), self.floor)
    }
}

/// Resumes listeners, each in the generation of the connection or its own first one.
fn resume(listeners: &[(Weak<dyn Listener>, u64)], generation: u64) {
    for (listener, floor) in listeners {
        if let Some(listener) = listener.upgrade() {
            listener.resume(generation.max(*floor));
        }
    }
}
