//! The store keeps its word on either database: what stands in `conformance` runs on both.

use tempfile::TempDir;

use super::*;

/// Makes of each function a test on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::tests::OwnStore::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            #[ignore = "needs postgresql"]
            async fn $name() {
                super::$name(crate::store::tests::OwnStore::postgres().await).await;
            })*
        }
    };
}

use on_both;

mod conformance;
mod failure;
mod refresh_tokens;
mod sessions;
mod sqlite;

/// The variable that names a PostgreSQL server on which tests make databases; `tests/postgres`
/// starts one and sets it.
const SERVER_VARIABLE: &str = "LATCHKEY_TEST_POSTGRES";

/// A store with a database of its own.
struct OwnStore {
    store: Store,
    _directory: Option<TempDir>,
}

impl std::ops::Deref for OwnStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl OwnStore {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = DatabaseUrl::sqlite(&directory.path().join("new.db"));
        Self {
            store: Store::open(&url).await.expect("a store"),
            _directory: Some(directory),
        }
    }

    async fn postgres() -> Self {
        let server = std::env::var(SERVER_VARIABLE).expect("a server; see tests/postgres");
        let name = crate::tokens::random_id().expect("randomness");
        let name = format!("test_{}", name.replace('-', "_").to_lowercase());
        let administrator = sqlx::PgPool::connect(&format!("{server}/postgres"))
            .await
            .expect("a server");
        let statement = format!("create database {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&administrator)
            .await
            .expect("a database");
        let url: DatabaseUrl = format!("{server}/{name}").parse().expect("a URL");
        Self {
            store: Store::open(&url).await.expect("a store"),
            _directory: None,
        }
    }

    async fn count_unused_refresh_tokens(&self) -> i64 {
        const COUNT: &str = "select count(*) from refresh_tokens where used_at is null";
        match &self.store.readers {
            Pool::Sqlite(pool) => sqlx::query_scalar(COUNT).fetch_one(pool).await,
            Pool::Postgres(pool) => sqlx::query_scalar(COUNT).fetch_one(pool).await,
        }
        .expect("a number")
    }

    async fn try_execute(&self, statement: &'static str) -> sqlx::Result<()> {
        match &self.store.writer {
            Pool::Sqlite(pool) => sqlx::query(statement).execute(pool).await.map(|_| ()),
            Pool::Postgres(pool) => sqlx::query(statement).execute(pool).await.map(|_| ()),
        }
    }
}
