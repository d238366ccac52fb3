//! One password hash: how it is made, stored and compared.

use std::fmt;

use anyhow::Context as _;
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, PasswordHash},
};
use zeroize::Zeroize as _;

use super::Password;

/// Random bytes in front of each password, so that equal passwords have different hashes.
pub(crate) const SALT_BYTES: usize = 16;

/// The most that a stored hash may ask for: what the database says must not cost all memory.
pub(crate) const MAXIMUM_MEMORY_KIB: u32 = 128 * 1024;
pub(crate) const MAXIMUM_PASSES: u32 = 16;
pub(crate) const MAXIMUM_LANES: u32 = 8;

/// The least work of a hash of Argon2 that is made or imported: memory in KiB times passes.
pub(crate) const MINIMUM_WORK: u64 = 12 * 1024;

/// Cost of a new hash.
pub type Cost = Params;

/// A password's hash as a PHC string, shown by nothing.
#[derive(Clone, sqlx::Type)]
#[sqlx(transparent)]
pub struct StoredHash(String);

impl StoredHash {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for StoredHash {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoredHash([redacted])")
    }
}

/// Reason that a stored hash cannot be used. The text repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not a hash of a scheme that is known.
    #[error("not a password hash of a scheme that is known")]
    Malformed,
    /// Guessing is cheaper than the floor for imported hashes allows.
    #[error("its parameters are below the floor")]
    TooWeak,
    /// The hash asks for more than a login may cost.
    #[error("its parameters are above the ceiling")]
    TooCostly,
}

/// Room for one hash.
pub(crate) fn new_memory(cost: &Cost) -> Vec<Block> {
    vec![Block::new(); cost.block_count()]
}

/// Returns whether a stored hash has the algorithm, version, cost and sizes of a new one.
pub(crate) fn is_current(stored: &StoredHash, cost: &Cost) -> bool {
    PasswordHash::new(stored.as_str()).is_ok_and(|stored| {
        stored.algorithm.as_str() == "argon2id"
            && stored.version == Some(Version::V0x13.into())
            && stored
                .salt
                .as_ref()
                .is_some_and(|salt| salt.len() == SALT_BYTES)
            && stored.hash.as_ref().map(|hash| hash.len())
                == Some(cost.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN))
            && Params::try_from(&stored).is_ok_and(|own| {
                (own.m_cost(), own.t_cost(), own.p_cost())
                    == (cost.m_cost(), cost.t_cost(), cost.p_cost())
            })
    })
}

/// A salt from the operating system.
pub(crate) fn random_salt() -> anyhow::Result<[u8; SALT_BYTES]> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).context("no randomness from the operating system")?;
    Ok(salt)
}

/// Hashes a password that is being set.
pub(crate) fn hash_password(
    password: &Password,
    salt: [u8; SALT_BYTES],
    cost: &Cost,
) -> Result<StoredHash, HashError> {
    use argon2::PasswordHasher as _;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.clone());
    argon2
        .hash_password_with_salt(password.expose(), &salt)
        .map(|hash: PasswordHash| StoredHash(hash.to_string()))
        .map_err(|_| HashError::Malformed)
}

/// A hash of Argon2, parsed.
pub(crate) struct Argon2Hash {
    pub(crate) parsed: PasswordHash,
    algorithm: Algorithm,
    version: Version,
    pub(crate) parameters: Params,
}

/// Parses a hash of Argon2 whose cost is not above the ceiling.
pub(crate) fn parse_argon2(stored: &StoredHash) -> Result<Argon2Hash, HashError> {
    let parsed = PasswordHash::new(stored.as_str()).map_err(|_| HashError::Malformed)?;
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str());
    let version = parsed.version.map(Version::try_from).transpose();
    let (Ok(algorithm), Ok(version), Ok(parameters)) =
        (algorithm, version, Params::try_from(&parsed))
    else {
        return Err(HashError::Malformed);
    };
    check_ceiling(&parameters)?;
    Ok(Argon2Hash {
        parsed,
        algorithm,
        // A text without a version is from before there was another one than this.
        version: version.unwrap_or(Version::V0x10),
        parameters,
    })
}

/// Whether `password` has the hash of Argon2 `stored`. `memory` is used for hashes with our parameters, and
/// overwritten by the next; an older hash that needs more gets its own for the moment.
pub(crate) fn verify_argon2(
    password: &Password,
    stored: &StoredHash,
    memory: &mut [Block],
) -> Result<bool, HashError> {
    let Argon2Hash {
        parsed,
        algorithm,
        version,
        parameters,
    } = parse_argon2(stored)?;
    let (Some(salt), Some(expected)) = (parsed.salt.as_ref(), parsed.hash.as_ref()) else {
        return Err(HashError::Malformed);
    };
    let blocks = parameters.block_count();
    let argon2 = Argon2::new(algorithm, version, parameters);
    let mut own = Vec::new();
    let memory = if blocks <= memory.len() {
        memory
    } else {
        own.resize(blocks, Block::new());
        &mut own
    };
    let mut buffer = [0; Output::MAX_LENGTH];
    let output = buffer
        .get_mut(..expected.len())
        .ok_or(HashError::Malformed)?;
    argon2
        .hash_password_into_with_memory(password.expose(), salt, output, memory)
        .map_err(|_| HashError::Malformed)?;
    let actual = Output::new(output).map_err(|_| HashError::Malformed)?;
    buffer.zeroize();
    // `Output` compares in constant time.
    Ok(actual == *expected)
}

fn check_ceiling(parameters: &Params) -> Result<(), HashError> {
    let is_fine = parameters.m_cost() <= MAXIMUM_MEMORY_KIB
        && parameters.t_cost() <= MAXIMUM_PASSES
        && parameters.p_cost() <= MAXIMUM_LANES;
    is_fine.then_some(()).ok_or(HashError::TooCostly)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text.to_owned()).expect("a password")
    }

    fn verify(text: &str, stored: &StoredHash) -> Result<bool, HashError> {
        verify_argon2(&password(text), stored, &mut new_memory(&Cost::DEFAULT))
    }

    #[test]
    fn a_hash_is_a_phc_string_of_argon2id() {
        let stored = hash_password(&password("open sesame"), [7; SALT_BYTES], &Cost::DEFAULT)
            .expect("a hash");
        let start = "$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$";
        assert!(stored.as_str().starts_with(start), "{}", stored.as_str());
        assert_eq!(verify("open sesame", &stored), Ok(true));
        assert_eq!(format!("{stored:?}"), "StoredHash([redacted])");
    }

    #[test]
    fn nothing_of_a_long_password_is_cut_off() {
        let long = "a".repeat(1023);
        let stored = hash_password(
            &password(&format!("{long}b")),
            [7; SALT_BYTES],
            &Cost::DEFAULT,
        )
        .expect("a hash");
        assert_eq!(verify(&format!("{long}b"), &stored), Ok(true));
        assert_eq!(verify(&format!("{long}c"), &stored), Ok(false));
    }

    #[test]
    fn a_hash_of_other_parameters_within_the_ceiling_is_verified() {
        use argon2::PasswordHasher as _;
        for (memory_kib, passes) in [(1024, 1), (32 * 1024, 1)] {
            let parameters = Params::new(memory_kib, passes, 1, None).expect("parameters");
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
            let hash = argon2
                .hash_password_with_salt(b"open sesame", &[7; SALT_BYTES])
                .expect("a hash");
            let stored = StoredHash(hash.to_string());
            assert_eq!(verify("open sesame", &stored), Ok(true));
            assert_eq!(verify("open barley", &stored), Ok(false));
        }
    }

    #[test]
    fn a_hash_without_a_version_is_of_the_first_one() {
        use argon2::PasswordHasher as _;
        for (version, text) in [(Version::V0x10, "$v=16"), (Version::V0x13, "$v=19")] {
            let argon2 = Argon2::new(Algorithm::Argon2id, version, Cost::DEFAULT);
            let hash = argon2
                .hash_password_with_salt(b"open sesame", &[7; SALT_BYTES])
                .expect("a hash")
                .to_string();
            let bare = StoredHash(hash.replace(text, ""));
            assert_ne!(bare.as_str(), hash);
            assert_eq!(verify("open sesame", &StoredHash(hash)), Ok(true));
            let is_first = version == Version::V0x10;
            assert_eq!(verify("open sesame", &bare), Ok(is_first));
        }
    }

    #[test]
    fn a_hash_is_current_with_the_version_the_cost_and_the_sizes_of_a_new_one() {
        let new = hash_password(&password("open sesame"), [7; SALT_BYTES], &Cost::DEFAULT)
            .expect("a hash");
        assert!(is_current(&new, &Cost::DEFAULT));
        let text = new.as_str();
        let (start, output) = text.rsplit_once('$').expect("an output");
        for other in [
            text.replace("argon2id", "argon2i"),
            text.replace("v=19", "v=16"),
            text.replace("$v=19", ""),
            text.replace("t=2", "t=3"),
            text.replace("BwcHBwcHBwcHBwcHBwcHBw", "BwcHBwcHBwc"),
            format!("{start}${}", &output[..22].replace(&output[21..22], "A")),
        ] {
            let stored = StoredHash::from(other.as_str());
            assert!(parse_argon2(&stored).is_ok(), "{other}");
            assert!(!is_current(&stored, &Cost::DEFAULT), "{other}");
        }
    }

    #[test]
    fn a_hash_above_the_ceiling_is_refused_before_any_work() {
        for parameters in [
            "m=4194304,t=2,p=1",
            "m=19456,t=4294967295,p=1",
            "m=19456,t=2,p=99",
        ] {
            let text = format!("$argon2id$v=19${parameters}$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo");
            let stored = StoredHash::from(text.as_str());
            assert_eq!(
                verify("x", &stored),
                Err(HashError::TooCostly),
                "{parameters}"
            );
        }
    }

    #[test]
    fn a_broken_hash_is_refused() {
        for text in [
            "",
            "plain text",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMU",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ",
            "$argon2id$v=99$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
            "$scrypt$ln=15,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        ] {
            let refused = verify("x", &StoredHash::from(text));
            assert_eq!(refused, Err(HashError::Malformed), "{text}");
        }
    }
}
