//! The schemes of password hashes: ours, and those of other systems, which are imported and verified until
//! the first login.

use anyhow::Context as _;
use argon2::Block;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::{
    Password,
    foreign::ForeignHash,
    hash::{Cost, HashError, MINIMUM_WORK, StoredHash, is_current, parse_argon2, verify_argon2},
};

/// Whether `password` has the hash `stored`, of whatever scheme. `memory` is used for hashes of Argon2.
///
/// # Errors
///
/// When the hash is of no scheme that is known, or costs more than the ceiling.
pub(crate) fn verify_password(
    password: &Password,
    stored: &StoredHash,
    memory: &mut [Block],
) -> Result<bool, HashError> {
    if is_argon2(stored.as_str()) {
        return verify_argon2(password, stored, memory);
    }
    ForeignHash::parse(stored.as_str())?.verify(password)
}

/// The least memory of an imported hash of Argon2, in KiB.
const MINIMUM_ARGON2_MEMORY_KIB: u32 = 4 * 1024;

/// Checks a hash that another system has made, and returns how it is stored, with its scheme and cost.
/// The scheme is `None` when a new hash costs the same.
///
/// # Errors
///
/// When the scheme is not known, or the cost is below the floor or above the ceiling.
pub(crate) fn import(text: &str, cost: &Cost) -> Result<(StoredHash, Option<String>), HashError> {
    if !is_argon2(text) {
        let foreign = ForeignHash::parse(text)?;
        return Ok((foreign.stored(), Some(foreign.scheme())));
    }
    let stored = StoredHash::from(text);
    let hash = parse_argon2(&stored)?;
    let (memory_kib, passes) = (hash.parameters.m_cost(), hash.parameters.t_cost());
    let work = u64::from(memory_kib) * u64::from(passes);
    let sizes = (hash.parsed.salt.as_ref(), hash.parsed.hash.as_ref());
    let is_long = matches!(sizes, (Some(salt), Some(hash)) if salt.len() >= 8 && hash.len() >= 16);
    if memory_kib < MINIMUM_ARGON2_MEMORY_KIB || work < MINIMUM_WORK || !is_long {
        return Err(HashError::TooWeak);
    }
    let scheme = format!(
        "{}:{memory_kib},{passes},{}",
        hash.parsed.algorithm.as_str(),
        hash.parameters.p_cost()
    );
    let is_own = is_current(&stored, cost);
    Ok((stored, Some(scheme).filter(|_| !is_own)))
}

/// A hash of a scheme and cost as [`import`] names them that is no password's: verifying it takes as
/// long as verifying another of the scheme.
pub(crate) fn decoy_of(scheme: &str) -> anyhow::Result<StoredHash> {
    let (name, cost) = scheme.split_once(':').context("a scheme has a cost")?;
    let random = |bytes: usize| -> anyhow::Result<String> {
        let mut random = vec![0; bytes];
        getrandom::fill(&mut random).context("no randomness from the operating system")?;
        Ok(STANDARD_NO_PAD.encode(random))
    };
    let costs: Vec<&str> = cost.split(',').collect();
    let text = match (name, &costs[..]) {
        ("bcrypt", [cost]) => {
            let letters = random(64)?.replace('+', ".");
            // The last letters of salt and hash have bits that must be zero.
            let (salt, hash) = (&letters[..21], &letters[21..51]);
            format!("$2b${cost}${salt}.{hash}.")
        }
        ("pbkdf2-sha256", [count]) => {
            format!("$pbkdf2-sha256$i={count}${}${}", random(16)?, random(32)?)
        }
        ("pbkdf2-sha512", [count]) => {
            format!("$pbkdf2-sha512$i={count}${}${}", random(16)?, random(64)?)
        }
        ("firebase-scrypt", [log_n, rounds]) => {
            let (salt, separator) = (random(16)?, random(2)?);
            let (key, hash) = (random(64)?, random(64)?);
            format!("$firebase-scrypt$ln={log_n},r={rounds}${salt}${separator}${key}${hash}")
        }
        (argon2, [memory, passes, lanes]) => {
            let (salt, hash) = (random(16)?, random(32)?);
            format!("${argon2}$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
        }
        _ => anyhow::bail!("not a scheme"),
    };
    Ok(StoredHash::from(text.as_str()))
}

fn is_argon2(text: &str) -> bool {
    text.starts_with("$argon2")
}
