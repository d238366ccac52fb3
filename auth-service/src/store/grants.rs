//! The table `grants`: who may do what in which rooms, beyond what everybody may.

use shared_claims::authorization::{Action, AuthorizationDetail};

use super::{
    Store, StoreError,
    administration::lock_account,
    database::{on_pool, on_transaction},
    event::Event,
};

impl Store {
    /// The rights of `subject`, by room: a user's id, or a client's subject.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_grants(&self, subject: &str) -> Result<Vec<AuthorizationDetail>, StoreError> {
        let rows: Vec<(String, String)> = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select room, actions from grants where subject = $1 order by room",
        )
        .bind(subject)
        .fetch_all(pool)
        .await?);
        Ok(details(rows))
    }

    /// Lets `subject` do `actions` in `room`, and nothing else that an earlier grant for the same
    /// text let them do; `false` when they have `most` grants already, or were deleted.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn put_grant(
        &self,
        subject: &str,
        (room, actions): (&str, &[Action]),
        most: i64,
        event: Event<'_>,
    ) -> Result<bool, StoreError> {
        let names: Vec<&str> = actions.iter().map(|action| action.name()).collect();
        let mut transaction = self.begin().await?;
        if let Some(user_id) = event.user_id
            && !lock_account(&mut transaction, user_id).await?
        {
            return Ok(false);
        }
        let written = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "insert into grants (subject, room, actions, created_at) \
                 select $1, $2, $3, $4 \
                 where (select count(*) from grants where subject = $1 and room <> $2) < $5 \
                 on conflict (subject, room) do update set actions = excluded.actions",
            )
            .bind(subject)
            .bind(room)
            .bind(names.join(","))
            .bind(event.at)
            .bind(most)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if written == 0 {
            return Ok(false);
        }
        transaction.record(event);
        transaction.commit().await?;
        Ok(true)
    }

    /// Takes a right back; `false` when there was none for this very text.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delete_grant(
        &self,
        subject: &str,
        room: &str,
        event: Event<'_>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let written = on_transaction!(&mut transaction, |connection| {
            sqlx::query("delete from grants where subject = $1 and room = $2")
                .bind(subject)
                .bind(room)
                .execute(connection)
                .await?
                .rows_affected()
        });
        if written == 0 {
            return Ok(false);
        }
        transaction.record(event);
        transaction.commit().await?;
        Ok(true)
    }
}

/// Returns the grants of rows with a room and its actions.
pub(super) fn details(rows: Vec<(String, String)>) -> Vec<AuthorizationDetail> {
    let actions = |names: &str| names.split(',').filter_map(Action::named).collect();
    rows.into_iter()
        .map(|(room, names)| AuthorizationDetail::new(actions(&names), vec![room]))
        .collect()
}
