//! The accounts: who may sign in, and whether it is them.

use crate::{
    credentials::{Password, Username, hash::StoredHash},
    store::{Account, AccountWithHash, LoginRequirements, Store, StoreError},
};

mod administration;
mod change;
mod decoys;
mod emails;
mod export;
pub mod grants;
mod import;
mod operator;
pub mod password;

pub use administration::{Administration, ProfileEdit};
pub use change::ChangeError;
pub(crate) use change::check_profile;
pub(crate) use emails::normalize_emails;
pub use import::{Import, ImportReport, LineError, RefusedLine};
pub use operator::{
    NewUser, add_user, administer, check_password, disable_user, list_users, reset_second_factor,
    set_password,
};

use decoys::Decoys;
use password::{PasswordPool, Place, PoolError};

/// Maximum number of judgements of one attempt, when the password is changed again and again meanwhile.
pub(crate) const MAXIMUM_JUDGEMENTS: usize = 5;

/// The accounts, and the threads that verify their passwords.
pub struct Users {
    store: Store,
    passwords: PasswordPool,
    decoys: Decoys,
}

/// An account whose password somebody knows.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The account.
    pub account: Account,
    /// The number of the password.
    pub password_version: i64,
    /// Whether a login asks for a code too.
    pub has_second_factor: bool,
}

/// Reason that somebody cannot sign in. All but the last two look the same to them.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// There is no such account.
    #[error("no such account")]
    Unknown,
    /// The password is another one.
    #[error("wrong password of {id}")]
    WrongPassword {
        /// The account.
        id: String,
    },
    /// The account is shut.
    #[error("{id} is disabled")]
    Disabled {
        /// The account.
        id: String,
    },
    /// Too many attempts for this name have failed.
    #[error("the name is shut for now")]
    Locked {
        /// The account, if there is one.
        id: Option<String>,
    },
    /// The password could not be verified.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Users {
    /// The accounts in `store`.
    #[must_use]
    pub fn new(store: Store, passwords: PasswordPool) -> Self {
        Self {
            store,
            passwords,
            decoys: Decoys::default(),
        }
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The threads that verify passwords.
    #[must_use]
    pub fn passwords(&self) -> &PasswordPool {
        &self.passwords
    }

    /// Returns the account of a name as it was typed, with its hash. A text that can be nobody's name
    /// is looked up as the empty one, which nobody has either, so that every search takes one query.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn find(&self, username: &str) -> Result<Option<AccountWithHash>, StoreError> {
        let username = Username::parse_typed(username);
        let name = username.as_ref().map_or("", Username::as_str);
        self.store.find_account_by_name(name).await
    }

    /// The name that a text stands for, or the text itself when it can be nobody's name.
    #[must_use]
    pub fn canonical_name(&self, text: &str) -> String {
        Username::parse_typed(text)
            .map_or_else(|_| text.to_owned(), |name| name.as_str().to_owned())
    }

    /// Returns what the password of a name is compared with when nobody has the name. `draw` is evenly
    /// distributed over the names, and the same each time for one name.
    #[must_use]
    pub fn decoy(&self, draw: u64) -> Option<StoredHash> {
        self.decoys.choose(draw)
    }

    /// Counts again which schemes the hashes of the accounts have, so that unknown names take the times
    /// of known ones.
    ///
    /// # Errors
    ///
    /// When the database or the source of randomness fails.
    pub async fn refresh_decoys(&self) -> anyhow::Result<()> {
        self.decoys.refresh(&self.store).await
    }

    /// Returns the account when `password` is right, the account is not disabled, and its name is not
    /// shut, as `is_shut` says after the password was verified. Whatever the answer, it takes one hash,
    /// in the place that was kept for it: that of `decoy` when nobody has the name.
    ///
    /// Another request may have changed the password while this one waited. Then the password is judged
    /// by what the database has now, in another place of the queue.
    ///
    /// A hash that was made with other parameters than the settings say is replaced.
    ///
    /// # Errors
    ///
    /// The reason, which is for the log; a visitor must not be told.
    pub async fn judge(
        &self,
        place: Place<'_>,
        found: Option<AccountWithHash>,
        decoy: Option<StoredHash>,
        password: Password,
        is_shut: impl AsyncFnOnce() -> Result<bool, StoreError>,
    ) -> Result<Authenticated, AuthenticationError> {
        let (found, requirements, matches) = self.verify(place, found, decoy, &password).await?;
        if is_shut().await? {
            let id = found.map(|found| found.account.id);
            return Err(AuthenticationError::Locked { id });
        }
        let Some(found) = found else {
            return Err(AuthenticationError::Unknown);
        };
        let id = found.account.id.clone();
        if !matches {
            return Err(AuthenticationError::WrongPassword { id });
        }
        if found.account.disabled_at.is_some() {
            return Err(AuthenticationError::Disabled { id });
        }
        self.renew_hash(&found, password).await?;
        Ok(Authenticated {
            account: found.account,
            password_version: found.password_version,
            has_second_factor: requirements.has_second_factor,
        })
    }

    /// Returns the account whose current password was judged, what else its login has to prove, and whether `password`
    /// is that password.
    async fn verify(
        &self,
        mut place: Place<'_>,
        mut found: Option<AccountWithHash>,
        decoy: Option<StoredHash>,
        password: &Password,
    ) -> Result<(Option<AccountWithHash>, LoginRequirements, bool), AuthenticationError> {
        for _ in 0..MAXIMUM_JUDGEMENTS {
            let stored = found.as_ref().map(|found| found.password_hash.clone());
            let stored = stored.or_else(|| decoy.clone());
            let matches = place.verify(password.clone(), stored).await? && found.is_some();
            // Also when there is no account, so that every answer takes the same queries.
            let id = found.as_ref().map_or("", |found| &found.account.id);
            let current = self.store.find_login_requirements(id).await?;
            match &found {
                Some(judged) if current.password_version != Some(judged.password_version) => {
                    let name = &judged.account.username;
                    found = self.store.find_account_by_name(name).await?;
                    place = self.passwords.enter()?;
                }
                _ => return Ok((found, current, matches)),
            }
        }
        Err(PoolError::Overloaded.into())
    }

    /// Replaces a hash that was made with other parameters than the settings say.
    async fn renew_hash(
        &self,
        found: &AccountWithHash,
        password: Password,
    ) -> Result<(), AuthenticationError> {
        if self.passwords.is_current(&found.password_hash) {
            return Ok(());
        }
        let hash = match self.passwords.hash(password).await {
            Ok(hash) => hash,
            // The new hash can wait for the next login.
            Err(PoolError::Overloaded) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (id, old) = (&found.account.id, &found.password_hash);
        if let Err(failure) = self.store.replace_hash(id, old, &hash).await {
            tracing::warn!(user = id, "a new hash is not written: {}", failure.story());
        }
        Ok(())
    }

    /// Hashes a password that is being set, in the same queue as all others.
    ///
    /// # Errors
    ///
    /// When the queue is full.
    pub async fn hash(&self, password: Password) -> Result<StoredHash, PoolError> {
        self.passwords.hash(password).await
    }

    /// The account with this id, unless it is disabled.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn find_active(&self, id: &str) -> Result<Option<Account>, StoreError> {
        let found = self.store.find_account_by_id(id).await?;
        Ok(found.filter(|account| account.disabled_at.is_none()))
    }
}

#[cfg(test)]
mod tests;
