//! Passkeys (Web Authentication Level 3): people enrol public keys of their devices, and sign in with
//! them without a password, or in place of a code of the second factor.
//!
//! A passkey always verifies its user, by a PIN or a fingerprint. Between the two requests of a ceremony
//! nothing is stored: the client holds the state, encrypted, and any issuer on the same secrets reads it.
//! An answered challenge is stored until it would have expired, so that none is answered twice.

use crate::{config::RelyingParty, error::ApiError, state::AppState};

mod ceremony;
pub(crate) mod enrolment;
pub(crate) mod login;
pub(crate) mod manage;

/// Maximum number of passkeys of an account.
const MAXIMUM_PASSKEYS: i64 = 20;

/// Maximum length of a passkey's name, in characters.
const MAXIMUM_NAME_CHARACTERS: usize = 64;

/// Returns the domain and the origins that passkeys belong to.
///
/// # Errors
///
/// [`ApiError::PasskeysOff`] when the service takes no passkeys.
fn relying_party(state: &AppState) -> Result<RelyingParty, ApiError> {
    let party = state.settings().relying_party();
    party
        .map_err(|error| anyhow::anyhow!(error))?
        .ok_or(ApiError::PasskeysOff)
}

/// Returns the name of a passkey without spaces around it.
///
/// # Errors
///
/// [`ApiError::InvalidRequest`] when it is empty, too long, or has control characters.
fn parse_name(text: &str) -> Result<&str, ApiError> {
    let name = text.trim();
    let length = name.chars().count();
    let is_fine = (1..=MAXIMUM_NAME_CHARACTERS).contains(&length);
    if !is_fine || name.chars().any(char::is_control) {
        let rule = "the name must have 1 to 64 characters, and none for control";
        return Err(ApiError::InvalidRequest(rule.into()));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_64_characters_at_most() {
        assert_eq!(parse_name(" Alice's phone ").ok(), Some("Alice's phone"));
        let longest = "é".repeat(64);
        assert_eq!(parse_name(&longest).ok(), Some(longest.as_str()));
        for bad in ["", " ", "two\nlines", "nul\0", &"é".repeat(65)] {
            assert!(parse_name(bad).is_err(), "{bad:?}");
        }
    }
}
