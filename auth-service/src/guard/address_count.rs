//! Count of a login for its address, but for logins of known devices: whoever shares an address with others is
//! refused for the own failures alone.

use std::net::IpAddr;

use super::{
    counters::{Counter, Counting},
    limits::{Limit, LimitReached},
};
use crate::store::StoreError;

/// Count of one login for its address.
pub(crate) struct AddressCount {
    counter: Counter,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The login is counted, until it turns out well.
    Counted,
    /// A known device sends it, and the account is not known yet.
    Deferred,
    /// A known device of its own account sends it, or it was refused.
    Exempt,
}

impl AddressCount {
    /// Counts a login in this process, unless it comes from a device that may be one of its account's.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] when too many of the address have failed.
    pub(crate) fn begin(
        counting: &Counting<'_>,
        address: IpAddr,
        is_known_device: bool,
    ) -> Result<Self, LimitReached> {
        let counter = Counter::of_address(counting.limits, Limit::LoginsOfAddress, address);
        if !is_known_device {
            counter.take_here(counting)?;
        }
        Ok(Self {
            counter,
            progress: match is_known_device {
                true => Progress::Deferred,
                false => Progress::Counted,
            },
        })
    }

    /// Decides about a login that was not counted, once it is known whether the device is one of the account's.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] when the device is none, and too many of the address have failed.
    pub(crate) fn decide(
        &mut self,
        counting: &Counting<'_>,
        is_own_device: bool,
    ) -> Result<(), LimitReached> {
        if self.progress != Progress::Deferred {
            return Ok(());
        }
        self.progress = Progress::Exempt;
        if !is_own_device {
            self.counter.take_here(counting)?;
            self.progress = Progress::Counted;
        }
        Ok(())
    }

    /// Returns the counter of the address, if the login is counted.
    pub(crate) fn counter(&self) -> Option<&Counter> {
        (self.progress == Progress::Counted).then_some(&self.counter)
    }

    /// Takes the count back.
    pub(crate) fn give_back(&self, counting: &Counting<'_>) {
        if let Some(counter) = self.counter() {
            counter.give_back_here(counting);
        }
    }

    /// Ends a login: a failure is counted among the shared counters as well, and any other outcome is taken back.
    /// A failure whose account nobody knows is one of the address.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn settle(
        &self,
        counting: &Counting<'_>,
        is_failure: bool,
    ) -> Result<(), StoreError> {
        match self.progress {
            Progress::Counted => self.counter.settle(counting, is_failure).await,
            Progress::Deferred if is_failure => {
                // Refused when it is used up already, which is no other answer.
                let _ = self.counter.take_here(counting);
                self.counter.settle(counting, true).await
            }
            Progress::Deferred | Progress::Exempt => Ok(()),
        }
    }
}
