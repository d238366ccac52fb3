//! The column `claims` of the table `users`: the roles and the custom claims of an account.

use serde_json::json;

use super::{
    Edit, Store, StoreError,
    administration::{find_locked, lock_account},
    database::on_transaction,
    event::{Event, EventKind},
    transaction::Transaction,
};
use crate::user_claims::UserClaims;

impl Store {
    /// Edits roles and custom claims: `edit` sees the current ones and the length of all patterns of the
    /// account's grants, in bytes, while no other transaction changes either, and returns the claims that
    /// the account has from now on. Claims that stay as they are make no event.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn edit_claims<E>(
        &self,
        id: &str,
        now: i64,
        edit: impl FnOnce(&UserClaims, usize) -> Result<UserClaims, E>,
    ) -> Result<Edit<E>, StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, id).await? {
            return Ok(Edit::Unknown);
        }
        let mut account = find_locked(&mut transaction, id).await?;
        let grant_bytes = count_pattern_bytes(&mut transaction, id, "").await?;
        let claims = match edit(&account.account.claims, grant_bytes) {
            Ok(claims) => claims,
            Err(error) => return Ok(Edit::Refused(error)),
        };
        if claims != account.account.claims {
            on_transaction!(&mut transaction, |connection| {
                sqlx::query("update users set claims = $2 where id = $1")
                    .bind(id)
                    .bind(claims.stored())
                    .execute(connection)
                    .await?;
            });
            let names: Vec<&String> = claims.custom.keys().collect();
            transaction.record(Event {
                kind: EventKind::ClaimsChanged,
                at: now,
                user_id: Some(id),
                session_id: None,
                detail: json!({"roles": claims.roles, "claims": names}),
            });
            transaction.commit().await?;
            account.account.claims = claims;
        } else {
            transaction.roll_back().await?;
        }
        Ok(Edit::Fine(Box::new(account)))
    }
}

/// Returns the length of all patterns of the grants of a subject but for `except`, in bytes.
pub(super) async fn count_pattern_bytes(
    transaction: &mut Transaction,
    subject: &str,
    except: &str,
) -> Result<usize, StoreError> {
    let bytes: i64 = on_transaction!(transaction, |connection| {
        sqlx::query_scalar(
            "select cast(coalesce(sum(octet_length(room)), 0) as bigint) from grants \
             where subject = $1 and room <> $2",
        )
        .bind(subject)
        .bind(except)
        .fetch_one(connection)
        .await?
    });
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}
