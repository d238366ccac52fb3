//! The passwords in the table `users`: their hashes, and their numbers.

use sqlx::FromRow;

use super::{
    Store, StoreError,
    accounts::record,
    database::{on_pool, on_transaction},
    event::EventKind,
    mails,
    session_ends::{self, Ending, SessionFilter},
    transaction::Transaction,
};
use crate::credentials::hash::StoredHash;

/// Proofs that a login to an account needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct LoginRequirements {
    /// The number of the password; `None` when there is no such account.
    pub password_version: Option<i64>,
    /// Whether a login with a password asks for a code too.
    pub has_second_factor: bool,
}

const REQUIREMENTS: &str = "select (select password_version from users where id = $1) as password_version, \
            exists (select 1 from totp_secrets \
                    where user_id = $1 and confirmed_at is not null) as has_second_factor";

impl Store {
    /// Returns the proofs that a login to an account needs now. The query has one row whether or not there is such
    /// an account, so that it takes the same time.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_login_requirements(&self, id: &str) -> Result<LoginRequirements, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(REQUIREMENTS)
            .bind(id)
            .fetch_one(pool)
            .await?))
    }

    /// Sets the hash of another password and ends the account's sessions, except those that `keep`
    /// spares. Returns `false` when the password is not that of `version` any more, or the account is
    /// disabled.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn change_password(
        &self,
        user_id: &str,
        version: i64,
        new: &StoredHash,
        keep: SessionFilter<'_>,
        ending: Ending<'_>,
    ) -> Result<bool, StoreError> {
        let share = self.notice_share().await?;
        let mut transaction = self.begin().await?;
        let changed = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update users set password_hash = $3, hash_scheme = null, \
                                  password_version = password_version + 1 \
                 where id = $1 and password_version = $2 and disabled_at is null",
            )
            .bind(user_id)
            .bind(version)
            .bind(new)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if changed == 0 {
            return Ok(false);
        }
        record(
            &mut transaction,
            EventKind::PasswordChanged,
            user_id,
            ending.now,
        );
        session_ends::end(&mut transaction, user_id, keep, ending).await?;
        mails::put_notice(
            &mut transaction,
            mails::MailKind::PasswordChanged,
            user_id,
            ending.now,
            share,
        )
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Sets a hash of the same password in place of `old`; `false` when the hash is another one by
    /// now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn replace_hash(
        &self,
        user_id: &str,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool, StoreError> {
        let written = on_pool!(&self.writer, |pool| sqlx::query(
            "update users set password_hash = $3, hash_scheme = null \
             where id = $1 and password_hash = $2",
        )
        .bind(user_id)
        .bind(old)
        .bind(new)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(written == 1)
    }

    /// Sets another hash and ends all sessions of the account; `false` when nobody has the name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_password_hash(
        &self,
        username: &str,
        hash: &StoredHash,
        ending: Ending<'_>,
    ) -> Result<bool, StoreError> {
        let share = self.notice_share().await?;
        let mut transaction = self.begin().await?;
        let id: Option<String> = on_transaction!(&mut transaction, |connection| {
            sqlx::query_scalar(
                "update users set password_hash = $2, hash_scheme = null, \
                                  password_version = password_version + 1 \
                 where username = $1 returning id",
            )
            .bind(username)
            .bind(hash)
            .fetch_optional(connection)
            .await?
        });
        let Some(id) = id else {
            return Ok(false);
        };
        record(
            &mut transaction,
            EventKind::PasswordChanged,
            &id,
            ending.now,
        );
        session_ends::end(&mut transaction, &id, SessionFilter::All, ending).await?;
        mails::put_notice(
            &mut transaction,
            mails::MailKind::PasswordChanged,
            &id,
            ending.now,
            share,
        )
        .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Returns the proofs that a login to an account needs, which a transaction has locked.
pub(super) async fn find_requirements(
    transaction: &mut Transaction,
    id: &str,
) -> Result<LoginRequirements, StoreError> {
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query_as(REQUIREMENTS)
            .bind(id)
            .fetch_one(connection)
            .await?
    }))
}
