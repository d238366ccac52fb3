//! The store keeps its word on either database: what stands in `conformance` runs on both.

use sqlx::SqlSafeStr;
use tempfile::TempDir;

use super::{database::Lent, *};

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

pub(crate) use on_both;

mod attempt_counters;
mod audit;
mod clean_up;
mod conformance;
mod erasure;
mod erasure_slices;
mod events;
mod exchange;
mod failure;
mod import;
mod login_proofs;
mod mail_shares;
mod outbox;
mod passkeys;
mod refresh_tokens;
mod session_limit;
mod sessions;
mod signing_keys;
mod sqlite;
mod upgrade;

/// The variable that names a PostgreSQL server on which tests make databases; `tests/postgres`
/// starts one and sets it.
const SERVER_VARIABLE: &str = "LATCHKEY_TEST_POSTGRES";

/// A store with a database of its own.
pub(crate) struct OwnStore {
    store: Store,
    url: DatabaseUrl,
    _directory: Option<TempDir>,
}

/// A file that is not there yet.
fn sqlite_url() -> (DatabaseUrl, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = DatabaseUrl::sqlite(&directory.path().join("new.db"));
    (url, directory)
}

/// A connection to the SQLite file.
async fn lend(pool: &Pool) -> Lent {
    match pool {
        Pool::Sqlite(connections) => connections.lend().await.expect("a connection"),
        Pool::Postgres(_) => panic!("not an SQLite file"),
    }
}

/// A new database without tables on the server.
async fn postgres_url() -> DatabaseUrl {
    let server = std::env::var(SERVER_VARIABLE).expect("a server; see tests/postgres");
    let name = crate::ids::random_id().expect("randomness");
    let name = format!("test_{}", name.replace('-', "_").to_lowercase());
    let administrator = sqlx::PgPool::connect(&format!("{server}/postgres"))
        .await
        .expect("a server");
    let statement = format!("create database {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&administrator)
        .await
        .expect("a database");
    format!("{server}/{name}").parse().expect("a URL")
}

impl std::ops::Deref for OwnStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl OwnStore {
    /// Asks for the mail that resets a password, and writes it.
    async fn mail_reset(&self, link: &NewLink) -> Result<(), StoreError> {
        let request = ResetRequest {
            id: link.id.clone(),
            email: link.email.clone(),
            now: link.now,
            expires_at: link.expires_at,
        };
        self.request_password_reset(&request).await?;
        self.mail_password_reset(link).await
    }

    pub(crate) async fn sqlite() -> Self {
        let (url, directory) = sqlite_url();
        Self {
            store: Store::open(&url).await.expect("a store"),
            url,
            _directory: Some(directory),
        }
    }

    pub(crate) async fn postgres() -> Self {
        let url = postgres_url().await;
        Self {
            store: Store::open(&url).await.expect("a store"),
            url,
            _directory: None,
        }
    }

    async fn count_unused_refresh_tokens(&self) -> i64 {
        self.count("select count(*) from refresh_tokens where used_at is null")
            .await
    }

    pub(crate) async fn count(&self, statement: &'static str) -> i64 {
        match &self.store.readers {
            Pool::Sqlite(_) => {
                let mut lent = lend(&self.store.readers).await;
                sqlx::query_scalar(statement)
                    .fetch_one(&mut lent.connection)
                    .await
            }
            Pool::Postgres(pool) => sqlx::query_scalar(statement).fetch_one(pool).await,
        }
        .expect(statement)
    }

    pub(crate) async fn try_execute(&self, statement: impl SqlSafeStr) -> sqlx::Result<()> {
        match &self.store.writer {
            Pool::Sqlite(_) => {
                let mut lent = lend(&self.store.writer).await;
                let executed = sqlx::query(statement).execute(&mut lent.connection);
                executed.await.map(|_| ())
            }
            Pool::Postgres(pool) => sqlx::query(statement).execute(pool).await.map(|_| ()),
        }
    }
}
