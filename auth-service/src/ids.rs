//! Random identifiers and tokens.

use anyhow::Context as _;
use shared_claims::ids;
use zeroize::Zeroizing;

/// Returns a new token that says nothing, of 256 random bits: a refresh token, a client's secret.
///
/// # Errors
///
/// When the operating system has no randomness to give.
pub fn random_token() -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).context("no randomness from the operating system")?;
    Ok(Zeroizing::new(ids::token_from(&bytes)))
}

/// Returns a new identifier of 22 characters, for a subject, a session or a token.
///
/// # Errors
///
/// When the operating system has no randomness to give.
pub fn random_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no randomness from the operating system")?;
    Ok(ids::from_random(bytes))
}
