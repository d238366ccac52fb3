//! Requests that wait for a password thread: no address may fill the queue for everybody else.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::limits::Key;

/// Numbers of requests that wait, by address. Has no entry of an address without one.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<Key, u32>>);

/// A place among those who wait, until it is dropped.
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    key: Key,
}

impl Waiting {
    /// Takes a place for one more request of `key`. Returns `None` when `most` of it wait already.
    pub(crate) fn enter(&self, key: Key, most: u32) -> Option<Place<'_>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { waiting: self, key })
    }
}

impl Drop for Place<'_> {
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
    use crate::{config::LimitSettings, guard::limits::Limits};

    #[test]
    fn one_address_waits_with_so_many_and_another_is_not_held_up() {
        let limits = Limits::new(LimitSettings::default());
        let key = |text: &str| limits.address_key(text.parse().expect("an address"));
        let waiting = Waiting::default();
        let first = waiting.enter(key("192.0.2.1"), 2).expect("a place");
        let _second = waiting.enter(key("192.0.2.1"), 2).expect("a place");
        assert!(waiting.enter(key("192.0.2.1"), 2).is_none());
        let other = waiting.enter(key("192.0.2.2"), 2).expect("a place");
        drop((first, other));
        assert!(waiting.enter(key("192.0.2.1"), 2).is_some());
        assert_eq!(waiting.0.lock().expect("a lock").len(), 1);
    }
}
