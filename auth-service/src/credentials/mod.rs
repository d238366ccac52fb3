//! Names and passwords, as far as they can be judged without looking into the database.

pub mod email;
pub(crate) mod foreign;
pub mod hash;
pub(crate) mod schemes;
mod strength;

use std::fmt;

use precis_core::profile::PrecisFastInvocation as _;
use precis_profiles::{OpaqueString, UsernameCaseMapped};
use shared_claims::ids::{MAXIMUM_IDENTIFIER_BYTES, is_identifier};
use zeroize::Zeroizing;
use zxcvbn::zxcvbn;

/// The longest name, in bytes.
pub const MAXIMUM_USERNAME_BYTES: usize = 64;

/// The longest password, in bytes. Nothing is cut off below it: Argon2 takes all of them.
pub const MAXIMUM_PASSWORD_BYTES: usize = 1024;

/// The fewest code points of a password that is being set (NIST SP 800-63B, section 5.1.1.2).
pub const MINIMUM_PASSWORD_CHARACTERS: usize = 8;

/// A name to sign in with, of up to 64 bytes, as the PRECIS profile `UsernameCaseMapped` (RFC 8265,
/// section 3.3) leaves it: capitals and wide forms are folded, and characters are composed, so that
/// what is the same name has the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// The name that `text` stands for.
    ///
    /// # Errors
    ///
    /// When it holds spaces, controls, symbols or other characters that the profile does not let
    /// into a name, none, or too many.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        if text.len() > MAXIMUM_USERNAME_BYTES {
            return Err(CredentialError::Username);
        }
        let name = UsernameCaseMapped::enforce(text).map_err(|_| CredentialError::Username)?;
        // Of ASCII the profile would take quotes and slashes too, which stand for something else in
        // a command, a URL or a log line; and a dot at an end is easily taken for the sentence's.
        let is_fine = (1..=MAXIMUM_USERNAME_BYTES).contains(&name.len())
            && is_identifier(&name)
            && !name.starts_with('.')
            && !name.ends_with('.')
            && name.chars().all(|character| {
                !character.is_ascii()
                    || character.is_ascii_alphanumeric()
                    || "._@+-".contains(character)
            });
        is_fine
            .then(|| Self(name.into_owned()))
            .ok_or(CredentialError::Username)
    }

    /// Parses a name that is typed to sign in. Phone keyboards and password managers add white space
    /// around it, which is removed. A name that is given to an account has none.
    ///
    /// # Errors
    ///
    /// See [`Self::parse`].
    pub fn parse_typed(text: &str) -> Result<Self, CredentialError> {
        Self::parse(text.trim())
    }

    /// Skeleton of the name: two names with the same skeleton cannot be told apart by eye
    /// (Unicode Technical Standard 39, section 4).
    #[must_use]
    pub fn skeleton(&self) -> String {
        unicode_security::skeleton(&self.0).collect()
    }

    /// The name, folded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password as the PRECIS profile `OpaqueString` (RFC 8265, section 4.2) leaves it: characters are
/// composed, and spaces of other scripts become the common one, so that the same password has the
/// same bytes on every system. Wiped when dropped, and shown by nothing.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password that `text` is.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than 1024 bytes, or has controls in it, such as NUL.
    pub fn parse(text: impl Into<Zeroizing<String>>) -> Result<Self, CredentialError> {
        let text = text.into();
        if !(1..=MAXIMUM_PASSWORD_BYTES).contains(&text.len()) {
            return Err(CredentialError::Password);
        }
        let enforced = OpaqueString::enforce(text.as_str());
        enforced
            .map(|text| Self(Zeroizing::new(text.into_owned())))
            .map_err(|_| CredentialError::Password)
    }

    /// Whether this password may be set by somebody of whom `words`, the name first, are known. It
    /// is not asked at login: a rule that is made stricter later must lock nobody out. It takes as long
    /// as a login at most: a password that takes longer is judged by its start.
    ///
    /// # Errors
    ///
    /// When it is too short, the name itself, or takes too few guesses, counted from 0 to 4 as
    /// zxcvbn does.
    pub fn check_policy(&self, words: &[String], minimum_score: u8) -> Result<(), CredentialError> {
        if self.0.chars().count() < MINIMUM_PASSWORD_CHARACTERS {
            return Err(CredentialError::PasswordTooShort);
        }
        let folded = self.0.to_lowercase();
        if words.first().is_some_and(|name| *name == folded) {
            return Err(CredentialError::PasswordIsUsername);
        }
        let judged = strength::judged_part(&self.0);
        let words: Vec<&str> = words
            .iter()
            .map(|word| strength::judged_word(word))
            .collect();
        if u8::from(zxcvbn(&judged, &words).score()) < minimum_score {
            return Err(CredentialError::PasswordGuessable);
        }
        Ok(())
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password([redacted])")
    }
}

/// Reason that a name or a password cannot be one. The text repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not a name.
    #[error(
        "a name has 1 to {MAXIMUM_USERNAME_BYTES} bytes of letters, digits and ._@+-, \
         without a dot at an end"
    )]
    Username,
    /// Not a password.
    #[error("a password has 1 to {MAXIMUM_PASSWORD_BYTES} bytes, and no control characters")]
    Password,
    /// Too easy to try out.
    #[error("a password has at least {MINIMUM_PASSWORD_CHARACTERS} characters")]
    PasswordTooShort,
    /// A token carries the profile, and has no room for a novel.
    #[error(
        "a name or address of the profile has 1 to {MAXIMUM_IDENTIFIER_BYTES} bytes, \
         and no control characters"
    )]
    Profile,
    /// Not an address for mail.
    #[error("an email is one address such as alice@example.org, without a display name")]
    Email,
    /// There is no address that could be verified.
    #[error("email_verified can be true for an account with an email alone")]
    EmailMissing,
    /// Few guesses find it.
    #[error("the password is too easy to guess; several uncommon words make a better one")]
    PasswordGuessable,
    /// The first thing that is tried.
    #[error("the password must not be the name")]
    PasswordIsUsername,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Result<Password, CredentialError> {
        Password::parse(text.to_owned())
    }

    fn name(text: &str) -> Result<String, CredentialError> {
        Username::parse(text).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn forms_of_one_name_are_one_name() {
        for (text, expected) in [
            ("Alice.B+c@Example-1_x", "alice.b+c@example-1_x"),
            ("caf\u{e9}", "caf\u{e9}"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("\u{ff21}lice", "alice"),
            ("STRASSE", "strasse"),
            ("stra\u{df}e", "stra\u{df}e"),
            (
                "\u{41f}\u{451}\u{442}\u{440}",
                "\u{43f}\u{451}\u{442}\u{440}",
            ),
        ] {
            assert_eq!(name(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(name(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn what_hides_or_means_something_else_is_no_name() {
        for bad in [
            "",
            " alice",
            "alice ",
            "al ice",
            "al\0ice",
            "admin\u{0}",
            "a/b",
            "a'b",
            "a\"b",
            "alice.",
            ".alice",
            "al\u{202e}ice",
            "al\u{200d}ice",
            "al\u{ad}ice",
            "\u{fb01}n",
            "a\nb",
            "\u{2603}",
            "\u{feff}alice",
        ] {
            assert_eq!(name(bad), Err(CredentialError::Username), "{bad:?}");
        }
        assert!(name(&"a".repeat(65)).is_err());
        assert!(name(&"a".repeat(1024 * 1024)).is_err());
    }

    #[test]
    fn white_space_around_a_typed_name_is_removed_and_inside_it_is_refused() {
        let typed = |text: &str| Username::parse_typed(text).map(|name| name.0);
        for text in [" alice", "alice\n", "\t alice \r\n", "\u{a0}Alice\u{3000}"] {
            assert_eq!(typed(text).as_deref(), Ok("alice"), "{text:?}");
        }
        for bad in [" ", "al ice", "alice\u{200b}", "\0alice"] {
            assert_eq!(typed(bad), Err(CredentialError::Username), "{bad:?}");
        }
    }

    #[test]
    fn names_that_look_the_same_have_one_skeleton() {
        let skeleton = |text: &str| Username::parse(text).expect("a name").skeleton();
        for (one, other) in [
            ("alice", "\u{430}lice"),
            ("paypal", "p\u{430}yp\u{430}l"),
            ("bob", "b\u{43e}b"),
            ("al1ce", "alice"),
        ] {
            let is_same = skeleton(one) == skeleton(other);
            assert_eq!(is_same, one != "al1ce", "{one} {other}");
        }
        assert_ne!(skeleton("alice"), skeleton("bob"));
    }

    #[test]
    fn a_password_has_1_to_1024_bytes_without_controls() {
        for good in [
            "a".to_owned(),
            "a".repeat(1024),
            " ".to_owned(),
            "\u{e9}".repeat(512),
        ] {
            assert!(password(&good).is_ok());
        }
        for bad in [
            String::new(),
            "a".repeat(1025),
            "a".repeat(1024 * 1024),
            "a\0b".to_owned(),
            "a\nb".to_owned(),
        ] {
            assert_eq!(password(&bad).err(), Some(CredentialError::Password));
        }
    }

    #[test]
    fn a_password_has_the_same_bytes_on_every_system() {
        let bytes = |text: &str| password(text).expect("a password").expose().to_vec();
        assert_eq!(bytes("caf\u{e9} au lait"), bytes("cafe\u{301} au lait"));
        assert_eq!(bytes("a\u{3000}b"), bytes("a b"));
        assert_ne!(bytes("Caf\u{e9}"), bytes("caf\u{e9}"));
        assert_ne!(bytes("a "), bytes("a"));
    }

    #[test]
    fn a_password_to_set_takes_many_guesses_and_is_not_the_name() {
        let words = ["alice.liddell", "Alice Liddell"].map(str::to_owned);
        let check = |text: &str| password(text).expect("a password").check_policy(&words, 3);
        assert_eq!(
            check("\u{e9}\u{df}\u{e9}\u{df}\u{e9}\u{df}\u{e9}"),
            Err(CredentialError::PasswordTooShort)
        );
        assert_eq!(
            check("Alice.Liddell"),
            Err(CredentialError::PasswordIsUsername)
        );
        for common in [
            "password",
            "12345678",
            "qwertyuiop",
            "iloveyou",
            "liddell2026",
            "aaaaaaaaaaaa",
        ] {
            assert_eq!(
                check(common),
                Err(CredentialError::PasswordGuessable),
                "{common}"
            );
        }
        assert_eq!(check("a rabbit with a waistcoat"), Ok(()));
        assert_eq!(check(&"correct horse ".repeat(70)), Ok(()));
        let lenient = password("password")
            .expect("a password")
            .check_policy(&words, 0);
        assert_eq!(lenient, Ok(()));
    }

    #[test]
    fn a_password_shows_nothing_of_itself() {
        let shown = format!("{:?}", password("correct horse").expect("a password"));
        assert_eq!(shown, "Password([redacted])");
    }
}
