//! The two actions of a followed link: it verifies an address or sets a password, and is used up in the
//! same transaction.

use serde_json::json;

use super::{
    Store, StoreError,
    accounts::record,
    database::on_transaction,
    event::{Event, EventKind},
    mail_links::{Link, lock_account},
    mails,
    session_ends::{self, Ending, SessionFilter},
    transaction::Transaction,
};
use crate::{credentials::hash::StoredHash, vault::Hash};

/// Outcome of the verification of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The address is the account's.
    Fine,
    /// Another account has the address.
    EmailTaken,
    /// The link was used meanwhile, or the account or its password is another.
    Refused,
}

impl Store {
    /// Uses up a link and makes its address the account's, verified.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn verify_email(
        &self,
        link: &Link,
        hash: &Hash,
        now: i64,
    ) -> Result<Verified, StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, &link.user_id, link.password_version).await? {
            return Ok(Verified::Refused);
        }
        match write_email(&mut transaction, link, now).await {
            // Another account follows a link to the same address at this moment.
            Err(StoreError::Query(sqlx::Error::Database(error))) if error.is_unique_violation() => {
                return Ok(Verified::EmailTaken);
            }
            Ok(false) => return Ok(Verified::EmailTaken),
            written => written?,
        };
        if !use_link(&mut transaction, hash, now).await? {
            return Ok(Verified::Refused);
        }
        record(
            &mut transaction,
            EventKind::EmailVerified,
            &link.user_id,
            now,
        );
        transaction.commit().await?;
        Ok(Verified::Fine)
    }

    /// Uses up a link, sets the hash of a new password, and ends all sessions of the account. Returns
    /// `false` when the link was used meanwhile, the password or the address is another by now, or the
    /// address is not verified.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reset_password(
        &self,
        link: &Link,
        hash: &Hash,
        new: &StoredHash,
        ending: Ending<'_>,
    ) -> Result<bool, StoreError> {
        let share = self.notice_share().await?;
        let mut transaction = self.begin().await?;
        let changed = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update users set password_hash = $4, hash_scheme = null, \
                                  password_version = password_version + 1 \
                 where id = $1 and password_version = $2 and email_normal = $3 \
                       and email_verified_at is not null and disabled_at is null",
            )
            .bind(&link.user_id)
            .bind(link.password_version)
            .bind(&link.email_normal)
            .bind(new)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if changed == 0 {
            return Ok(false);
        }
        transaction.record(Event {
            kind: EventKind::PasswordChanged,
            at: ending.now,
            user_id: Some(&link.user_id),
            session_id: None,
            detail: json!({"way": "reset"}),
        });
        session_ends::end(&mut transaction, &link.user_id, SessionFilter::All, ending).await?;
        if !use_link(&mut transaction, hash, ending.now).await? {
            return Ok(false);
        }
        mails::put_notice(
            &mut transaction,
            mails::MailKind::PasswordChanged,
            &link.user_id,
            ending.now,
            share,
        )
        .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Makes the address of a link the account's; `false` when another account has it.
async fn write_email(
    transaction: &mut Transaction,
    link: &Link,
    now: i64,
) -> Result<bool, StoreError> {
    let written = on_transaction!(transaction, |connection| {
        sqlx::query(
            "update users set email = $2, email_normal = $3, email_verified_at = $4 \
             where id = $1 and not exists (select 1 from users as other \
                                           where other.email_normal = $3 and other.id <> $1)",
        )
        .bind(&link.user_id)
        .bind(&link.email)
        .bind(&link.email_normal)
        .bind(now)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(written == 1)
}

async fn use_link(
    transaction: &mut Transaction,
    hash: &Hash,
    now: i64,
) -> Result<bool, StoreError> {
    let used = on_transaction!(transaction, |connection| {
        sqlx::query(
            "update mail_links set used_at = $2 \
             where hash = $1 and used_at is null and expires_at > $2",
        )
        .bind(hash.as_bytes())
        .bind(now)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(used == 1)
}
