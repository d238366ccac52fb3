//! What the database keeps count of, for the operator.

use super::{Store, StoreError, database::on_pool};

impl Store {
    /// How many times a gateway is still to be told of a revocation.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_pending_deliveries(&self) -> Result<i64, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select count(*) from revocation_deliveries"
        )
        .fetch_one(pool)
        .await?))
    }
}
