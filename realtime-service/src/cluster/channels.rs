//! The channels that this gateway listens to. One task subscribes and unsubscribes, in batches, and
//! does so again in every new connection.

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

/// The channels, and who listens.
#[derive(Default)]
pub(super) struct Channels {
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
}

struct Entry {
    listener: Weak<dyn Listener>,
    is_confirmed: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Channels {
    /// Adds a channel or replaces its listener. Returns what is told when the subscription is
    /// confirmed, unless it is.
    pub(super) fn insert(
        &self,
        channel: &str,
        listener: Weak<dyn Listener>,
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
            is_confirmed: false,
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
        let listener = self
            .lock()
            .entries
            .get(channel)
            .map(|it| it.listener.clone());
        if let Some(listener) = listener.and_then(|listener| listener.upgrade()) {
            listener.receive(payload, generation);
        }
    }

    /// Begins with a connection that is subscribed to nothing.
    pub(super) fn begin(&self, generation: u64) {
        let mut state = self.lock();
        state.generation = generation;
        state.subscribed.clear();
        state.changed = state.entries.keys().cloned().collect();
        for entry in state.entries.values_mut() {
            entry.is_confirmed = false;
        }
    }

    /// Notes that the connection is lost. Nobody waits any longer.
    pub(super) fn end(&self) {
        for entry in self.lock().entries.values_mut() {
            entry.is_confirmed = false;
            entry.waiting.clear();
        }
    }

    /// Resumes every listener.
    pub(super) fn resume_all(&self, generation: u64) {
        let listeners: Vec<_> = {
            let state = self.lock();
            state
                .entries
                .values()
                .map(|it| it.listener.clone())
                .collect()
        };
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.resume(generation);
        }
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
        let mut connection = link.connection.clone();
        loop {
            let (added, removed) = self.take_batch();
            if added.is_empty() && removed.is_empty() {
                return Ok(());
            }
            if !removed.is_empty() {
                connection.unsubscribe(names(&removed)).await?;
            }
            if !added.is_empty() {
                connection.subscribe(names(&added)).await?;
            }
            self.confirm(&added, &removed);
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
            entry.is_confirmed = true;
            let waiting = std::mem::take(&mut entry.waiting);
            // Each of them is told, also after one that has given up.
            let given_up = waiting
                .into_iter()
                .filter_map(|it| it.send(()).err())
                .count();
            if given_up > 0 {
                late.push(entry.listener.clone());
            }
        }
        drop(state);
        for listener in late.iter().filter_map(Weak::upgrade) {
            listener.resume(generation);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(channels: &[Arc<str>]) -> Vec<&str> {
    channels.iter().map(AsRef::as_ref).collect()
}
