//! Clean-up: removes rows that nobody needs any more.
//!
//! Each transaction removes a bounded number of rows, however many tokens a session has had, so that
//! whoever signs in meanwhile never waits longer than for these. Old sessions are found on a reader and
//! locked by id. Of the other tables, PostgreSQL skips rows that another transaction has locked: clean-up
//! never waits for them, and a later round removes them.

use super::{
    Store, StoreError,
    database::{OpenTransaction, on_pool, on_transaction},
    transaction::Transaction,
};

/// Statements that remove up to `$2` rows that have expired at `$1`.
pub(super) struct Removal {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// Returns the [`Removal`] for a table with the column `expires_at`, by its key.
macro_rules! expired {
    ($table:literal, $key:literal) => {
        $crate::store::expired::Removal {
            sqlite: concat!(
                "delete from ",
                $table,
                " where ",
                $key,
                " in (select ",
                $key,
                " from ",
                $table,
                " where expires_at <= $1 order by ",
                $key,
                " limit $2)",
            ),
            postgres: concat!(
                "delete from ",
                $table,
                " where ",
                $key,
                " = any(array(select ",
                $key,
                " from ",
                $table,
                " where expires_at <= $1 order by ",
                $key,
                " limit $2 for update skip locked))",
            ),
        }
    };
}

/// The spent refresh tokens of live sessions. One that has expired is refused whether or not it was spent.
const SPENT_TOKENS: Removal = Removal {
    sqlite: "delete from refresh_tokens where hash in ( \
                 select hash from refresh_tokens \
                 where used_at is not null and expires_at <= $1 order by expires_at limit $2)",
    postgres: "delete from refresh_tokens where hash = any(array( \
                   select hash from refresh_tokens \
                   where used_at is not null and expires_at <= $1 order by expires_at limit $2 \
                   for update skip locked))",
};

/// Up to `$2` sessions that ended or expired before `$1`, in one order for all issuers. Each half reads an index of
/// its own, and no more rows than it returns.
pub(super) const OLD_SESSIONS: &str = "select id from ( \
     select id from (select id from sessions where ended_at < $1 \
                     order by ended_at limit $2) as ended \
     union select id from (select id from sessions where expires_at < $1 \
                           order by expires_at limit $2) as expired) as old \
     order by id limit $2";

/// Number of sessions that are looked for at a time.
const SESSIONS: i64 = 100;

impl Store {
    /// Removes up to `most` rows in one transaction: challenges, links and spent refresh tokens that have
    /// expired, and sessions that ended or expired before `before`, with their refresh tokens. Returns how many
    /// rows it has removed; none means that none are left, but for those that another transaction has locked.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_expired(
        &self,
        now: i64,
        before: i64,
        most: u64,
    ) -> Result<u64, StoreError> {
        let sessions = self.find_old_sessions(before).await?;
        let mut transaction = self.begin().await?;
        let mut removed = 0;
        for session_id in sessions {
            let left = most.saturating_sub(removed);
            if left == 0 {
                break;
            }
            removed += remove_session(&mut transaction, &session_id, left).await?;
        }
        for removal in [
            expired!("login_challenges", "hash"),
            expired!("passkey_challenges", "hash"),
            expired!("mail_links", "id"),
            SPENT_TOKENS,
        ] {
            let left = most.saturating_sub(removed);
            removed += remove(&mut transaction, removal, (now, left)).await?;
        }
        transaction.commit().await?;
        Ok(removed)
    }

    async fn find_old_sessions(&self, before: i64) -> Result<Vec<String>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_scalar(
            OLD_SESSIONS
        )
        .bind(before)
        .bind(SESSIONS)
        .fetch_all(pool)
        .await?))
    }
}

/// Removes up to `most` rows of a session: its refresh tokens, and itself when none are left.
async fn remove_session(
    transaction: &mut Transaction,
    session_id: &str,
    most: u64,
) -> Result<u64, StoreError> {
    // The session comes first in the order of locks, though it goes last.
    on_transaction!(transaction, |connection| {
        sqlx::query("update sessions set id = id where id = $1")
            .bind(session_id)
            .execute(connection)
            .await?;
    });
    let tokens = on_transaction!(transaction, |connection| {
        sqlx::query(
            "delete from refresh_tokens where hash in \
             (select hash from refresh_tokens where session_id = $1 limit $2)",
        )
        .bind(session_id)
        .bind(bounded(most))
        .execute(connection)
        .await?
        .rows_affected()
    });
    if tokens >= most {
        return Ok(tokens);
    }
    let sessions = on_transaction!(transaction, |connection| {
        sqlx::query("delete from sessions where id = $1")
            .bind(session_id)
            .execute(connection)
            .await?
            .rows_affected()
    });
    Ok(tokens + sessions)
}

async fn remove(
    transaction: &mut Transaction,
    removal: Removal,
    (now, most): (i64, u64),
) -> Result<u64, StoreError> {
    if most == 0 {
        return Ok(0);
    }
    let statement = match transaction.as_mut() {
        OpenTransaction::Sqlite(_) => removal.sqlite,
        OpenTransaction::Postgres(_) => removal.postgres,
    };
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query(statement)
            .bind(now)
            .bind(bounded(most))
            .execute(connection)
            .await?
            .rows_affected()
    }))
}

fn bounded(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
