//! Random identifiers.

use shared_claims::ids;

/// Returns a fresh identifier of 128 random bits.
///
/// # Panics
///
/// When the system has no randomness, without which nothing here would be safe.
#[must_use]
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    ids::from_random(bytes)
}
