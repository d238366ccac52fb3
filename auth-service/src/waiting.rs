//! Requests that wait for something of which there is little: nobody may take all places from everybody else.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

/// Numbers of requests that wait, by a key such as their address. Has no entry of a key without one.
pub(crate) struct Waiting<K>(Mutex<HashMap<K, u32>>);

/// A place among those who wait, until it is dropped.
pub(crate) struct Place<'a, K: Copy + Eq + Hash> {
    waiting: &'a Waiting<K>,
    key: K,
}

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash> Waiting<K> {
    /// Takes a place for one more request of `key`. Returns `None` when `most` of it wait already.
    pub(crate) fn enter(&self, key: K, most: u32) -> Option<Place<'_, K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { waiting: self, key })
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut counts = self
            .waiting
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_waits_with_so_many_and_another_is_not_held_up() {
        let waiting = Waiting::default();
        let first = waiting.enter('a', 2).expect("a place");
        let _second = waiting.enter('a', 2).expect("a place");
        assert!(waiting.enter('a', 2).is_none());
        let other = waiting.enter('b', 2).expect("a place");
        drop((first, other));
        assert!(waiting.enter('a', 2).is_some());
        assert_eq!(waiting.0.lock().expect("a lock").len(), 1);
    }
}
