//! Deletion of an account: erases what names the person from every table.
//!
//! One transaction deletes the account: from then on nobody finds it or signs in, and the audit log has the
//! deletion. The rows that can be many, of its sessions and its events, are erased after it in slices, each in
//! a transaction of its own, so that nobody waits long for SQLite's writer. If the process ends between two
//! slices, the service goes on at its next clean-up ([`Store::resume_erasures`]).
//!
//! The row of the account stays, with its id and its times, so that the id is not given again and
//! nothing that refers to it is left without an owner. The audit chain stays valid: what is erased of an
//! event stands beside its hash, and an event from before that was so is sealed by the event of the
//! deletion (see [`super::audit_walk`]).

use serde_json::{Value, json};

use super::{
    ManagedAccount, Store, StoreError,
    administration::{find_locked, lock_account},
    audit::StoredEvent,
    audit_walk::{ERASED, Seal},
    database::{OpenTransaction, in_time, on_pool, on_transaction},
    event::{Event, EventKind, PERSONAL_MEMBERS},
    session_ends::{self, Ending, SessionFilter},
    transaction::Transaction,
};

/// Outcome of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The account was deleted now.
    Now,
    /// The account had been deleted before.
    Before,
    /// The account is another than the caller has seen.
    Changed,
    /// There was never such an account.
    Unknown,
}

/// Number of rows that one slice erases.
const SLICE_ROWS: u64 = 200;

/// Number of deletions that clean-up resumes at a time.
const RESUMED: i64 = 100;

/// Statement that erases up to `$2` rows of the account `$1`.
struct Slice {
    sqlite: &'static str,
    /// Locks the rows of the slice in the order of their keys, as clean-up does, and no other row.
    postgres: &'static str,
}

/// Slices of the tables with many rows of one account.
const SLICES: [Slice; 2] = [
    Slice {
        sqlite: "update sessions set device = '', address = '' where id in ( \
                     select id from sessions \
                     where user_id = $1 and (device <> '' or address <> '') \
                     order by id limit $2)",
        postgres: "update sessions set device = '', address = '' where id = any(array( \
                       select id from sessions \
                       where user_id = $1 and (device <> '' or address <> '') \
                       order by id limit $2 for update))",
    },
    Slice {
        sqlite: "update audit_events set personal = null where number in ( \
                     select number from audit_events \
                     where user_id = $1 and personal is not null \
                     order by number limit $2)",
        postgres: "update audit_events set personal = null where number = any(array( \
                       select number from audit_events \
                       where user_id = $1 and personal is not null \
                       order by number limit $2 for update))",
    },
];

/// Statements that erase the person's data, in tables with few rows of one account, in the order of locks
/// (see [`super::audit`]).
const STATEMENTS: [&str; 7] = [
    "delete from totp_secrets where user_id = $1",
    "delete from recovery_codes where user_id = $1",
    "delete from login_challenges where user_id = $1",
    "delete from passkeys where user_id = $1",
    "delete from mail_links where user_id = $1",
    // Of the events, a login alone names an address and a device.
    "delete from outbox where user_id = $1 \
     and (destination = 'mail' \
          or destination = 'events' and payload like '%\"type\":\"login.new_device\"%')",
    "delete from grants where subject = $1",
];

impl Store {
    /// Deletes an account, if `is_expected` says that it is still the one that the caller has seen: ends its
    /// sessions and erases what names the person. A repetition erases what a deletion that broke off has left.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delete_account(
        &self,
        id: &str,
        ending: Ending<'_>,
        is_expected: impl FnOnce(&ManagedAccount) -> bool,
    ) -> Result<Deleted, StoreError> {
        let deleted = self.start_erasure(id, ending, is_expected).await?;
        if matches!(deleted, Deleted::Now | Deleted::Before) {
            self.finish_erasure(id).await?;
        }
        Ok(deleted)
    }

    /// Erases what deletions that broke off have left. One that fails does not keep the others waiting.
    ///
    /// # Errors
    ///
    /// When the database fails, by the first failure.
    pub async fn resume_erasures(&self) -> Result<(), StoreError> {
        let ids: Vec<String> = on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select id from users where erasing_since is not null order by id limit $1",
        )
        .bind(RESUMED)
        .fetch_all(pool)
        .await?);
        let mut outcome = Ok(());
        for id in ids {
            let finished = self.finish_erasure(&id).await;
            outcome = outcome.and(finished);
        }
        outcome
    }

    /// Erases what is left of a deleted account, slice by slice.
    async fn finish_erasure(&self, id: &str) -> Result<(), StoreError> {
        let found: Option<String> = on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select id from users where id = $1 and erasing_since is not null",
        )
        .bind(id)
        .fetch_optional(pool)
        .await?);
        if found.is_none() {
            return Ok(());
        }
        for slice in SLICES {
            while self.erase_slice(&slice, id).await? == SLICE_ROWS {}
        }
        on_pool!(&self.writer, |pool| sqlx::query(
            "update users set erasing_since = null where id = $1",
        )
        .bind(id)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }

    async fn erase_slice(&self, slice: &Slice, id: &str) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let statement = match transaction.as_mut() {
            OpenTransaction::Sqlite(_) => slice.sqlite,
            OpenTransaction::Postgres(_) => slice.postgres,
        };
        let erased = on_transaction!(&mut transaction, |connection| {
            sqlx::query(statement)
                .bind(id)
                .bind(i64::try_from(SLICE_ROWS).unwrap_or(i64::MAX))
                .execute(connection)
                .await?
                .rows_affected()
        });
        transaction.commit().await?;
        Ok(erased)
    }

    /// Deletes an account, but for the rows of [`SLICES`].
    pub(super) async fn start_erasure(
        &self,
        id: &str,
        ending: Ending<'_>,
        is_expected: impl FnOnce(&ManagedAccount) -> bool,
    ) -> Result<Deleted, StoreError> {
        let mut transaction = self.begin().await?;
        if lock_account(&mut transaction, id).await?
            && !is_expected(&find_locked(&mut transaction, id).await?)
        {
            transaction.roll_back().await?;
            return Ok(Deleted::Changed);
        }
        if !erase_account(&mut transaction, id, ending.now).await? {
            let found: Option<(String,)> = on_transaction!(&mut transaction, |connection| {
                sqlx::query_as("select id from users where id = $1")
                    .bind(id)
                    .fetch_optional(connection)
                    .await?
            });
            transaction.roll_back().await?;
            return Ok(found.map_or(Deleted::Unknown, |_| Deleted::Before));
        }
        lock_live_sessions(&mut transaction, id, ending.now).await?;
        session_ends::end(&mut transaction, id, SessionFilter::All, ending).await?;
        for statement in STATEMENTS {
            on_transaction!(&mut transaction, |connection| {
                sqlx::query(statement)
                    .bind(id)
                    .execute(connection)
                    .await?
                    .rows_affected()
            });
        }
        let seal = erase_older_events(&mut transaction, id).await?;
        let event = Event {
            kind: EventKind::AccountDeleted,
            at: ending.now,
            user_id: Some(id),
            session_id: None,
            detail: seal.map_or_else(|| json!({}), |seal| json!({ ERASED: seal.text() })),
        };
        transaction.record(event);
        transaction.commit().await?;
        Ok(Deleted::Now)
    }
}

/// Erases the row of an account; `false` when there is none, or it was erased before.
async fn erase_account(
    transaction: &mut Transaction,
    id: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let erased = on_transaction!(transaction, |connection| {
        sqlx::query(
            "update users set username = 'deleted:' || id, skeleton = 'deleted:' || id, \
                              password_hash = '', hash_scheme = null, name = null, \
                              given_name = null, family_name = null, email = null, claims = null, \
                              email_normal = null, email_verified_at = null, \
                              password_version = password_version + 1, \
                              disabled_at = coalesce(disabled_at, $2), deleted_at = $2, \
                              erasing_since = $2 \
             where id = $1 and deleted_at is null",
        )
        .bind(id)
        .bind(now)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(erased == 1)
}

/// Locks the sessions of an account that are to end, by id, as clean-up does. SQLite has one writer.
async fn lock_live_sessions(
    transaction: &mut Transaction,
    user_id: &str,
    now: i64,
) -> Result<(), StoreError> {
    if let OpenTransaction::Postgres(transaction) = transaction.as_mut() {
        in_time(async {
            let locking = sqlx::query(
                "select id from sessions \
                 where user_id = $1 and ended_at is null and expires_at > $2 \
                 order by id for update",
            );
            let locking = locking.bind(user_id).bind(now);
            locking.execute(&mut **transaction).await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Erases the details of events from before there was a place beside the hash, and returns the seal of
/// what is left of them, if there are some.
async fn erase_older_events(
    transaction: &mut Transaction,
    id: &str,
) -> Result<Option<Seal>, StoreError> {
    let candidates: Vec<StoredEvent> = on_transaction!(transaction, |connection| {
        sqlx::query_as(
            "select number, at, event, user_id, session_id, detail, previous, hash, personal \
             from audit_events \
             where event in ('logged_in', 'grant_added', 'grant_removed') \
                   and (user_id = $1 or (user_id is null and detail <> replace(detail, $1, ''))) \
             order by number",
        )
        .bind(id)
        .fetch_all(connection)
        .await?
    });
    let marker = json!({ ERASED: id }).to_string();
    let mut seal = None::<Seal>;
    for event in candidates.iter().filter(|event| has_personal(event, id)) {
        seal.get_or_insert_default().add(event);
        on_transaction!(transaction, |connection| {
            sqlx::query("update audit_events set detail = $2 where number = $1")
                .bind(event.number)
                .bind(&marker)
                .execute(connection)
                .await?;
        });
    }
    Ok(seal)
}

/// Returns whether the hashed detail of an event itself names the person.
fn has_personal(event: &StoredEvent, id: &str) -> bool {
    let Ok(detail) = serde_json::from_str::<Value>(&event.detail) else {
        return false;
    };
    let is_own = event.user_id.is_some() || detail["subject"] == id;
    is_own
        && PERSONAL_MEMBERS
            .iter()
            .any(|name| detail.get(name).is_some())
}
