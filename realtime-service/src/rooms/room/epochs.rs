//! The epochs of a room, as this gateway learns of them. A log in memory has one for as long as the room
//! lives; a log in Redis begins another one when it was lost.

use crate::{cluster::Cluster, rooms::Epoch};

/// Maximum number of epochs that are remembered in one generation. Older ones are not heard of again:
/// all that comes from one connection comes in the order of the server.
const MOST_FORMER: usize = 16;

/// The current epoch, and those before it.
#[derive(Default)]
pub(super) struct Epochs {
    current: Option<Epoch>,
    /// The generation of the cluster in which the current epoch was heard of last.
    generation: u64,
    /// The epochs that ended in this generation.
    former: Vec<Epoch>,
    /// The epoch in Redis that this gateway left when Redis was away, and the newest offset that was
    /// delivered of it.
    interrupted: Option<(Epoch, u64)>,
    /// The offset after which the delivery of the current epoch began. Whoever read the log before
    /// that reads it again.
    pub(super) start: u64,
}

/// Relation of an epoch to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The current one.
    Current,
    /// One that has ended.
    Former,
    /// The first one.
    First,
    /// The next one. Its messages are delivered from the first one on.
    Next,
    /// The next one, of which nobody here has heard so far. Delivery begins with what was heard.
    Joined,
    /// The one that was current before Redis was away, with the newest offset that was delivered.
    Resumed(u64),
}

impl Epochs {
    /// The only epoch of a log in memory.
    pub(super) fn of(epoch: Option<Epoch>) -> Self {
        Self {
            current: epoch,
            ..Self::default()
        }
    }

    pub(super) fn current(&self) -> Option<&Epoch> {
        self.current.as_ref()
    }

    /// Whether an epoch that was heard of in `generation` follows the current one or precedes it, which the
    /// log alone can say when messages and answers come over two connections.
    pub(super) fn is_disputed(&self, epoch: &Epoch, generation: u64) -> bool {
        let are_shared = Cluster::is_shared(self.generation) && Cluster::is_shared(generation);
        are_shared
            && self
                .current
                .as_ref()
                .is_some_and(|current| current != epoch)
    }

    /// Makes `epoch`, which the log has in `generation`, the current one, as [`Self::enter`] does. Reads of
    /// one task come in the order of the server: the epoch has not ended.
    pub(super) fn enter_read(&mut self, epoch: &Epoch, generation: u64, delivered: u64) -> Step {
        self.former.retain(|former| former != epoch);
        self.enter(epoch, generation, delivered)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes `epoch`, which was heard of in `generation`, the current one, unless it has ended.
    /// `delivered` is the newest offset that was delivered of the current one.
    pub(super) fn enter(&mut self, epoch: &Epoch, generation: u64, delivered: u64) -> Step {
        let Some(current) = &self.current else {
            (self.current, self.generation) = (Some(epoch.clone()), generation);
            return Step::First;
        };
        if current == epoch {
            self.generation = self.generation.max(generation);
            return Step::Current;
        }
        let is_over = generation == self.generation && self.former.contains(epoch);
        if generation < self.generation || is_over {
            return Step::Former;
        }
        if generation > self.generation {
            self.former.clear();
        }
        let (was_shared, is_shared) = (
            Cluster::is_shared(self.generation),
            Cluster::is_shared(generation),
        );
        self.generation = generation;
        if let Some(former) = self.current.replace(epoch.clone()) {
            if self.former.len() == MOST_FORMER {
                self.former.remove(0);
            }
            self.former.push(former.clone());
            if was_shared && !is_shared {
                self.interrupted = Some((former, delivered));
                return Step::Joined;
            }
        }
        match self.interrupted.take() {
            Some((interrupted, offset)) if interrupted == *epoch => Step::Resumed(offset),
            _ if was_shared => Step::Next,
            _ => Step::Joined,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(text: &str) -> Epoch {
        Epoch::new(text)
    }

    #[test]
    fn what_comes_late_of_an_epoch_that_has_ended_is_known() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.enter(&epoch("a"), 1, 0), Step::First);
        assert_eq!(epochs.enter(&epoch("a"), 1, 5), Step::Current);
        assert_eq!(epochs.enter(&epoch("b"), 1, 5), Step::Next);
        assert_eq!(epochs.enter(&epoch("a"), 1, 0), Step::Former);
        // Of an earlier connection, and never heard of.
        assert_eq!(epochs.enter(&epoch("c"), 3, 2), Step::Next);
        assert_eq!(epochs.enter(&epoch("d"), 1, 0), Step::Former);
        // Another connection may lead to the server before.
        assert_eq!(epochs.enter(&epoch("a"), 5, 2), Step::Next);
    }

    #[test]
    fn what_the_log_has_is_current_whatever_was_heard_before() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.enter(&epoch("a"), 1, 0), Step::First);
        assert!(!epochs.is_disputed(&epoch("a"), 1));
        assert!(epochs.is_disputed(&epoch("b"), 1) && epochs.is_disputed(&epoch("b"), 3));
        // Redis is away.
        assert!(!epochs.is_disputed(&epoch("b"), 2));
        assert_eq!(epochs.enter_read(&epoch("b"), 1, 0), Step::Next);
        assert_eq!(epochs.enter(&epoch("a"), 1, 0), Step::Former);
        assert_eq!(epochs.enter_read(&epoch("a"), 1, 0), Step::Next);
        assert_eq!(epochs.current(), Some(&epoch("a")));
    }

    #[test]
    fn an_epoch_goes_on_after_redis_was_away() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.enter(&epoch("a"), 1, 0), Step::First);
        assert_eq!(epochs.enter(&epoch("alone"), 2, 7), Step::Joined);
        assert_eq!(epochs.enter(&epoch("a"), 1, 3), Step::Former);
        assert_eq!(epochs.enter(&epoch("a"), 3, 3), Step::Resumed(7));
        assert_eq!(epochs.enter(&epoch("alone"), 2, 7), Step::Former);
        assert_eq!(epochs.enter(&epoch("alone"), 4, 9), Step::Joined);
        // The log was lost meanwhile.
        assert_eq!(epochs.enter(&epoch("b"), 5, 4), Step::Joined);
    }
}
