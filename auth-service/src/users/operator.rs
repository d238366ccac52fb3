//! What commands do with accounts, and what an account must be to be written.

use std::time::SystemTime;

use anyhow::Context as _;
use shared_claims::{claims::Profile, ids::is_identifier};

use super::{
    credentials::{CredentialError, Password, Username},
    email::Email,
    hash::{self, StoredHash},
    seconds_since_epoch,
};
use crate::{
    config::Settings,
    sessions,
    store::{Account, Added, EndReason, NewAccount, Opener, Store, StoreError, event::Actor},
    tokens::random_id,
};

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
    let store = store.telling_events(settings.events.retention());
    Ok(store.acting_as(Actor::Command))
}
