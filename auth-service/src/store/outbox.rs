//! The tables `revocations` and `revocation_deliveries`: which gateway has yet to be told that a
//! session ended. [`super::sessions`] writes them in the transaction that ends it.

use sqlx::FromRow;

use super::{Store, StoreError, database::on_pool};

/// Something that a gateway is to be told.
#[derive(Clone, Debug, FromRow)]
pub struct Delivery {
    /// The revocation, and the `jti` of its token.
    pub revocation_id: String,
    /// The gateway, by its URL.
    pub gateway: String,
    /// The session that ended.
    pub session_id: String,
    /// How often it was tried.
    pub attempts: i64,
}

impl Store {
    /// What is to be delivered by now to this gateway, the longest waiting first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn due_deliveries(
        &self,
        gateway: &str,
        now: i64,
        limit: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select revocation_id, gateway, session_id, attempts \
             from revocation_deliveries join revocations on revocations.id = revocation_id \
             where gateway = $1 and next_attempt_at <= $2 and moot_at > $2 \
             order by next_attempt_at limit $3",
        )
        .bind(gateway)
        .bind(now)
        .bind(limit)
        .fetch_all(pool)
        .await?))
    }

    /// Strikes a delivery that the gateway has acknowledged.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn finish_delivery(&self, delivery: &Delivery) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| sqlx::query(
            "delete from revocation_deliveries where revocation_id = $1 and gateway = $2",
        )
        .bind(&delivery.revocation_id)
        .bind(&delivery.gateway)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Puts a delivery that failed off until `next_attempt_at`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn postpone_delivery(
        &self,
        delivery: &Delivery,
        next_attempt_at: i64,
    ) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| sqlx::query(
            "update revocation_deliveries set attempts = attempts + 1, next_attempt_at = $3 \
             where revocation_id = $1 and gateway = $2",
        )
        .bind(&delivery.revocation_id)
        .bind(&delivery.gateway)
        .bind(next_attempt_at)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }

    /// How many deliveries wait for a gateway.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_deliveries(&self) -> Result<i64, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select count(*) from revocation_deliveries"
        )
        .fetch_one(pool)
        .await?))
    }
}
