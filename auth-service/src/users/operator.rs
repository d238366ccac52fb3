//! Commands for accounts.

use std::time::SystemTime;

use anyhow::Context as _;
use shared_claims::claims::Profile;

use super::{
    Administration,
    change::{ChangeError, check_profile},
};
use crate::{
    clock::seconds_since_epoch,
    config::Settings,
    credentials::{
        CredentialError, Password, Username,
        hash::{self, StoredHash},
    },
    store::{
        Account, EndReason, Ending, StoreError, event::Actor, open_for_command,
        open_to_end_sessions,
    },
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

/// Makes an account in the database that the settings name, which is made too when it is missing,
/// and returns the account's id. A running service sees it at once.
///
/// # Errors
///
/// When the name is taken, the password breaks the policy, or the profile is too long.
pub async fn add_user(settings: &Settings, user: NewUser) -> Result<String, ChangeError> {
    let NewUser {
        username,
        password,
        profile,
    } = user;
    check_profile(&profile)?;
    let hash = new_hash(settings, username.as_str(), &profile, password).await?;
    let adding = async |manager: Administration<'_>| manager.add(&username, profile, hash).await;
    administer(settings, adding).await
}

/// All accounts, by name.
///
/// # Errors
///
/// When the database does not answer.
pub async fn list_users(settings: &Settings) -> anyhow::Result<Vec<Account>> {
    let store = open_for_command(settings).await?;
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
    let (store, settings) = open_to_end_sessions(settings).await?;
    let ending = Ending::new(&settings, EndReason::PasswordChanged, now)?;
    let changed = store
        .set_password_hash(username.as_str(), &hash, ending)
        .await;
    store.close().await;
    found(changed, username)
}

/// Does `work` with the accounts, in the name of a command.
///
/// # Errors
///
/// Errors of `work`, and when the database cannot be opened.
pub async fn administer<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(Administration<'_>) -> Result<T, ChangeError>,
) -> Result<T, ChangeError> {
    let (store, settings) = open_to_end_sessions(settings).await?;
    let done = work(Administration::new(&store, Actor::Command, &settings)).await;
    store.close().await;
    done
}

/// Shuts an account: nobody signs in with it any more, and its sessions end.
///
/// # Errors
///
/// When nobody has the name.
pub async fn disable_user(settings: &Settings, username: &Username) -> Result<(), ChangeError> {
    administer(settings, async |manager| {
        let account = manager.find_by_name(username).await?;
        manager.disable(&account.id).await
    })
    .await
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
    administer(settings, async |manager| {
        let account = manager.find_by_name(username).await?;
        match manager.reset_second_factor(&account.id).await? {
            true => Ok(()),
            false => Err(ChangeError::NoSecondFactor(account.username)),
        }
    })
    .await
}

fn found(changed: Result<bool, StoreError>, username: &Username) -> Result<(), ChangeError> {
    match changed? {
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
