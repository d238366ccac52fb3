//! The table `mail_links`: the links in mails, each of which is used once.

use sqlx::FromRow;

use super::{
    Account, Added, NewAccount, Store, StoreError,
    accounts::{insert_account, record},
    database::{OpenTransaction, in_time, on_pool, on_transaction},
    event::EventKind,
    mails::{self, MailKind},
    outbox::{self, Destination, NewMessage},
    transaction::Transaction,
};
use crate::{credentials::email::Email, vault::Hash};

/// Purpose of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPurpose {
    /// Verifies that an address is the account's.
    VerifyEmail,
    /// Sets a new password.
    ResetPassword,
}

impl LinkPurpose {
    /// The name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    fn mail_kind(self) -> MailKind {
        match self {
            Self::VerifyEmail => MailKind::VerifyEmail,
            Self::ResetPassword => MailKind::ResetPassword,
        }
    }
}

/// A link to be mailed.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// The identifier of the link and of its mail.
    pub id: String,
    /// The hash of the token in the link.
    pub hash: Hash,
    /// The address that the mail goes to.
    pub email: Email,
    /// The time of the request, in seconds since the epoch.
    pub now: i64,
    /// When the link ends, in seconds since the epoch.
    pub expires_at: i64,
}

/// A link that can be followed.
#[derive(Clone, Debug, FromRow)]
pub struct Link {
    /// The account.
    pub user_id: String,
    /// The address that the mail went to, as it was written.
    pub email: String,
    /// The normal form of the address.
    pub email_normal: String,
    /// The number of the account's password when the mail was asked for.
    pub password_version: i64,
}

/// A request for the mail with which a forgotten password is replaced.
#[derive(Clone, Debug)]
pub struct ResetRequest {
    /// The identifier of the request, and of the link and its mail.
    pub id: String,
    /// The address that was typed.
    pub email: Email,
    /// The time of the request, in seconds since the epoch.
    pub now: i64,
    /// When the link ends, in seconds since the epoch.
    pub expires_at: i64,
}

/// Outcome of a request for another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailChange {
    /// The mails were written.
    Asked,
    /// The account was shut, or its password changed, since it was looked at.
    AccountChanged,
    /// Too many mails of the account wait.
    TooManyMails,
}

/// The columns of an account that a mail needs.
#[derive(FromRow)]
struct Addressed {
    id: String,
    email: Option<String>,
    password_version: i64,
}

impl Store {
    /// Writes an account together with the mail that verifies its address. The address becomes the
    /// account's when the link is followed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn register_account(
        &self,
        account: &NewAccount,
        link: &NewLink,
    ) -> Result<Added, StoreError> {
        let mut transaction = self.begin().await?;
        let added = insert_account(&mut transaction, account).await?;
        if added == Added::Fine {
            let owner = (account.id.as_str(), 0);
            insert_link(&mut transaction, LinkPurpose::VerifyEmail, owner, link).await?;
            transaction.commit().await?;
        }
        Ok(added)
    }

    /// Writes the mail with which an account gets another address, and the one that tells the address
    /// until now. Earlier such links end.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn request_email_change(
        &self,
        account: &Account,
        version: i64,
        link: &NewLink,
        notice_id: &str,
    ) -> Result<EmailChange, StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, &account.id, version).await? {
            return Ok(EmailChange::AccountChanged);
        }
        if let Some(share) = self.mail_share()
            && mails::is_share_full(&mut transaction, &account.id, share).await?
        {
            return Ok(EmailChange::TooManyMails);
        }
        on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update mail_links set used_at = $2 \
                 where user_id = $1 and purpose = $3 and used_at is null",
            )
            .bind(&account.id)
            .bind(link.now)
            .bind(LinkPurpose::VerifyEmail.name())
            .execute(connection)
            .await?;
        });
        let owner = (account.id.as_str(), version);
        insert_link(&mut transaction, LinkPurpose::VerifyEmail, owner, link).await?;
        let old = account.email.as_deref().map(Email::parse);
        if let Some(Ok(old)) = old
            && old.normal() != link.email.normal()
        {
            let mail = mails::NewMail {
                id: notice_id,
                kind: MailKind::EmailChangeRequested,
                user_id: &account.id,
                to: &old,
                expires_at: link.now.saturating_add(mails::NOTICE_SECS),
                now: link.now,
            };
            mails::put(&mut transaction, mail).await?;
        }
        let kind = EventKind::EmailChangeRequested;
        record(&mut transaction, kind, &account.id, link.now);
        transaction.commit().await?;
        Ok(EmailChange::Asked)
    }

    /// Writes a request for the mail with which the owner of an address sets a new password. The statements
    /// and what they write are the same whether or not an account has the address, so that all take the
    /// same time: the account is looked up by [`Self::mail_password_reset`].
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn request_password_reset(&self, request: &ResetRequest) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let message = NewMessage {
            id: &request.id,
            destination: Destination::PasswordResets,
            user_id: None,
            payload: request.email.as_str(),
            expires_at: request.expires_at,
            due_at: request.now,
        };
        outbox::put(&mut transaction, message).await?;
        transaction.commit().await
    }

    /// Writes the mail that was asked for by the request with the link's identifier, if an enabled account
    /// has verified the address, and removes the request. Does nothing when another process has done it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn mail_password_reset(&self, link: &NewLink) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        lock_receiver(&mut transaction, &link.email).await?;
        if !outbox::take(&mut transaction, Destination::PasswordResets, &link.id).await? {
            return Ok(());
        }
        let found: Option<Addressed> = on_transaction!(&mut transaction, |connection| {
            sqlx::query_as(
                "select id, email, password_version from users \
                 where email_normal = $1 and email_verified_at is not null and disabled_at is null",
            )
            .bind(link.email.normal())
            .fetch_optional(connection)
            .await?
        });
        if let Some(account) = found {
            // The mail goes to the address as the account has it, and not as a stranger writes it.
            let own = account.email.as_deref().map(Email::parse);
            let link = match own {
                Some(Ok(email)) => &NewLink {
                    email,
                    ..link.clone()
                },
                _ => link,
            };
            let owner = (account.id.as_str(), account.password_version);
            insert_link(&mut transaction, LinkPurpose::ResetPassword, owner, link).await?;
        }
        transaction.commit().await
    }

    /// Returns the link with this hash, unless it has ended.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_link(
        &self,
        purpose: LinkPurpose,
        hash: &Hash,
        now: i64,
    ) -> Result<Option<Link>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select user_id, mail_links.email, mail_links.email_normal, \
                    mail_links.password_version \
             from mail_links join users on users.id = user_id \
             where hash = $1 and purpose = $2 and expires_at > $3 and used_at is null \
                   and users.password_version = mail_links.password_version \
                   and disabled_at is null",
        )
        .bind(hash.as_bytes())
        .bind(purpose.name())
        .bind(now)
        .fetch_optional(pool)
        .await?))
    }

    /// Returns the hash of the link that a mail carries, unless the link has ended.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_link_hash(&self, id: &str, now: i64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select hash from mail_links join users on users.id = user_id \
             where mail_links.id = $1 and expires_at > $2 and used_at is null \
                   and users.password_version = mail_links.password_version",
        )
        .bind(id)
        .bind(now)
        .fetch_optional(pool)
        .await?))
    }
}

/// Locks the account with an address, if there is one, until the transaction ends: a deletion that runs
/// at the same time is seen whole, or waits. SQLite has one writer, and needs no lock of a row.
async fn lock_receiver(transaction: &mut Transaction, email: &Email) -> Result<(), StoreError> {
    if let OpenTransaction::Postgres(transaction) = transaction.as_mut() {
        in_time(async {
            sqlx::query("select id from users where email_normal = $1 for no key update")
                .bind(email.normal())
                .execute(&mut **transaction)
                .await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Locks an account until the transaction ends. Returns `false` when its password is not that of
/// `version` any more, or the account is disabled.
pub(super) async fn lock_account(
    transaction: &mut Transaction,
    user_id: &str,
    version: i64,
) -> Result<bool, StoreError> {
    let locked = on_transaction!(transaction, |connection| {
        sqlx::query(
            "update users set id = id \
             where id = $1 and password_version = $2 and disabled_at is null",
        )
        .bind(user_id)
        .bind(version)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(locked == 1)
}

/// Writes a link and its mail. The `owner` is the account and the number of its password.
async fn insert_link(
    transaction: &mut Transaction,
    purpose: LinkPurpose,
    (user_id, password_version): (&str, i64),
    link: &NewLink,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into mail_links (id, hash, purpose, user_id, email, email_normal, \
                                     password_version, expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&link.id)
        .bind(link.hash.as_bytes())
        .bind(purpose.name())
        .bind(user_id)
        .bind(link.email.as_str())
        .bind(link.email.normal())
        .bind(password_version)
        .bind(link.expires_at)
        .execute(connection)
        .await?;
    });
    let mail = mails::NewMail {
        id: &link.id,
        kind: purpose.mail_kind(),
        user_id,
        to: &link.email,
        expires_at: link.expires_at,
        now: link.now,
    };
    mails::put(transaction, mail).await
}

/// Removes all links of an account: somebody else asked for them, or they lead to an address that is not the
/// account's any more.
pub(super) async fn drop_links(
    transaction: &mut Transaction,
    user_id: &str,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query("delete from mail_links where user_id = $1")
            .bind(user_id)
            .execute(connection)
            .await?;
    });
    Ok(())
}
