//! How many of a thing there may be, in all and for each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// An address as limits count it: IPv6 by its /64, which is what one customer is given and can
/// choose from at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(IpAddr);

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// There are as many as there may be in all: the fault is not this client's.
    Total,
    /// This address has as many as one may have.
    Address,
}

/// A bound on how many of a thing exist at once.
pub struct Quota {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<AddressKey, usize>,
}

/// The right to be one of them, given back when dropped.
pub struct Permit {
    quota: Arc<Quota>,
    address: AddressKey,
}

impl Quota {
    /// A bound of `total` in all and of `per_address` for each address.
    #[must_use]
    pub fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            per_address,
            taken: Mutex::default(),
        })
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// When there is none left, in all or for `address`.
    pub fn acquire(self: &Arc<Self>, address: AddressKey) -> Result<Permit, Exceeded> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.total {
            return Err(Exceeded::Total);
        }
        let count = taken.by_address.entry(address).or_default();
        if *count >= self.per_address {
            return Err(Exceeded::Address);
        }
        *count += 1;
        taken.total += 1;
        Ok(Permit {
            quota: self.clone(),
            address,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self
            .quota
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> AddressKey {
        address.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn ipv6_counts_by_its_64_bit_prefix_and_mapped_ipv4_as_ipv4() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn a_quota_bounds_each_address_and_all_of_them_and_takes_places_back() {
        let quota = Quota::new(3, 2);
        let first = quota.acquire(key("10.0.0.1")).expect("the first");
        let _second = quota.acquire(key("10.0.0.1")).expect("the second");
        assert_eq!(
            quota.acquire(key("10.0.0.1")).err(),
            Some(Exceeded::Address)
        );
        let _third = quota.acquire(key("10.0.0.2")).expect("the third");
        assert_eq!(quota.acquire(key("10.0.0.3")).err(), Some(Exceeded::Total));
        drop(first);
        assert!(quota.acquire(key("10.0.0.1")).is_ok());
        drop(_second);
        drop(_third);
        assert!(
            quota
                .taken
                .lock()
                .expect("not poisoned")
                .by_address
                .is_empty()
        );
    }
}
