//! The tables `clients` and `client_secrets`: the back ends that ask for tokens of their own.

use serde_json::json;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    transaction::Transaction,
};
use crate::vault::Hash;

/// A back end that may ask for tokens.
#[derive(Clone, Debug, FromRow)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// The scopes that it may ask for, separated by spaces.
    pub scopes: String,
    /// In seconds since the epoch.
    pub created_at: i64,
}

impl Store {
    /// Writes a client with its first secret; `false` when the id was ever given.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn insert_client(&self, client: &Client, secret: &Hash) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let written = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "insert into clients (id, scopes, created_at) values ($1, $2, $3) \
                 on conflict do nothing",
            )
            .bind(&client.id)
            .bind(&client.scopes)
            .bind(client.created_at)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if written == 0 {
            return Ok(false);
        }
        insert_secret(&mut transaction, &client.id, secret, client.created_at).await?;
        let kind = EventKind::ClientAdded;
        record(&mut transaction, kind, &client.id, client.created_at);
        transaction.commit().await?;
        Ok(true)
    }

    /// The clients that were not removed, by id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_clients(&self) -> Result<Vec<Client>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, scopes, created_at from clients where removed_at is null order by id",
        )
        .fetch_all(pool)
        .await?))
    }

    /// The client with this id, if it was not removed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_client(&self, id: &str) -> Result<Option<Client>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, scopes, created_at from clients where id = $1 and removed_at is null",
        )
        .bind(id)
        .fetch_optional(pool)
        .await?))
    }

    /// The client with this id, if one of its secrets has this hash and works now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn authenticate_client(
        &self,
        id: &str,
        secret: &Hash,
        now: i64,
    ) -> Result<Option<Client>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select clients.id, clients.scopes, clients.created_at \
             from clients join client_secrets on client_secrets.client_id = clients.id \
             where clients.id = $1 and clients.removed_at is null and client_secrets.hash = $2 \
                   and (client_secrets.expires_at is null or client_secrets.expires_at > $3)",
        )
        .bind(id)
        .bind(secret.as_bytes())
        .bind(now)
        .fetch_optional(pool)
        .await?))
    }

    /// Gives a client another secret; the ones before work until `overlap_end` at most. `false`
    /// when there is no such client.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rotate_client(
        &self,
        id: &str,
        secret: &Hash,
        (now, overlap_end): (i64, i64),
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let known = on_transaction!(&mut transaction, |connection| {
            sqlx::query("update clients set id = id where id = $1 and removed_at is null")
                .bind(id)
                .execute(connection)
                .await?
                .rows_affected()
        });
        if known == 0 {
            return Ok(false);
        }
        on_transaction!(&mut transaction, |connection| {
            sqlx::query("delete from client_secrets where client_id = $1 and expires_at <= $2")
                .bind(id)
                .bind(now)
                .execute(connection)
                .await?
                .rows_affected()
        });
        on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update client_secrets set expires_at = $2 \
                 where client_id = $1 and (expires_at is null or expires_at > $2)",
            )
            .bind(id)
            .bind(overlap_end)
            .execute(connection)
            .await?
            .rows_affected()
        });
        insert_secret(&mut transaction, id, secret, now).await?;
        record(&mut transaction, EventKind::ClientRotated, id, now);
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes a client, so that it gets no more tokens; `false` when there is none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_client(&self, id: &str, now: i64) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let removed = on_transaction!(&mut transaction, |connection| {
            sqlx::query("update clients set removed_at = $2 where id = $1 and removed_at is null")
                .bind(id)
                .bind(now)
                .execute(connection)
                .await?
                .rows_affected()
        });
        if removed == 0 {
            return Ok(false);
        }
        record(&mut transaction, EventKind::ClientRemoved, id, now);
        transaction.commit().await?;
        Ok(true)
    }
}

async fn insert_secret(
    transaction: &mut Transaction,
    client_id: &str,
    secret: &Hash,
    now: i64,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query("insert into client_secrets (hash, client_id, created_at) values ($1, $2, $3)")
            .bind(secret.as_bytes())
            .bind(client_id)
            .bind(now)
            .execute(connection)
            .await?;
    });
    Ok(())
}

fn record(transaction: &mut Transaction, kind: EventKind, client_id: &str, now: i64) {
    let event = Event {
        kind,
        at: now,
        user_id: None,
        session_id: None,
        detail: json!({"client_id": client_id}),
    };
    transaction.record(event);
}
