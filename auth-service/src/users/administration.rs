//! Administration of accounts by an operator, by command or over HTTP: both call these functions.

use std::time::SystemTime;

use serde_json::{Map, Value};
use shared_claims::{authorization::AuthorizationDetail, claims::Profile, ids::is_identifier};

use super::{
    change::{ChangeError, check_profile},
    grants,
};
use crate::{
    clock::seconds_since_epoch,
    config::Settings,
    credentials::{CredentialError, Username, email::Email, hash::StoredHash},
    ids::random_id,
    store::{
        Account, AccountPage, Added, Deleted, Edit, EditedProfile, EndReason, Ending,
        ManagedAccount, NewAccount, NewGrant, SessionFilter, Store, event::Actor,
    },
    user_claims::{ClaimsError, UserClaims},
};

/// Manages accounts in the name of one actor, whom the audit log names.
pub struct Administration<'a> {
    pub(super) store: Store,
    pub(super) settings: &'a Settings,
}

/// A change of a profile. `None` leaves a member as it is, and `Some(None)` removes it.
#[derive(Clone, Debug, Default)]
pub struct ProfileEdit {
    /// The full name.
    pub name: Option<Option<String>>,
    /// The given name.
    pub given_name: Option<Option<String>>,
    /// The family name.
    pub family_name: Option<Option<String>>,
    /// The address for mail. Another address counts as not verified, unless the edit vouches for it.
    pub email: Option<Option<String>>,
    /// Whether the operator vouches for the address.
    pub email_verified: Option<bool>,
}

impl<'a> Administration<'a> {
    /// Manages the accounts in `store` in the name of `actor`.
    #[must_use]
    pub fn new(store: &Store, actor: Actor, settings: &'a Settings) -> Self {
        Self {
            store: store.acting_as(actor),
            settings,
        }
    }

    /// Makes an account with the hash of its password, and returns its id. The name and the password
    /// were checked by the caller.
    ///
    /// # Errors
    ///
    /// When the name or the address is taken, or the profile is none.
    pub async fn add(
        &self,
        username: &Username,
        profile: Profile,
        password_hash: StoredHash,
    ) -> Result<String, ChangeError> {
        let email = check_profile(&profile)?;
        let account = NewAccount {
            id: random_id()?,
            username: username.as_str().to_owned(),
            skeleton: username.skeleton(),
            password_hash,
            profile,
            email,
            created_at: seconds_since_epoch(SystemTime::now())?,
        };
        match self.store.insert_account(&account).await? {
            Added::Fine => Ok(account.id),
            Added::NameTaken => Err(ChangeError::NameTaken(account.username)),
            Added::EmailTaken => Err(ChangeError::EmailTaken),
            Added::IdTaken => Err(anyhow::anyhow!("a random id was given before").into()),
        }
    }

    /// The account with this id.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn find(&self, id: &str) -> Result<ManagedAccount, ChangeError> {
        let found = match is_identifier(id) {
            true => self.store.find_managed(id).await?,
            false => None,
        };
        found.ok_or_else(|| unknown(id))
    }

    /// The account with this name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn find_by_name(&self, username: &Username) -> Result<Account, ChangeError> {
        let found = self.store.find_account_by_name(username.as_str()).await?;
        let found = found.map(|found| found.account);
        found.ok_or_else(|| unknown(username.as_str()))
    }

    /// The accounts of a page, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(&self, page: &AccountPage) -> Result<Vec<ManagedAccount>, ChangeError> {
        Ok(self.store.list_managed(page).await?)
    }

    /// Edits the profile of an account, if `is_expected` says that the account is still the one that the
    /// operator has seen.
    ///
    /// # Errors
    ///
    /// When there is no such account, the address is another's, or the profile is none.
    pub async fn edit(
        &self,
        id: &str,
        edit: ProfileEdit,
        is_expected: impl FnOnce(&ManagedAccount) -> bool,
    ) -> Result<ManagedAccount, ChangeError> {
        if !is_identifier(id) {
            return Err(unknown(id));
        }
        let now = now()?;
        let apply = |current: &ManagedAccount| match is_expected(current) {
            true => edit.apply(&current.account, now).map_err(ChangeError::from),
            false => Err(ChangeError::Changed),
        };
        match self.store.edit_profile(id, now, apply).await? {
            Edit::Fine(account) => Ok(*account),
            Edit::Unknown => Err(unknown(id)),
            Edit::EmailTaken => Err(ChangeError::EmailTaken),
            Edit::Refused(error) => Err(error),
        }
    }

    /// Shuts an account, or leaves it shut: nobody signs in with it any more, and its sessions end.
    ///
    /// # Errors
    ///
    /// When there is no such account.
    pub async fn disable(&self, id: &str) -> Result<(), ChangeError> {
        self.find(id).await?;
        let ending = self.ending(EndReason::AccountDisabled)?;
        require(id, self.store.disable_account(id, ending).await?)
    }

    /// Opens an account that was shut, or leaves it open.
    ///
    /// # Errors
    ///
    /// When there is no such account.
    pub async fn enable(&self, id: &str) -> Result<(), ChangeError> {
        self.find(id).await?;
        require(id, self.store.enable_account(id, now()?).await?)
    }

    /// Ends all sessions of an account, and returns how many they were.
    ///
    /// # Errors
    ///
    /// When there is no such account.
    pub async fn end_sessions(&self, id: &str) -> Result<usize, ChangeError> {
        self.find(id).await?;
        let ending = self.ending(EndReason::OperatorEnded)?;
        Ok(self
            .store
            .end_sessions(id, SessionFilter::All, ending)
            .await?
            .len())
    }

    /// Takes the second factor and the passkeys of an account away; `false` when it has neither.
    ///
    /// # Errors
    ///
    /// When there is no such account.
    pub async fn reset_second_factor(&self, id: &str) -> Result<bool, ChangeError> {
        self.find(id).await?;
        // Enrolments that were started with a code are refused from here on, so that none adds a passkey again.
        let had_totp = self.store.delete_totp(id, now()?).await?;
        Ok(self.store.delete_passkeys(id, now()?).await? || had_totp)
    }

    /// Deletes an account, if `is_expected` says that it is still the one that the operator has seen: ends
    /// its sessions, and erases what names the person from every table. `Ok` also when it was deleted before.
    ///
    /// # Errors
    ///
    /// When there was never such an account, or it is another than expected.
    pub async fn delete(
        &self,
        id: &str,
        is_expected: impl FnOnce(&ManagedAccount) -> bool,
    ) -> Result<(), ChangeError> {
        if !is_identifier(id) {
            return Err(unknown(id));
        }
        let ending = self.ending(EndReason::AccountDeleted)?;
        match self.store.delete_account(id, ending, is_expected).await? {
            Deleted::Changed => Err(ChangeError::Changed),
            Deleted::Now | Deleted::Before => Ok(()),
            Deleted::Unknown => Err(unknown(id)),
        }
    }

    /// The rights of an account to rooms.
    ///
    /// # Errors
    ///
    /// When there is no such account.
    pub async fn grants(&self, id: &str) -> Result<Vec<AuthorizationDetail>, ChangeError> {
        self.find(id).await?;
        Ok(self.store.list_grants(id).await?)
    }

    /// Gives an account other roles, other custom claims, or both; `None` leaves them as they are. New
    /// tokens say so at once.
    ///
    /// # Errors
    ///
    /// When there is no such account, one of them cannot be what it is, or a token has no room for all.
    pub async fn set_claims(
        &self,
        id: &str,
        roles: Option<Vec<String>>,
        custom: Option<Map<String, Value>>,
    ) -> Result<ManagedAccount, ChangeError> {
        if !is_identifier(id) {
            return Err(unknown(id));
        }
        let edit = |current: &UserClaims, grant_bytes| {
            let claims = UserClaims {
                roles: roles.unwrap_or_else(|| current.roles.clone()),
                custom: custom.unwrap_or_else(|| current.custom.clone()),
            };
            claims.check(&self.settings.token)?;
            match grants::fit(self.settings, grant_bytes, &claims) {
                true => Ok(claims),
                false => Err(ClaimsError::TooLong),
            }
        };
        match self.store.edit_claims(id, now()?, edit).await? {
            Edit::Fine(account) => Ok(*account),
            Edit::Refused(error) => Err(ChangeError::Claims(error)),
            Edit::Unknown | Edit::EmailTaken => Err(unknown(id)),
        }
    }

    /// Gives an account these rights to rooms, and no others. New tokens say so at once.
    ///
    /// # Errors
    ///
    /// When there is no such account, a pattern is none or stands twice, or a token has no room for
    /// them.
    pub async fn set_grants(&self, id: &str, grants: &[NewGrant]) -> Result<(), ChangeError> {
        if !is_identifier(id) {
            return Err(unknown(id));
        }
        let check = |claims: &UserClaims| grants::check_new(self.settings, grants, claims);
        match self.store.replace_grants(id, grants, now()?, check).await? {
            Edit::Fine(_) => Ok(()),
            Edit::Refused(error) => Err(error.into()),
            Edit::Unknown | Edit::EmailTaken => Err(unknown(id)),
        }
    }

    fn ending(&self, reason: EndReason) -> Result<Ending<'_>, ChangeError> {
        Ok(Ending::new(self.settings, reason, now()?)?)
    }
}

impl ProfileEdit {
    /// Returns the profile that an account has after this edit. An address that is not in the edit is
    /// not checked: it may be from before addresses were.
    fn apply(self, current: &Account, now: i64) -> Result<EditedProfile, CredentialError> {
        let before = current.email.clone();
        let profile = Profile {
            preferred_username: None,
            name: self.name.unwrap_or_else(|| current.name.clone()),
            given_name: self
                .given_name
                .unwrap_or_else(|| current.given_name.clone()),
            family_name: self
                .family_name
                .unwrap_or_else(|| current.family_name.clone()),
            email: self.email.clone().flatten(),
            email_verified: None,
        };
        let email = check_profile(&profile)?;
        let email = self.email.map(|_| email);
        let normal = |text: &str| {
            Email::parse(text)
                .ok()
                .map(|email| email.normal().to_owned())
        };
        let is_same = email.as_ref().is_none_or(|email| {
            email.as_ref().map(|email| email.normal().to_owned())
                == before.as_deref().and_then(normal)
        });
        let has_email = email.as_ref().map_or(before.is_some(), Option::is_some);
        if self.email_verified == Some(true) && !has_email {
            return Err(CredentialError::EmailMissing);
        }
        let known = current.email_verified_at.filter(|_| is_same);
        let email_verified_at = match self.email_verified {
            Some(false) => None,
            Some(true) => known.or(Some(now)),
            None => known,
        };
        Ok(EditedProfile {
            name: profile.name,
            given_name: profile.given_name,
            family_name: profile.family_name,
            email_verified_at: email_verified_at.filter(|_| has_email),
            email,
        })
    }
}

fn now() -> anyhow::Result<i64> {
    seconds_since_epoch(SystemTime::now())
}

fn unknown(subject: &str) -> ChangeError {
    ChangeError::NoSuchUser(subject.to_owned())
}

fn require(id: &str, was_found: bool) -> Result<(), ChangeError> {
    was_found.then_some(()).ok_or_else(|| unknown(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_in_an_edit_is_neither_checked_nor_changed() {
        let account = Account {
            id: "id".to_owned(),
            username: "alice".to_owned(),
            name: None,
            given_name: None,
            family_name: None,
            email: Some("no address".to_owned()),
            email_verified_at: Some(7),
            created_at: 1,
            disabled_at: None,
            claims: UserClaims::default(),
        };
        let edit = |email: Option<&str>| ProfileEdit {
            name: Some(Some("Alice".to_owned())),
            email: email.map(|email| Some(email.to_owned())),
            ..ProfileEdit::default()
        };
        let edited = edit(None).apply(&account, 9).expect("a profile");
        assert_eq!(edited.name.as_deref(), Some("Alice"));
        assert!(edited.email.is_none());
        assert_eq!(edited.email_verified_at, Some(7));
        assert!(edit(Some("no address")).apply(&account, 9).is_err());
        let other = edit(Some("a@example.org")).apply(&account, 9);
        let other = other.expect("a profile");
        assert!(other.email.flatten().is_some());
        assert_eq!(other.email_verified_at, None);
    }
}
