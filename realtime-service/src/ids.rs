//! Random identifiers.

use std::cell::RefCell;

use shared_claims::ids;

/// Number of random bytes that a thread takes from the system at once: a system call for each identifier
/// costs more than the identifier.
const POOL_BYTES: usize = 512;

/// Random bytes that are not used yet.
struct Pool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool {
            bytes: [0; POOL_BYTES],
            used: POOL_BYTES,
        })
    };
}

/// Returns a fresh identifier of 128 random bits.
#[must_use]
pub(crate) fn random_id() -> String {
    ids::from_random(random_bytes())
}

/// Returns random bytes from the system. No byte is returned twice, or kept.
///
/// # Panics
///
/// When the system has no randomness, without which nothing here would be safe.
#[must_use]
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= POOL_BYTES) };
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > POOL_BYTES {
            getrandom::fill(&mut pool.bytes).expect("the system has randomness");
            pool.used = 0;
        }
        let mut bytes = [0; N];
        let taken = &mut pool.bytes[pool.used..pool.used + N];
        bytes.swap_with_slice(taken);
        pool.used += N;
        bytes
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bytes_are_returned_twice_or_kept() {
        let all: HashSet<[u8; 15]> = (0..1000).map(|_| random_bytes()).collect();
        assert_eq!(all.len(), 1000);
        POOL.with_borrow(|pool| {
            assert!(pool.bytes[..pool.used].iter().all(|byte| *byte == 0));
        });
    }
}
