//! Password hashes that other systems have made: bcrypt, PBKDF2 and the scrypt of Firebase. They are
//! verified until the first login with the right password, which replaces them.
//!
//! A hash that is weaker than the floor is not imported, and one that costs more than the ceiling is
//! neither: a login must not cost seconds of a thread.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    constant_time::verify_slices_are_equal,
    iv::FixedLength,
    pbkdf2,
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::{
    Password,
    hash::{HashError, MAXIMUM_MEMORY_KIB, StoredHash},
};

/// The costs of bcrypt that are imported: OWASP's minimum, and a second of a core.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 10..=14;

/// Base64 of other systems, padded or not. It is written without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The sizes of salts and hashes that are imported, in bytes.
const SIZES: std::ops::RangeInclusive<usize> = 8..=128;

/// The least log2 of scrypt's N, and the least block size: those of every Firebase project.
const MINIMUM_LOG_N: u8 = 14;
const MINIMUM_ROUNDS: u32 = 8;

/// The hash function of PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256,
    Sha512,
}

/// The parameters of a Firebase project, as its console shows them.
#[derive(Clone)]
pub(crate) struct FirebaseParameters {
    signer_key: Vec<u8>,
    salt_separator: Vec<u8>,
    rounds: u32,
    log_n: u8,
}

/// A hash of another system.
pub(crate) enum ForeignHash {
    /// The text as it is, and its cost.
    Bcrypt(String, u32),
    /// RFC 8018, section 5.2.
    Pbkdf2 {
        digest: Digest,
        iterations: NonZeroU32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    /// The project's signer key, encrypted with a key that scrypt (RFC 7914) derives from the password.
    Firebase {
        parameters: FirebaseParameters,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

impl Digest {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "pbkdf2-sha256",
            Self::Sha512 => "pbkdf2-sha512",
        }
    }

    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    /// The iterations that are imported.
    fn iterations(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::Sha256 => 100_000..=2_000_000,
            Self::Sha512 => 50_000..=1_000_000,
        }
    }

    /// The size of one block of output, which is the largest that is imported.
    fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl FirebaseParameters {
    /// The parameters, with keys in base64.
    ///
    /// # Errors
    ///
    /// When a text is no base64, or the costs are below the floor or above the ceiling.
    pub(crate) fn parse(
        signer_key: &str,
        salt_separator: &str,
        rounds: u32,
        log_n: u8,
    ) -> Result<Self, HashError> {
        let parameters = Self {
            signer_key: decode(signer_key)?,
            salt_separator: decode(salt_separator)?,
            rounds,
            log_n,
        };
        if !SIZES.contains(&parameters.signer_key.len()) || parameters.salt_separator.len() > 64 {
            return Err(HashError::Malformed);
        }
        if log_n < MINIMUM_LOG_N || rounds < MINIMUM_ROUNDS {
            return Err(HashError::TooWeak);
        }
        let kib = 1_u64.checked_shl(u32::from(log_n)).unwrap_or(u64::MAX) / 8;
        match kib.saturating_mul(u64::from(rounds)) <= u64::from(MAXIMUM_MEMORY_KIB) {
            true => Ok(parameters),
            false => Err(HashError::TooCostly),
        }
    }
}

impl ForeignHash {
    /// Parses a hash as it is stored, or as another system writes it: bcrypt's `$2b$…`, and PBKDF2 as
    /// in the PHC format, as passlib or as Django writes it.
    ///
    /// # Errors
    ///
    /// When it is another text, or its cost is out of bounds.
    pub(crate) fn parse(text: &str) -> Result<Self, HashError> {
        let parts: Vec<&str> = text.split('$').collect();
        match parts[..] {
            ["", "2a" | "2b" | "2y", cost, _] => bcrypt(text, cost),
            ["", "pbkdf2-sha256", iterations, salt, hash] => {
                pbkdf2_hash(Digest::Sha256, iterations, salt, hash)
            }
            ["", "pbkdf2-sha512", iterations, salt, hash] => {
                pbkdf2_hash(Digest::Sha512, iterations, salt, hash)
            }
            // Django's salt is a text of its own alphabet.
            ["pbkdf2_sha256", iterations, salt, hash] => {
                let salt = BASE64.encode(salt);
                pbkdf2_hash(Digest::Sha256, iterations, &salt, hash)
            }
            [
                "",
                "firebase-scrypt",
                costs,
                salt,
                separator,
                signer_key,
                hash,
            ] => {
                let (log_n, rounds) = costs.split_once(',').ok_or(HashError::Malformed)?;
                let parameters = FirebaseParameters::parse(
                    signer_key,
                    separator,
                    number(rounds.strip_prefix("r="))?,
                    number(log_n.strip_prefix("ln="))?,
                )?;
                Self::firebase(&parameters, salt, hash)
            }
            _ => Err(HashError::Malformed),
        }
    }

    /// A hash of a Firebase project, with hash and salt in base64.
    ///
    /// # Errors
    ///
    /// When one is no base64, or has another size.
    pub(crate) fn firebase(
        parameters: &FirebaseParameters,
        salt: &str,
        hash: &str,
    ) -> Result<Self, HashError> {
        let (salt, hash) = (decode(salt)?, decode(hash)?);
        // The signer key is encrypted as a stream.
        if hash.len() != parameters.signer_key.len() || salt.len() > *SIZES.end() {
            return Err(HashError::Malformed);
        }
        Ok(Self::Firebase {
            parameters: parameters.clone(),
            salt,
            hash,
        })
    }

    /// The scheme and its cost: hashes of one scheme take the same time.
    pub(crate) fn scheme(&self) -> String {
        match self {
            Self::Bcrypt(_, cost) => format!("bcrypt:{cost}"),
            Self::Pbkdf2 {
                digest, iterations, ..
            } => format!("{}:{iterations}", digest.name()),
            Self::Firebase { parameters, .. } => {
                format!("firebase-scrypt:{},{}", parameters.log_n, parameters.rounds)
            }
        }
    }

    /// The text that is stored.
    pub(crate) fn stored(&self) -> StoredHash {
        let text = match self {
            Self::Bcrypt(text, _) => text.clone(),
            Self::Pbkdf2 {
                digest,
                iterations,
                salt,
                hash,
            } => format!(
                "${}$i={iterations}${}${}",
                digest.name(),
                BASE64.encode(salt),
                BASE64.encode(hash)
            ),
            Self::Firebase {
                parameters,
                salt,
                hash,
            } => format!(
                "$firebase-scrypt$ln={},r={}${}${}${}${}",
                parameters.log_n,
                parameters.rounds,
                BASE64.encode(salt),
                BASE64.encode(&parameters.salt_separator),
                BASE64.encode(&parameters.signer_key),
                BASE64.encode(hash)
            ),
        };
        StoredHash::from(text.as_str())
    }

    /// Returns whether `password` has this hash.
    ///
    /// # Errors
    ///
    /// When the library does not take it.
    pub(crate) fn verify(&self, password: &Password) -> Result<bool, HashError> {
        match self {
            // As every implementation does, the crate reads 72 bytes of a password.
            Self::Bcrypt(text, _) => {
                bcrypt::verify(password.expose(), text).map_err(|_| HashError::Malformed)
            }
            Self::Pbkdf2 {
                digest,
                iterations,
                salt,
                hash,
            } => {
                let algorithm = digest.algorithm();
                let verified =
                    pbkdf2::verify(algorithm, *iterations, salt, password.expose(), hash);
                Ok(verified.is_ok())
            }
            Self::Firebase {
                parameters,
                salt,
                hash,
            } => {
                let expected = encrypt_signer_key(parameters, salt, password)?;
                Ok(verify_slices_are_equal(&expected, hash).is_ok())
            }
        }
    }
}

/// Returns what Firebase stores for a password: the signer key, encrypted by AES-256 in counter mode
/// with a zero block first.
fn encrypt_signer_key(
    parameters: &FirebaseParameters,
    salt: &[u8],
    password: &Password,
) -> Result<Vec<u8>, HashError> {
    let costs = scrypt::Params::new(parameters.log_n, parameters.rounds, 1);
    let costs = costs.map_err(|_| HashError::Malformed)?;
    let salt = [salt, &parameters.salt_separator].concat();
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.expose(), &salt, &costs, &mut *key)
        .map_err(|_| HashError::Malformed)?;
    let key = UnboundCipherKey::new(&AES_256, &*key).map_err(|_| HashError::Malformed)?;
    let key = EncryptingKey::ctr(key).map_err(|_| HashError::Malformed)?;
    let mut body = parameters.signer_key.clone();
    let start = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(&mut body, start)
        .map_err(|_| HashError::Malformed)?;
    Ok(body)
}

fn bcrypt(text: &str, cost: &str) -> Result<ForeignHash, HashError> {
    let parsed: u32 = number(Some(cost))?;
    // Parsed as a verification does: a hash that parses otherwise would be imported and never verify.
    if cost.len() != 2 || text.parse::<bcrypt::HashParts>().is_err() {
        return Err(HashError::Malformed);
    }
    within(parsed, &BCRYPT_COSTS)?;
    Ok(ForeignHash::Bcrypt(text.to_owned(), parsed))
}

fn pbkdf2_hash(
    digest: Digest,
    parameters: &str,
    salt: &str,
    hash: &str,
) -> Result<ForeignHash, HashError> {
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    let count = parameters.strip_prefix("i=").unwrap_or(parameters);
    let (count, size) = match count.split_once(",l=") {
        Some((count, size)) => (count, number(Some(size))?),
        None => (count, hash.len()),
    };
    let iterations: NonZeroU32 = number(Some(count))?;
    if size != hash.len()
        || !SIZES.contains(&salt.len())
        || !(16..=digest.size()).contains(&hash.len())
    {
        return Err(HashError::Malformed);
    }
    within(iterations.get(), &digest.iterations())?;
    Ok(ForeignHash::Pbkdf2 {
        digest,
        iterations,
        salt,
        hash,
    })
}

fn within(cost: u32, range: &std::ops::RangeInclusive<u32>) -> Result<(), HashError> {
    if cost < *range.start() {
        return Err(HashError::TooWeak);
    }
    range
        .contains(&cost)
        .then_some(())
        .ok_or(HashError::TooCostly)
}

fn number<T: std::str::FromStr>(text: Option<&str>) -> Result<T, HashError> {
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or(HashError::Malformed)
}

/// Decodes base64; passlib writes a dot in place of a plus, and some a URL's alphabet.
fn decode(text: &str) -> Result<Vec<u8>, HashError> {
    let text = text.replace(['.', '-'], "+").replace('_', "/");
    BASE64.decode(text).map_err(|_| HashError::Malformed)
}

#[cfg(test)]
mod tests;
