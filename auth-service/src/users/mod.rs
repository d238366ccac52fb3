//! The accounts: who may sign in, and whether it is them.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use shared_claims::{claims::Profile, ids::is_identifier};

use crate::{
    config::Settings,
    sessions,
    store::{
        Account, AccountWithHash, Added, EndReason, NewAccount, Opener, Store, StoreError,
        audit::Actor,
    },
    tokens::random_id,
};

pub mod credentials;
pub mod email;
pub mod grants;
pub mod hash;
pub mod password;

use credentials::{CredentialError, Password, Username};
use email::Email;
use hash::StoredHash;
use password::{PasswordPool, Place, PoolError};

/// How often one attempt is judged, when the password is changed again and again meanwhile.
pub(crate) const MAXIMUM_JUDGEMENTS: usize = 5;

/// The accounts, and the threads that verify their passwords.
pub struct Users {
    store: Store,
    passwords: PasswordPool,
}

/// Why somebody cannot sign in. All but the last two look the same to them.
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
        Self { store, passwords }
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

    /// Returns the account when `password` is right, the account is not disabled, and its name is not
    /// shut, as `is_shut` says after the password was verified. Whatever the answer, it takes one hash,
    /// in the place that was kept for it.
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
        password: Password,
        is_shut: impl FnOnce() -> bool,
    ) -> Result<AccountWithHash, AuthenticationError> {
        let (found, matches) = self.verify(place, found, &password).await?;
        if is_shut() {
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
        self.renew_hash(found, password).await
    }

    /// Returns the account whose current password was judged, and whether `password` is that one.
    async fn verify(
        &self,
        mut place: Place<'_>,
        mut found: Option<AccountWithHash>,
        password: &Password,
    ) -> Result<(Option<AccountWithHash>, bool), AuthenticationError> {
        for _ in 0..MAXIMUM_JUDGEMENTS {
            let stored = found.as_ref().map(|found| found.password_hash.clone());
            let matches = place.verify(password.clone(), stored).await?;
            // Also when there is no account, so that every answer takes the same queries.
            let id = found.as_ref().map_or("", |found| &found.account.id);
            let current = self.store.find_password_version(id).await?;
            match &found {
                Some(judged) if current != Some(judged.password_version) => {
                    let name = &judged.account.username;
                    found = self.store.find_account_by_name(name).await?;
                    place = self.passwords.enter()?;
                }
                _ => return Ok((found, matches)),
            }
        }
        Err(PoolError::Overloaded.into())
    }

    /// Replaces a hash that was made with other parameters than the settings say.
    async fn renew_hash(
        &self,
        mut found: AccountWithHash,
        password: Password,
    ) -> Result<AccountWithHash, AuthenticationError> {
        if self.passwords.is_current(&found.password_hash) {
            return Ok(found);
        }
        let hash = match self.passwords.hash(password).await {
            Ok(hash) => hash,
            // It can wait for the next login.
            Err(PoolError::Overloaded) => return Ok(found),
            Err(error) => return Err(error.into()),
        };
        let (id, old) = (&found.account.id, &found.password_hash);
        if self.store.replace_hash(id, old, &hash).await? {
            found.password_hash = hash;
        }
        Ok(found)
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

/// An account to be made.
#[derive(Debug)]
pub struct NewUser {
    /// The name to sign in with.
    pub username: Username,
    /// The password, which must keep the policy.
    pub password: Password,
    /// The person. `preferred_username` is not looked at: it is always the username. `email_verified`
    /// is set by whoever vouches for the address.
    pub profile: Profile,
}

impl NewUser {
    /// An account without a profile.
    ///
    /// # Errors
    ///
    /// When the name or the password cannot be one.
    pub fn parse(username: &str, password: &str) -> Result<Self, CredentialError> {
        Ok(Self {
            username: Username::parse(username)?,
            password: Password::parse(password.to_owned())?,
            profile: Profile::default(),
        })
    }
}

/// Checks a profile, and returns its address for mail. A token with a longer profile might be more than
/// the gateway reads, and one with characters that reorder text would show another name than it has.
pub(crate) fn check_profile(profile: &Profile) -> Result<Option<Email>, CredentialError> {
    let Profile {
        preferred_username: _,
        name,
        given_name,
        family_name,
        email,
        email_verified: _,
    } = profile;
    let mut texts = [name, given_name, family_name].into_iter().flatten();
    if !texts.all(|text| is_identifier(text)) {
        return Err(CredentialError::Profile);
    }
    email.as_deref().map(Email::parse).transpose()
}

/// Why an account was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else has the name.
    #[error("the name {0} is taken")]
    NameTaken(String),
    /// Somebody else has the address for mail.
    #[error("another account has this email")]
    EmailTaken,
    /// They have no second factor.
    #[error("{0} has no second factor")]
    NoSecondFactor(String),
    /// Nobody has the name.
    #[error("there is no user {0}")]
    NoSuchUser(String),
    /// The password breaks the policy, or the profile is none.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The database did not take it, or there was no randomness.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Makes an account in the database that the settings name, which is made too when it is missing,
/// and returns the account's id. A running service sees it at once.
///
/// # Errors
///
/// When the name is taken, the password breaks the policy, or the profile is too long.
pub async fn add_user(settings: &Settings, user: NewUser) -> Result<String, ChangeError> {
    let email = check_profile(&user.profile)?;
    let name = user.username.as_str();
    let password_hash = new_hash(settings, name, &user.profile, user.password).await?;
    let account = NewAccount {
        id: random_id()?,
        username: user.username.as_str().to_owned(),
        skeleton: user.username.skeleton(),
        password_hash,
        profile: user.profile,
        email,
        created_at: seconds_since_epoch(SystemTime::now())?,
    };
    let store = open_store(settings).await?;
    let added = store.insert_account(&account).await;
    store.close().await;
    match added.map_err(anyhow::Error::from)? {
        Added::Fine => Ok(account.id),
        Added::NameTaken => Err(ChangeError::NameTaken(account.username)),
        Added::EmailTaken => Err(ChangeError::EmailTaken),
    }
}

/// All accounts, by name.
///
/// # Errors
///
/// When the database does not answer.
pub async fn list_users(settings: &Settings) -> anyhow::Result<Vec<Account>> {
    let store = open_store(settings).await?;
    let accounts = store.list_accounts().await;
    store.close().await;
    Ok(accounts?)
}

/// Sets another password, and ends all sessions that were started with the old one.
///
/// # Errors
///
/// When nobody has the name, or the password breaks the policy.
pub async fn set_password(
    settings: &Settings,
    username: &Username,
    password: Password,
) -> Result<(), ChangeError> {
    let name = username.as_str();
    let hash = new_hash(settings, name, &Profile::default(), password).await?;
    let now = seconds_since_epoch(SystemTime::now())?;
    let ending = sessions::ending(settings, EndReason::PasswordChanged, now)?;
    let store = open_store(settings).await?;
    let changed = store
        .set_password_hash(username.as_str(), &hash, ending)
        .await;
    store.close().await;
    found(changed, username)
}

/// Shuts an account: nobody signs in with it any more, and its sessions end.
///
/// # Errors
///
/// When nobody has the name.
pub async fn disable_user(settings: &Settings, username: &Username) -> Result<(), ChangeError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let ending = sessions::ending(settings, EndReason::AccountDisabled, now)?;
    let store = open_store(settings).await?;
    let changed = store.disable_account(username.as_str(), ending).await;
    store.close().await;
    found(changed, username)
}

/// Takes somebody's second factor away, who has lost both the authenticator and the recovery codes.
///
/// # Errors
///
/// When nobody has the name, or they have no second factor.
pub async fn reset_second_factor(
    settings: &Settings,
    username: &Username,
) -> Result<(), ChangeError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let store = open_store(settings).await?;
    let name = || username.as_str().to_owned();
    let reset = async {
        let account = store.find_account_by_name(username.as_str());
        let Some(account) = account.await.map_err(anyhow::Error::from)? else {
            return Err(ChangeError::NoSuchUser(name()));
        };
        let deleted = store.delete_totp(&account.account.id, now).await;
        match deleted.map_err(anyhow::Error::from)? {
            true => Ok(()),
            false => Err(ChangeError::NoSecondFactor(name())),
        }
    };
    let reset = reset.await;
    store.close().await;
    reset
}

fn found(changed: Result<bool, StoreError>, username: &Username) -> Result<(), ChangeError> {
    match changed.map_err(anyhow::Error::from)? {
        true => Ok(()),
        false => Err(ChangeError::NoSuchUser(username.as_str().to_owned())),
    }
}

/// Whether a password may be set, judged off the async threads: the guesses that it would take are
/// counted against several dictionaries.
///
/// # Errors
///
/// [`ChangeError::Credential`] that says why not.
pub async fn check_password(
    settings: &Settings,
    password: &Password,
    username: &str,
    profile: &Profile,
) -> Result<(), ChangeError> {
    let words = [
        Some(username),
        profile.name.as_deref(),
        profile.given_name.as_deref(),
        profile.family_name.as_deref(),
        profile.email.as_deref(),
    ];
    let words: Vec<String> = words.into_iter().flatten().map(str::to_owned).collect();
    let (password, minimum) = (password.clone(), settings.password.minimum_score);
    let judged = tokio::task::spawn_blocking(move || password.check_policy(&words, minimum));
    judged.await.context("the password could not be judged")??;
    Ok(())
}

/// Hashes a password that is being set by a command, off the async threads.
async fn new_hash(
    settings: &Settings,
    username: &str,
    profile: &Profile,
    password: Password,
) -> Result<StoredHash, ChangeError> {
    check_password(settings, &password, username, profile).await?;
    let (salt, cost) = (hash::random_salt()?, settings.password.cost()?);
    let hash = tokio::task::spawn_blocking(move || hash::hash_password(&password, salt, &cost))
        .await
        .context("the password could not be hashed")?;
    Ok(hash.map_err(anyhow::Error::from)?)
}

/// Opens the database for a command.
pub(crate) async fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    let store = Store::open_by(&settings.database_url, Opener::Command).await?;
    Ok(store.acting_as(Actor::Command))
}

pub(crate) fn seconds_since_epoch(now: SystemTime) -> anyhow::Result<i64> {
    let since = now
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    Ok(i64::try_from(since.as_secs())?)
}

#[cfg(test)]
mod tests;
