//! Which database there is: an SQLite file with one writer and a few readers, or PostgreSQL.
//!
//! The text of a statement is the same for both, but sqlx makes it a different type for each. So a
//! statement is written once, and [`on_pool`] and [`on_transaction`] compile it for either.

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _, PgPool, Postgres, Sqlite, SqlitePool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{StoreError, file};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// How long a connection waits for another process's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reading connections to SQLite, which reads in parallel under WAL; four saturate any login rate
/// that the password pool lets through.
const SQLITE_READERS: u32 = 4;

/// Connections to PostgreSQL, of which a server has a hundred by default for everybody.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Connections to one of the two databases.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// What happens as a whole or not at all: dropped without a commit, it has not happened.
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// Does the same with the pool of either database.
macro_rules! on_pool {
    ($pool:expr, |$executor:ident| $work:expr) => {
        match $pool {
            $crate::store::database::Pool::Sqlite($executor) => $work,
            $crate::store::database::Pool::Postgres($executor) => $work,
        }
    };
}

/// Does the same with a transaction's connection to either database.
macro_rules! on_transaction {
    ($transaction:expr, |$connection:ident| $work:expr) => {
        match $transaction {
            $crate::store::database::Transaction::Sqlite(transaction) => {
                let $connection = &mut **transaction;
                $work
            }
            $crate::store::database::Transaction::Postgres(transaction) => {
                let $connection = &mut **transaction;
                $work
            }
        }
    };
}

pub(super) use {on_pool, on_transaction};

impl Pool {
    /// The writer and the readers of an SQLite file, which is made when it is missing.
    pub(super) async fn open_sqlite(path: &Path) -> Result<(Self, Self), StoreError> {
        file::create_private(path)?;
        let _nobody_else = file::lock_beside(path).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL could lose what was acknowledged in a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        SQLITE_MIGRATIONS.run(&writer).await?;
        let readers = pool(SQLITE_READERS).connect_lazy_with(options);
        Ok((Self::Sqlite(writer), Self::Sqlite(readers)))
    }

    /// The connections to a PostgreSQL server. Its own lock spans the migrations.
    pub(super) async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("auth-service")
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await?;
        POSTGRES_MIGRATIONS.run(&pool).await?;
        Ok(Self::Postgres(pool))
    }

    /// Starts a transaction. In SQLite it locks at once: one that locked at its first write would
    /// fail when another had written since it read.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin_with("begin immediate").await?),
            Self::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }

    pub(super) async fn close(&self) {
        on_pool!(self, |pool| pool.close().await);
    }
}

impl Transaction {
    /// Makes it happen; when this returns it is on the disk.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await?,
            Self::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}
