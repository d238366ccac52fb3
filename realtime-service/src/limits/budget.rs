//! An account of bytes that many queues share.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// An account of bytes that many queues share.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes on a [`Budget`], taken off it when dropped.
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// An account of at most `limit` bytes, with nothing on it yet.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let used = AtomicUsize::new(0);
        Arc::new(Self { limit, used })
    }

    /// Charges `bytes`, beyond the limit too: the caller then makes room.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Charge {
            budget: self.clone(),
            bytes,
        }
    }

    /// Charges `bytes` if they fit, or if nothing else is charged.
    pub fn try_charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let charge = |used: usize| {
            let sum = used.saturating_add(bytes);
            (used == 0 || sum <= self.limit).then_some(sum)
        };
        let charged = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, charge);
        charged.is_ok().then(|| Charge {
            budget: self.clone(),
            bytes,
        })
    }

    /// How many bytes are charged.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// How many bytes are charged beyond the limit.
    #[must_use]
    pub fn excess(&self) -> usize {
        self.used().saturating_sub(self.limit)
    }
}

impl Charge {
    /// The account that the bytes are on.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_what_does_not_fit_unless_it_is_alone() {
        let budget = Budget::new(10);
        let first = budget.try_charge(15).expect("alone");
        assert!(budget.try_charge(1).is_none());
        assert_eq!(budget.excess(), 5);
        drop(first);
        let second = budget.try_charge(6).expect("within the limit");
        assert!(budget.try_charge(5).is_none());
        let third = budget.charge(5);
        assert_eq!((budget.used(), budget.excess()), (11, 1));
        drop((second, third));
        assert_eq!((budget.used(), budget.excess()), (0, 0));
    }
}
