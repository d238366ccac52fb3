//! Rules for accounts that are written, and reasons that a change is refused.

use shared_claims::{claims::Profile, ids::is_identifier};

use super::grants::GrantError;
use crate::{
    credentials::{CredentialError, email::Email},
    store::StoreError,
    user_claims::ClaimsError,
};

/// Checks a profile, and returns its address for mail. A token with a longer profile might be more than
/// the gateway reads, and one with characters that reorder text would show another name than it has.
pub(crate) fn check_profile(profile: &Profile) -> Result<Option<Email>, CredentialError> {
    let Profile {
        preferred_username: _,
        name,
        given_name,
        family_name,
        email,
        email_verified,
    } = profile;
    let mut texts = [name, given_name, family_name].into_iter().flatten();
    if !texts.all(|text| is_identifier(text)) {
        return Err(CredentialError::Profile);
    }
    if email.is_none() && *email_verified == Some(true) {
        return Err(CredentialError::EmailMissing);
    }
    email.as_deref().map(Email::parse).transpose()
}

/// Reason that an account was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else has the name.
    #[error("the name {0} is taken")]
    NameTaken(String),
    /// Somebody else has the address for mail.
    #[error("another account has this email")]
    EmailTaken,
    /// The account has no second factor.
    #[error("{0} has no second factor")]
    NoSecondFactor(String),
    /// Nobody has the name.
    #[error("there is no user {0}")]
    NoSuchUser(String),
    /// The account is another than the one that the operator has seen.
    #[error("the account was changed since")]
    Changed,
    /// The rights to rooms cannot be given.
    #[error(transparent)]
    Grants(GrantError),
    /// The roles or the custom claims cannot be given.
    #[error(transparent)]
    Claims(ClaimsError),
    /// The database failed.
    #[error("{}", .0.story())]
    Store(#[from] StoreError),
    /// The password breaks the policy, or the profile is none.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The database did not take it, or there was no randomness.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl From<GrantError> for ChangeError {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Other(error) => Self::Other(error),
            error => Self::Grants(error),
        }
    }
}
