//! Changes of the tables `users` and `grants` by an operator, by the id of an account.

use shared_claims::authorization::Action;
use sqlx::FromRow;

use super::{
    Account, Store, StoreError,
    accounts::record,
    database::{on_pool, on_transaction},
    event::EventKind,
    mail_links::drop_links,
    session_ends::{self, Ending, SessionFilter},
    transaction::Transaction,
};
use crate::credentials::email::Email;

/// An account as an operator sees it.
#[derive(Clone, Debug, FromRow)]
pub struct ManagedAccount {
    /// The account.
    #[sqlx(flatten)]
    pub account: Account,
    /// Whether a login asks for a code.
    pub second_factor: bool,
    /// Number of its passkeys.
    pub passkeys: i64,
}

/// Filter of the accounts that are listed.
#[derive(Clone, Debug, Default)]
pub struct AccountPage {
    /// Only those whose name, full name or address for mail contains this text. ASCII letters match in
    /// both cases, and others as the database folds them.
    pub search: Option<String>,
    /// Only those whose name comes after this one; the empty text is before all names.
    pub after: String,
    /// Maximum number.
    pub limit: i64,
}

/// The parts of a profile that an operator edits.
#[derive(Clone, Debug)]
pub struct EditedProfile {
    /// The full name.
    pub name: Option<String>,
    /// The given name.
    pub given_name: Option<String>,
    /// The family name.
    pub family_name: Option<String>,
    /// The address for mail. `None` leaves it as it is stored, which may be no address or another
    /// account's too, and `Some(None)` removes it.
    pub email: Option<Option<Email>>,
    /// When the address was verified, in seconds since the epoch.
    pub email_verified_at: Option<i64>,
}

/// Outcome of an edit.
#[derive(Clone, Debug)]
pub enum Edit<E> {
    /// The change was written; this is the account now.
    Fine(Box<ManagedAccount>),
    /// There is no such account.
    Unknown,
    /// Another account has the address for mail.
    EmailTaken,
    /// The edit was refused in the face of what the account is now.
    Refused(E),
}

/// A right to rooms that is to be written.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// The pattern.
    pub room: String,
    /// The actions.
    pub actions: Vec<Action>,
}

impl Store {
    /// The accounts of a page, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_managed(
        &self,
        page: &AccountPage,
    ) -> Result<Vec<ManagedAccount>, StoreError> {
        // SQLite folds ASCII letters alone: a text in its own case is found too.
        let pattern = page.search.as_deref().map(containing);
        let folded = pattern.as_deref().map(str::to_lowercase);
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, username, name, given_name, family_name, email, email_verified_at, \
                    created_at, disabled_at, claims, \
                    exists (select 1 from totp_secrets \
                            where user_id = users.id and confirmed_at is not null) \
                    as second_factor, \
                    (select count(*) from passkeys where user_id = users.id) as passkeys \
             from users \
             where deleted_at is null and username > $1 \
                   and ($2 is null or username like $2 escape '!' \
                        or lower(name) like $2 escape '!' or lower(email) like $2 escape '!' \
                        or name like $4 escape '!' or email like $4 escape '!') \
             order by username limit $3",
        )
        .bind(&page.after)
        .bind(&folded)
        .bind(page.limit)
        .bind(&pattern)
        .fetch_all(pool)
        .await?))
    }

    /// The account with this id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_managed(&self, id: &str) -> Result<Option<ManagedAccount>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            MANAGED_BY_ID
        )
        .bind(id)
        .fetch_optional(pool)
        .await?))
    }

    /// Edits a profile: `edit` sees the account while no other transaction changes it, and returns the
    /// profile that it has from now on.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn edit_profile<E>(
        &self,
        id: &str,
        now: i64,
        edit: impl FnOnce(&ManagedAccount) -> Result<EditedProfile, E>,
    ) -> Result<Edit<E>, StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, id).await? {
            return Ok(Edit::Unknown);
        }
        let current = find_locked(&mut transaction, id).await?;
        let profile = match edit(&current) {
            Ok(profile) => profile,
            Err(error) => return Ok(Edit::Refused(error)),
        };
        match write_profile(&mut transaction, id, &profile).await {
            Err(StoreError::Query(sqlx::Error::Database(error))) if error.is_unique_violation() => {
                return Ok(Edit::EmailTaken);
            }
            written => written?,
        }
        let edited = find_locked(&mut transaction, id).await?;
        if edited.account.email != current.account.email {
            drop_links(&mut transaction, id).await?;
        }
        record(&mut transaction, EventKind::AccountEdited, id, now);
        transaction.commit().await?;
        Ok(Edit::Fine(Box::new(edited)))
    }

    /// Shuts an account, or leaves it shut, and ends all its sessions; `false` when there is none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn disable_account(&self, id: &str, ending: Ending<'_>) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, id).await? {
            return Ok(false);
        }
        let shut = on_transaction!(&mut transaction, |connection| {
            sqlx::query("update users set disabled_at = $2 where id = $1 and disabled_at is null")
                .bind(id)
                .bind(ending.now)
                .execute(connection)
                .await?
                .rows_affected()
        });
        if shut > 0 {
            record(&mut transaction, EventKind::AccountDisabled, id, ending.now);
        }
        session_ends::end(&mut transaction, id, SessionFilter::All, ending).await?;
        drop_links(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Opens an account that was shut, or leaves it open; `false` when there is none. Its sessions stay
    /// ended.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn enable_account(&self, id: &str, now: i64) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, id).await? {
            return Ok(false);
        }
        let opened = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update users set disabled_at = null where id = $1 and disabled_at is not null",
            )
            .bind(id)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if opened > 0 {
            record(&mut transaction, EventKind::AccountEnabled, id, now);
            transaction.commit().await?;
        } else {
            transaction.roll_back().await?;
        }
        Ok(true)
    }
}

/// The statement that finds one account for an operator.
const MANAGED_BY_ID: &str = "select id, username, name, given_name, family_name, email, email_verified_at, created_at, \
            disabled_at, claims, \
            exists (select 1 from totp_secrets \
                    where user_id = users.id and confirmed_at is not null) as second_factor, \
            (select count(*) from passkeys where user_id = users.id) as passkeys \
     from users where id = $1 and deleted_at is null";

/// Returns the pattern of LIKE for texts that contain `text`.
fn containing(text: &str) -> String {
    let escaped = text
        .replace('!', "!!")
        .replace('%', "!%")
        .replace('_', "!_");
    format!("%{escaped}%")
}

/// Locks the row of an account until the transaction ends; `false` when there is none, or it was
/// deleted.
pub(super) async fn lock_account(
    transaction: &mut Transaction,
    id: &str,
) -> Result<bool, StoreError> {
    let found = on_transaction!(transaction, |connection| {
        sqlx::query("update users set id = id where id = $1 and deleted_at is null")
            .bind(id)
            .execute(connection)
            .await?
            .rows_affected()
    });
    Ok(found == 1)
}

pub(super) async fn find_locked(
    transaction: &mut Transaction,
    id: &str,
) -> Result<ManagedAccount, StoreError> {
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query_as(MANAGED_BY_ID)
            .bind(id)
            .fetch_one(connection)
            .await?
    }))
}

async fn write_profile(
    transaction: &mut Transaction,
    id: &str,
    profile: &EditedProfile,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "update users set name = $2, given_name = $3, family_name = $4, \
                              email_verified_at = $5 \
             where id = $1",
        )
        .bind(id)
        .bind(&profile.name)
        .bind(&profile.given_name)
        .bind(&profile.family_name)
        .bind(profile.email_verified_at)
        .execute(connection)
        .await?;
    });
    let Some(email) = &profile.email else {
        return Ok(());
    };
    on_transaction!(transaction, |connection| {
        sqlx::query("update users set email = $2, email_normal = $3 where id = $1")
            .bind(id)
            .bind(email.as_ref().map(Email::as_str))
            .bind(email.as_ref().map(Email::normal))
            .execute(connection)
            .await?;
    });
    Ok(())
}

pub(super) fn names(grant: &NewGrant) -> Vec<&'static str> {
    grant.actions.iter().map(|action| action.name()).collect()
}

/// Inserts a right to rooms that the subject does not have yet.
pub(super) async fn insert_grant(
    transaction: &mut Transaction,
    subject: &str,
    grant: &NewGrant,
    now: i64,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into grants (subject, room, actions, created_at) values ($1, $2, $3, $4)",
        )
        .bind(subject)
        .bind(&grant.room)
        .bind(names(grant).join(","))
        .bind(now)
        .execute(connection)
        .await?;
    });
    Ok(())
}
