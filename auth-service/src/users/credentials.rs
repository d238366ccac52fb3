//! Names and passwords, as far as they can be judged without looking into the database.

use std::fmt;

use shared_claims::ids::MAXIMUM_IDENTIFIER_BYTES;
use zeroize::Zeroizing;

/// The longest name, in bytes.
pub const MAXIMUM_USERNAME_BYTES: usize = 64;

/// The longest password, in bytes. Nothing is cut off below it: Argon2 takes all of them.
pub const MAXIMUM_PASSWORD_BYTES: usize = 1024;

/// The fewest code points of a password that is being set (NIST SP 800-63B, section 5.1.1.2).
pub const MINIMUM_PASSWORD_CHARACTERS: usize = 8;

/// A name to sign in with: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `@`, `+` and `-`.
///
/// ASCII capitals are folded. Names of other scripts are refused for now: they need the PRECIS
/// profile `UsernameCaseMapped` (RFC 8265), so that no two of them look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// The name that `text` stands for.
    ///
    /// # Errors
    ///
    /// When it holds another character, none, or too many.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let folded = text.to_ascii_lowercase();
        let is_fine = (1..=MAXIMUM_USERNAME_BYTES).contains(&folded.len())
            && folded.bytes().all(
                |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'@' | b'+' | b'-'),
            );
        is_fine
            .then_some(Self(folded))
            .ok_or(CredentialError::Username)
    }

    /// What the name looks like: two names with the same skeleton cannot be told apart by eye
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

/// A password of 1 to 1024 bytes without NUL; wiped when dropped, and shown by nothing.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password that `text` is, byte for byte.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or has a NUL in it.
    pub fn parse(text: impl Into<Zeroizing<String>>) -> Result<Self, CredentialError> {
        let text = text.into();
        let is_fine = (1..=MAXIMUM_PASSWORD_BYTES).contains(&text.len()) && !text.contains('\0');
        is_fine
            .then_some(Self(text))
            .ok_or(CredentialError::Password)
    }

    /// Whether this password may be set for `username`. It is not asked at login: a rule that is
    /// made stricter later must lock nobody out.
    ///
    /// # Errors
    ///
    /// When it is too short, or the name itself.
    pub fn check_policy(&self, username: &Username) -> Result<(), CredentialError> {
        if self.0.chars().count() < MINIMUM_PASSWORD_CHARACTERS {
            return Err(CredentialError::PasswordTooShort);
        }
        if self.0.eq_ignore_ascii_case(username.as_str()) {
            return Err(CredentialError::PasswordIsUsername);
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

/// Why a name or a password cannot be one. The text repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not a name.
    #[error("a name has 1 to {MAXIMUM_USERNAME_BYTES} of a-z, 0-9 and ._@+-")]
    Username,
    /// Not a password.
    #[error("a password has 1 to {MAXIMUM_PASSWORD_BYTES} bytes, and none of them is NUL")]
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

    #[test]
    fn a_name_is_folded_and_nothing_else_is_done_to_it() {
        let name = Username::parse("Alice.B+c@Example-1_x").expect("a name");
        assert_eq!(name.as_str(), "alice.b+c@example-1_x");
        assert!(Username::parse(&"a".repeat(64)).is_ok());
        for bad in [
            "", " alice", "alice ", "al\0ice", "älice", "аlice", "a/b", "a'b",
        ] {
            assert_eq!(
                Username::parse(bad),
                Err(CredentialError::Username),
                "{bad:?}"
            );
        }
        assert!(Username::parse(&"a".repeat(65)).is_err());
    }

    #[test]
    fn a_password_has_1_to_1024_bytes_without_nul() {
        for good in [
            "a".to_owned(),
            "a".repeat(1024),
            " ".to_owned(),
            "é".repeat(512),
        ] {
            assert!(password(&good).is_ok());
        }
        for bad in [String::new(), "a".repeat(1025), "a\0b".to_owned()] {
            assert_eq!(password(&bad).err(), Some(CredentialError::Password));
        }
    }

    #[test]
    fn a_password_to_set_is_8_code_points_and_not_the_name() {
        let name = Username::parse("alice.liddell").expect("a name");
        let check = |text: &str| password(text).expect("a password").check_policy(&name);
        assert_eq!(check("ééééééé"), Err(CredentialError::PasswordTooShort));
        assert_eq!(check("éééééééé"), Ok(()));
        assert_eq!(
            check("Alice.Liddell"),
            Err(CredentialError::PasswordIsUsername)
        );
    }

    #[test]
    fn a_password_shows_nothing_of_itself() {
        let shown = format!("{:?}", password("correct horse").expect("a password"));
        assert_eq!(shown, "Password([redacted])");
    }
}
