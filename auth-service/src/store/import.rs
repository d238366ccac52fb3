//! Many accounts at a time: those of a dump that come in, and those that go out.

use std::collections::HashSet;

use serde_json::json;
use sqlx::QueryBuilder;

use super::{
    AccountWithHash, Added, NewAccount, NewGrant, Store, StoreError,
    accounts::explain_refusal,
    administration::insert_grant,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    transaction::Transaction,
};
use crate::{credentials::email::Email, user_claims::UserClaims};

/// An account from a dump.
#[derive(Debug)]
pub struct ImportedAccount {
    /// The account.
    pub account: NewAccount,
    /// The scheme and the cost of its hash; `None` when a new hash costs the same.
    pub hash_scheme: Option<String>,
    /// Whether it is shut.
    pub is_disabled: bool,
    /// Rights to rooms.
    pub grants: Vec<NewGrant>,
    /// Roles and custom claims.
    pub claims: UserClaims,
}

impl Store {
    /// Writes accounts in one transaction, and returns what became of each. The events of the audit log
    /// have the time `now`.
    ///
    /// # Errors
    ///
    /// When the database fails; then none is written.
    pub async fn import_accounts(
        &self,
        accounts: &[ImportedAccount],
        now: i64,
    ) -> Result<Vec<Added>, StoreError> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin().await?;
        let written = insert(&mut transaction, accounts, now).await?;
        let mut outcomes = Vec::with_capacity(accounts.len());
        for imported in accounts {
            let account = &imported.account;
            if !written.contains(&account.id) {
                outcomes.push(explain_refusal(&mut transaction, account).await?);
                continue;
            }
            for grant in &imported.grants {
                insert_grant(&mut transaction, &account.id, grant, now).await?;
            }
            transaction.record(Event {
                kind: EventKind::AccountImported,
                at: now,
                user_id: Some(&account.id),
                session_id: None,
                detail: json!({}),
            });
            outcomes.push(Added::Fine);
        }
        transaction.commit().await?;
        Ok(outcomes)
    }

    /// Up to `limit` accounts whose names come after `after`, by name, with their hashes.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_with_hashes(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<AccountWithHash>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, username, name, given_name, family_name, email, email_verified_at, \
                    created_at, disabled_at, password_hash, password_version, claims \
             from users where deleted_at is null and username > $1 order by username limit $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await?))
    }

    /// The schemes of imported hashes, the most frequent first, with the number of accounts.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_hash_schemes(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select hash_scheme, count(*) from users where hash_scheme is not null \
             group by hash_scheme order by count(*) desc, hash_scheme",
        )
        .fetch_all(pool)
        .await?))
    }

    /// The number of accounts.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_accounts(&self) -> Result<i64, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select count(*) from users where deleted_at is null",
        )
        .fetch_one(pool)
        .await?))
    }
}

/// Inserts those accounts that nothing is in the way of, and returns their ids.
async fn insert(
    transaction: &mut Transaction,
    accounts: &[ImportedAccount],
    now: i64,
) -> Result<HashSet<String>, StoreError> {
    let written: Vec<String> = on_transaction!(transaction, |connection| {
        let mut query = QueryBuilder::new(
            "insert into users (id, username, skeleton, password_hash, hash_scheme, name, \
                                given_name, family_name, email, email_normal, \
                                email_verified_at, created_at, disabled_at, claims) ",
        );
        query.push_values(accounts, |mut row, imported| {
            let account = &imported.account;
            row.push_bind(&account.id)
                .push_bind(&account.username)
                .push_bind(&account.skeleton)
                .push_bind(&account.password_hash)
                .push_bind(&imported.hash_scheme)
                .push_bind(&account.profile.name)
                .push_bind(&account.profile.given_name)
                .push_bind(&account.profile.family_name)
                .push_bind(account.email.as_ref().map(Email::as_str))
                .push_bind(account.email.as_ref().map(Email::normal))
                .push_bind(account.verified_at())
                .push_bind(account.created_at)
                .push_bind(imported.is_disabled.then_some(now))
                .push_bind(imported.claims.stored());
        });
        query.push(" on conflict do nothing returning id");
        query.build_query_scalar().fetch_all(connection).await?
    });
    Ok(written.into_iter().collect())
}
