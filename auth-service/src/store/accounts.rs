//! The table `users`.

use serde::Deserialize;
use serde_json::json;
use shared_claims::claims::Profile;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    transaction::Transaction,
};
use crate::{
    credentials::{email::Email, hash::StoredHash},
    user_claims::UserClaims,
};

/// An account, without what proves that it is somebody's.
#[derive(Clone, Debug, Deserialize, FromRow)]
pub struct Account {
    /// The token's `sub`.
    pub id: String,
    /// The name to sign in with, folded.
    pub username: String,
    /// The full name.
    pub name: Option<String>,
    /// The given name.
    pub given_name: Option<String>,
    /// The family name.
    pub family_name: Option<String>,
    /// The address for mail.
    pub email: Option<String>,
    /// When the address was verified, in seconds since the epoch.
    pub email_verified_at: Option<i64>,
    /// In seconds since the epoch.
    pub created_at: i64,
    /// When it was shut, in seconds since the epoch.
    pub disabled_at: Option<i64>,
    /// The roles and the custom claims.
    #[sqlx(try_from = "Option<String>")]
    pub claims: UserClaims,
}

impl Account {
    /// Profile of the person, as a token has it.
    #[must_use]
    pub fn profile(&self) -> Profile {
        Profile {
            preferred_username: Some(self.username.clone()),
            name: self.name.clone(),
            given_name: self.given_name.clone(),
            family_name: self.family_name.clone(),
            email: self.email.clone(),
            // Never one without the other: what nobody has verified may be anybody's.
            email_verified: self
                .email
                .as_ref()
                .map(|_| self.email_verified_at.is_some()),
        }
    }
}

/// An account with its password's hash, for the one who verifies it.
#[derive(Clone, Debug, FromRow)]
pub struct AccountWithHash {
    /// The account.
    #[sqlx(flatten)]
    pub account: Account,
    /// The hash.
    pub password_hash: StoredHash,
    /// The number of the password: it grows with each change of the password, and stays when the same
    /// password is hashed with other parameters.
    pub password_version: i64,
}

/// An account to be written.
#[derive(Debug)]
pub struct NewAccount {
    /// The token's `sub`.
    pub id: String,
    /// The name to sign in with, folded.
    pub username: String,
    /// Skeleton of the name.
    pub skeleton: String,
    /// The password's hash.
    pub password_hash: StoredHash,
    /// The person.
    pub profile: Profile,
    /// The profile's address for mail.
    pub email: Option<Email>,
    /// In seconds since the epoch.
    pub created_at: i64,
}

/// Outcome of an account that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The account was written.
    Fine,
    /// Somebody has the name, or one that looks the same.
    NameTaken,
    /// Another account has the address for mail.
    EmailTaken,
    /// Another account has the id, or had it before it was deleted.
    IdTaken,
}

impl Store {
    /// Writes an account, unless its name or its address for mail is taken.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn insert_account(&self, account: &NewAccount) -> Result<Added, StoreError> {
        let mut transaction = self.begin().await?;
        let added = insert_account(&mut transaction, account).await?;
        if added == Added::Fine {
            transaction.commit().await?;
        }
        Ok(added)
    }

    /// Returns the accounts whose address for mail has no normal form yet, by id, with the address.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_emails_without_normal_form(
        &self,
    ) -> Result<Vec<(String, String)>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, email from users where email is not null and email_normal is null \
             order by created_at, id",
        )
        .fetch_all(pool)
        .await?))
    }

    /// Sets the normal form of an account's address; `false` when another account has it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_normal_email(&self, id: &str, normal: &str) -> Result<bool, StoreError> {
        let written = on_pool!(&self.writer, |pool| sqlx::query(
            "update users set email_normal = $2 where id = $1 \
             and not exists (select 1 from users where email_normal = $2)",
        )
        .bind(id)
        .bind(normal)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(written == 1)
    }

    /// The account with this folded name. The query has one row whether or not there is such an account,
    /// so that it takes the same time.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_account_by_name(
        &self,
        username: &str,
    ) -> Result<Option<AccountWithHash>, StoreError> {
        let found: AccountWithHash = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, username, name, given_name, family_name, email, email_verified_at, \
                    created_at, disabled_at, password_hash, password_version, claims \
             from users where username = $1 \
             union all \
             select '', cast($1 as text), cast(null as text), cast(null as text), \
                    cast(null as text), cast(null as text), cast(null as bigint), \
                    cast(0 as bigint), cast(null as bigint), cast($1 as text), cast(0 as bigint), \
                    cast(null as text) \
             where not exists (select 1 from users where username = $1)",
        )
        .bind(username)
        .fetch_one(pool)
        .await?);
        Ok(Some(found).filter(|found| !found.account.id.is_empty()))
    }

    /// The account with this id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_account_by_id(&self, id: &str) -> Result<Option<Account>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, username, name, given_name, family_name, email, email_verified_at, \
                    created_at, disabled_at, claims \
             from users where id = $1 and deleted_at is null",
        )
        .bind(id)
        .fetch_optional(pool)
        .await?))
    }

    /// All accounts, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_accounts(&self) -> Result<Vec<Account>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, username, name, given_name, family_name, email, email_verified_at, \
                    created_at, disabled_at, claims \
             from users where deleted_at is null order by username",
        )
        .fetch_all(pool)
        .await?))
    }
}

impl NewAccount {
    /// When the address for mail was verified: now, if whoever makes the account vouches for it.
    pub(super) fn verified_at(&self) -> Option<i64> {
        let is_verified = self.profile.email_verified == Some(true) && self.email.is_some();
        is_verified.then_some(self.created_at)
    }
}

/// Writes an account in a transaction, unless its name or its address for mail is taken.
pub(super) async fn insert_account(
    transaction: &mut Transaction,
    account: &NewAccount,
) -> Result<Added, StoreError> {
    let written = on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into users (id, username, skeleton, password_hash, name, given_name, \
                                family_name, email, created_at, email_normal, \
                                email_verified_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             on conflict do nothing",
        )
        .bind(&account.id)
        .bind(&account.username)
        .bind(&account.skeleton)
        .bind(&account.password_hash)
        .bind(&account.profile.name)
        .bind(&account.profile.given_name)
        .bind(&account.profile.family_name)
        .bind(account.email.as_ref().map(Email::as_str))
        .bind(account.created_at)
        .bind(account.email.as_ref().map(Email::normal))
        .bind(account.verified_at())
        .execute(connection)
        .await?
        .rows_affected()
    });
    if written == 0 {
        return explain_refusal(transaction, account).await;
    }
    let now = account.created_at;
    record(transaction, EventKind::AccountAdded, &account.id, now);
    Ok(Added::Fine)
}

/// Returns what was in the way of an account that was not inserted.
pub(super) async fn explain_refusal(
    transaction: &mut Transaction,
    account: &NewAccount,
) -> Result<Added, StoreError> {
    let found: Vec<(String, bool)> = on_transaction!(transaction, |connection| {
        sqlx::query_as(
            "select id, username = $1 or skeleton = $2 from users \
             where username = $1 or skeleton = $2 or id = $3",
        )
        .bind(&account.username)
        .bind(&account.skeleton)
        .bind(&account.id)
        .fetch_all(connection)
        .await?
    });
    if found.iter().any(|(id, _)| *id == account.id) {
        return Ok(Added::IdTaken);
    }
    let is_name = found.iter().any(|(_, is_name)| *is_name);
    Ok(if is_name {
        Added::NameTaken
    } else {
        Added::EmailTaken
    })
}

/// Writes what happened to an account.
pub(super) fn record(transaction: &mut Transaction, kind: EventKind, user_id: &str, now: i64) {
    let event = Event {
        kind,
        at: now,
        user_id: Some(user_id),
        session_id: None,
        detail: json!({}),
    };
    transaction.record(event);
}
