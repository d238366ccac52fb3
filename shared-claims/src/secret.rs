//! The shared secrets: read from one of two variables, refused when they are weak, shown nowhere.

use std::{ffi::OsString, fmt, io, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use zeroize::{Zeroize, Zeroizing};

/// The variable that holds the secrets themselves, separated by commas.
pub const SECRET_VARIABLE: &str = "LATCHKEY_SECRET";

/// The variable that names a file with the secrets, one a line. Better than [`SECRET_VARIABLE`],
/// which child processes and crash reports can see.
pub const SECRET_FILE_VARIABLE: &str = "LATCHKEY_SECRET_FILE";

/// The fewest bytes of a secret: HS256 wants a key as long as its hash (RFC 7518, section 3.2).
pub const MINIMUM_SECRET_BYTES: usize = 32;

/// Secrets of 32 bytes or more that stand in documentation, and so in every attacker's list.
const WELL_KNOWN_SAMPLES: [&str; 6] = [
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    "this_is_a_very_secret_key_that_is_at_least_32_bytes_long",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "abcdefghijklmnopqrstuvwxyz123456",
];

/// One shared secret, strong enough to sign with. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    fn parse(text: &str) -> Result<Self, Weakness> {
        let bytes = text.as_bytes();
        if bytes.len() < MINIMUM_SECRET_BYTES {
            return Err(Weakness::TooShort(bytes.len()));
        }
        if is_repetitive(bytes) {
            return Err(Weakness::Repetitive);
        }
        if WELL_KNOWN_SAMPLES.contains(&text) {
            return Err(Weakness::WellKnown);
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The bytes, for the one who signs or verifies with them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The public name of this secret in a token's header: both services derive the same one, and
    /// 96 bits of a keyed hash tell nothing of the key.
    ///
    /// # Errors
    ///
    /// When the cryptographic provider fails, which it does not for HS256.
    pub fn key_id(&self) -> Result<String, jsonwebtoken::errors::Error> {
        let key = EncodingKey::from_secret(self.expose());
        let mut mac = jsonwebtoken::crypto::sign(b"latchkey key id", &key, Algorithm::HS256)?;
        mac.truncate(16);
        Ok(mac)
    }
}

/// Returns whether bytes repeat their start for a third of their length or more: they are worth as much as one
/// piece.
fn is_repetitive(bytes: &[u8]) -> bool {
    (1..=bytes.len() * 2 / 3).any(|period| bytes[period..] == bytes[..bytes.len() - period])
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret([redacted])")
    }
}

/// The secrets of a deployment, at least one: the first signs, all verify, so that one can be
/// replaced while tokens of the old one are still about.
#[derive(Clone, Debug)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads the secrets from wherever the environment says they are.
    ///
    /// `variable` looks a variable up, `read_file` reads a file: this crate does neither itself.
    ///
    /// # Errors
    ///
    /// One line that names the variable and what is wrong, and never the value.
    pub fn load(
        variable: impl Fn(&str) -> Option<OsString>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, SecretError> {
        match (variable(SECRET_VARIABLE), variable(SECRET_FILE_VARIABLE)) {
            (None, None) => Err(SecretError::Missing),
            (Some(_), Some(_)) => Err(SecretError::Both),
            (Some(value), None) => {
                let not_text = |_| SecretError::NotText {
                    variable: SECRET_VARIABLE,
                };
                let text = Zeroizing::new(value.into_string().map_err(not_text)?);
                Self::parse(SECRET_VARIABLE, &text, ',')
            }
            (None, Some(path)) => {
                let text =
                    read_file(Path::new(&path)).map_err(|error| SecretError::Unreadable {
                        path: path.to_string_lossy().into_owned(),
                        reason: error.kind(),
                    })?;
                Self::parse(SECRET_FILE_VARIABLE, &Zeroizing::new(text), '\n')
            }
        }
    }

    /// Parses secrets that are separated by `separator`; white space around them does not count.
    ///
    /// # Errors
    ///
    /// When there is none, or when one is weak or stands twice.
    pub fn parse(variable: &'static str, text: &str, separator: char) -> Result<Self, SecretError> {
        let mut secrets: Vec<Secret> = Vec::new();
        let parts = text
            .split(separator)
            .map(str::trim)
            .filter(|part| !part.is_empty());
        for (index, part) in parts.enumerate() {
            let weak = |weakness| SecretError::Weak {
                variable,
                position: index + 1,
                weakness,
            };
            let secret = Secret::parse(part).map_err(weak)?;
            if secrets
                .iter()
                .any(|other| other.expose() == secret.expose())
            {
                return Err(weak(Weakness::Repeated));
            }
            secrets.push(secret);
        }
        if secrets.is_empty() {
            return Err(SecretError::Empty { variable });
        }
        Ok(Self(secrets))
    }

    /// The secret that signs.
    #[must_use]
    pub fn signing(&self) -> &Secret {
        &self.0[0]
    }

    /// All of them, the signing one first.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

/// A new secret as text, from 256 random bits.
#[must_use]
pub fn from_random(mut bytes: [u8; 32]) -> Zeroizing<String> {
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes));
    bytes.zeroize();
    text
}

/// Why there is no usable secret. The text names the variable and never the value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SecretError {
    /// Neither variable is set.
    #[error(
        "{SECRET_VARIABLE}: not set, nor is {SECRET_FILE_VARIABLE}; give a secret of at least {MINIMUM_SECRET_BYTES} bytes (`auth-service secret init FILE` makes one)"
    )]
    Missing,
    /// Both variables are set, and nobody can say which one is meant.
    #[error("{SECRET_VARIABLE}: set together with {SECRET_FILE_VARIABLE}; set only one of them")]
    Both,
    /// The variable is set, but to nothing.
    #[error("{variable}: holds no secret; at least {MINIMUM_SECRET_BYTES} bytes are needed")]
    Empty {
        /// Which variable.
        variable: &'static str,
    },
    /// The variable holds bytes that are no UTF-8.
    #[error("{variable}: is not text in UTF-8")]
    NotText {
        /// Which variable.
        variable: &'static str,
    },
    /// The file cannot be read.
    #[error("{SECRET_FILE_VARIABLE}: cannot read {path}: {reason}")]
    Unreadable {
        /// The file that was named.
        path: String,
        /// What the operating system says.
        reason: io::ErrorKind,
    },
    /// One of the secrets is too easy to guess.
    #[error("{variable}: secret number {position} {weakness}")]
    Weak {
        /// Which variable.
        variable: &'static str,
        /// Which of its secrets, counted from 1.
        position: usize,
        /// What is wrong with it.
        weakness: Weakness,
    },
}

/// What makes a secret unfit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Weakness {
    /// Fewer bytes than [`MINIMUM_SECRET_BYTES`].
    #[error("has {0} bytes, at least {MINIMUM_SECRET_BYTES} are needed")]
    TooShort(usize),
    /// The same bytes over and over.
    #[error("is one piece repeated")]
    Repetitive,
    /// It stands in somebody's documentation.
    #[error("is a well-known sample")]
    WellKnown,
    /// It stands in the list twice.
    #[error("stands there twice")]
    Repeated,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
    const OTHER: &str = "Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";

    fn load(value: Option<&str>, file: Option<io::Result<&str>>) -> Result<Secrets, SecretError> {
        Secrets::load(
            |name| match name {
                SECRET_VARIABLE => value.map(OsString::from),
                _ => file.as_ref().map(|_| OsString::from("/run/secret")),
            },
            |_| match &file {
                Some(Ok(text)) => Ok((*text).to_owned()),
                Some(Err(error)) => Err(error.kind().into()),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        )
    }

    #[test]
    fn a_secret_of_32_bytes_is_taken_and_one_of_31_is_not() {
        assert!(load(Some(GOOD), None).is_ok());
        let error = load(Some(&GOOD[1..]), None).expect_err("31 bytes");
        assert_eq!(
            error.to_string(),
            "LATCHKEY_SECRET: secret number 1 has 31 bytes, at least 32 are needed"
        );
    }

    #[test]
    fn missing_empty_and_doubled_settings_are_told_apart() {
        assert_eq!(load(None, None).expect_err("missing"), SecretError::Missing);
        assert_eq!(
            load(Some(" "), None).expect_err("empty").to_string(),
            "LATCHKEY_SECRET: holds no secret; at least 32 bytes are needed"
        );
        assert_eq!(
            load(Some(GOOD), Some(Ok(GOOD))).expect_err("both"),
            SecretError::Both
        );
        assert_eq!(
            load(None, Some(Err(io::ErrorKind::NotFound.into())))
                .expect_err("no file")
                .to_string(),
            "LATCHKEY_SECRET_FILE: cannot read /run/secret: entity not found"
        );
    }

    #[test]
    fn guessable_secrets_are_refused() {
        for (text, weakness) in [
            ("a".repeat(40).as_str(), Weakness::Repetitive),
            ("password".repeat(4).as_str(), Weakness::Repetitive),
            ("12345678901234567890123456789012", Weakness::Repetitive),
            ("your-256-bit-secret-your-256-bit", Weakness::Repetitive),
            (WELL_KNOWN_SAMPLES[0], Weakness::WellKnown),
        ] {
            let error = load(Some(text), None).expect_err(text);
            assert_eq!(
                error,
                SecretError::Weak {
                    variable: SECRET_VARIABLE,
                    position: 1,
                    weakness
                }
            );
        }
    }

    #[test]
    fn a_file_holds_one_secret_a_line_and_the_first_signs() {
        let secrets = load(None, Some(Ok(&format!("{GOOD}\r\n\n{OTHER}\n")))).expect("two secrets");
        assert_eq!(secrets.signing().expose(), GOOD.as_bytes());
        assert_eq!(secrets.iter().count(), 2);
        let doubled = load(Some(&format!("{GOOD},{GOOD}")), None).expect_err("twice the same");
        assert_eq!(
            doubled.to_string(),
            "LATCHKEY_SECRET: secret number 2 stands there twice"
        );
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secrets = load(Some(GOOD), None).expect("a secret");
        assert_eq!(format!("{secrets:?}"), "Secrets([Secret([redacted])])");
        let id = secrets.signing().key_id().expect("a key id");
        assert_eq!(id.len(), 16);
        assert!(!GOOD.contains(&id));
    }
}
