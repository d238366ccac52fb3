//! The time for which clean-up keeps the one writer of SQLite.

use std::time::{Duration, Instant};

use auth_service::{config::DatabaseUrl, store::Store};
use sqlx::SqlitePool;

/// Sessions that are old, and the refresh tokens of each.
const SESSIONS: i64 = 500;
const TOKENS: i64 = 40;

/// Rows in one transaction, as the service has them.
const ROWS: u64 = 200;

/// Removes old sessions, and returns how long each transaction took.
pub(crate) fn measure() -> anyhow::Result<Vec<Duration>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("latchkey.db");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(async {
        let store = Store::open(&DatabaseUrl::sqlite(&path)).await?;
        fill(&format!("sqlite://{}", path.display())).await?;
        let mut latencies = Vec::new();
        loop {
            let started = Instant::now();
            let removed = store.remove_expired(100, 100, ROWS).await?;
            latencies.push(started.elapsed());
            if removed == 0 {
                break;
            }
        }
        store.close().await;
        Ok(latencies)
    })
}

async fn fill(url: &str) -> anyhow::Result<()> {
    let pool = SqlitePool::connect(url).await?;
    let mut transaction = pool.begin().await?;
    let user = "insert into users (id, username, skeleton, password_hash, created_at) \
                values ('a', 'a', 'a', '', 0)";
    sqlx::query(user).execute(&mut *transaction).await?;
    let sessions = "with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < $1) \
                    insert into sessions (id, user_id, client_id, created_at, used_at, expires_at, \
                                          device, address) \
                    select 's' || i, 'a', '', 0, 0, 10, '', '' from n";
    sqlx::query(sessions)
        .bind(SESSIONS)
        .execute(&mut *transaction)
        .await?;
    let tokens = "with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < $1) \
                  insert into refresh_tokens (hash, session_id, issued_at, expires_at, used_at) \
                  select randomblob(32), 's' || (i % $2), 0, 10, 1 from n";
    sqlx::query(tokens)
        .bind(SESSIONS * TOKENS)
        .bind(SESSIONS)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    pool.close().await;
    Ok(())
}
