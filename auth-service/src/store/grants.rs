//! The table `grants`: who may do what in which rooms, beyond what everybody may.

use serde_json::json;
use shared_claims::authorization::{Action, AuthorizationDetail};

use super::{
    Edit, NewGrant, Store, StoreError,
    administration::{find_locked, insert_grant, lock_account, names},
    claims::count_pattern_bytes,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    transaction::Transaction,
};
use crate::user_claims::UserClaims;

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
    /// text let them do; `false` when they have `most` grants already, or were deleted, or when `fits` refuses
    /// the roles and claims of the account together with the length of its other patterns, in bytes. No other
    /// transaction changes the grants or the claims of an account meanwhile.
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
        fits: impl FnOnce(&UserClaims, usize) -> bool,
    ) -> Result<bool, StoreError> {
        let names: Vec<&str> = actions.iter().map(|action| action.name()).collect();
        let mut transaction = self.begin().await?;
        let mut claims = UserClaims::default();
        if let Some(user_id) = event.user_id {
            if !lock_account(&mut transaction, user_id).await? {
                transaction.roll_back().await?;
                return Ok(false);
            }
            claims = find_locked(&mut transaction, user_id).await?.account.claims;
        }
        let others = count_pattern_bytes(&mut transaction, subject, room).await?;
        if !fits(&claims, others) {
            transaction.roll_back().await?;
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

    /// Gives an account these rights to rooms, and no others. Rights that it has already stay as they are,
    /// without an event. `check` sees the claims of the account while no other transaction changes them.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn replace_grants<E>(
        &self,
        user_id: &str,
        grants: &[NewGrant],
        now: i64,
        check: impl FnOnce(&UserClaims) -> Result<(), E>,
    ) -> Result<Edit<E>, StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, user_id).await? {
            transaction.roll_back().await?;
            return Ok(Edit::Unknown);
        }
        let account = find_locked(&mut transaction, user_id).await?;
        if let Err(error) = check(&account.account.claims) {
            transaction.roll_back().await?;
            return Ok(Edit::Refused(error));
        }
        let current: Vec<(String, String)> = on_transaction!(&mut transaction, |connection| {
            sqlx::query_as("select room, actions from grants where subject = $1 order by room")
                .bind(user_id)
                .fetch_all(connection)
                .await?
        });
        let is_kept = |room: &str, actions: &str| {
            let same = |grant: &NewGrant| grant.room == room && names(grant).join(",") == actions;
            grants.iter().any(same)
        };
        let is_new = |grant: &&NewGrant| {
            let actions = names(grant).join(",");
            !current.contains(&(grant.room.clone(), actions))
        };
        for (room, _) in current
            .iter()
            .filter(|(room, actions)| !is_kept(room, actions))
        {
            on_transaction!(&mut transaction, |connection| {
                sqlx::query("delete from grants where subject = $1 and room = $2")
                    .bind(user_id)
                    .bind(room)
                    .execute(connection)
                    .await?;
            });
        }
        for grant in grants.iter().filter(is_new) {
            insert_grant(&mut transaction, user_id, grant, now).await?;
        }
        record_changes(&mut transaction, (user_id, now), &current, grants);
        transaction.commit().await?;
        Ok(Edit::Fine(Box::new(account)))
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

/// Records which grants an account got and lost.
fn record_changes(
    transaction: &mut Transaction,
    (user_id, now): (&str, i64),
    current: &[(String, String)],
    grants: &[NewGrant],
) {
    let is_new = |grant: &&NewGrant| {
        let actions = names(grant).join(",");
        !current.contains(&(grant.room.clone(), actions))
    };
    let event = |kind, detail| Event {
        kind,
        at: now,
        user_id: Some(user_id),
        session_id: None,
        detail,
    };
    let has_room = |room: &str| grants.iter().any(|grant| grant.room == room);
    for (room, _) in current.iter().filter(|(room, _)| !has_room(room)) {
        let detail = json!({"subject": user_id, "room": room});
        transaction.record(event(EventKind::GrantRemoved, detail));
    }
    for grant in grants.iter().filter(is_new) {
        let detail = json!({"subject": user_id, "room": grant.room, "actions": names(grant)});
        transaction.record(event(EventKind::GrantAdded, detail));
    }
}

/// Returns the grants of rows with a room and its actions.
pub(super) fn details(rows: Vec<(String, String)>) -> Vec<AuthorizationDetail> {
    let actions = |names: &str| names.split(',').filter_map(Action::named).collect();
    rows.into_iter()
        .map(|(room, names)| AuthorizationDetail::new(actions(&names), vec![room]))
        .collect()
}
