//! The database: an SQLite file with one writer and a few readers, or PostgreSQL.
//!
//! The text of a statement is the same for both, but sqlx makes it a different type for each. So a
//! statement is written once, and [`on_pool`] and [`on_transaction`] compile it for either.

mod deadlines;
mod group_commit;

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection, PgConnection, PgPool, Postgres, SqliteConnection, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use self::deadlines::{ACQUIRE_TIMEOUT, BUSY_TIMEOUT};
pub(super) use self::{
    deadlines::{WAIT_DEADLINE, in_time},
    group_commit::{Member, WriterQueue},
};
use super::{
    StoreError, file,
    schema::{self, Opener},
};

/// Maximum time in which a connection shows, after its use, that it can be used again.
const RELEASE_DEADLINE: Duration = Duration::from_secs(1);

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

/// A transaction of either database, without its audit events. Every change of data uses
/// [`super::transaction::Transaction`] instead, which records them.
pub(super) enum OpenTransaction {
    Sqlite(Member),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// Does the same with the pool of either database.
macro_rules! on_pool {
    ($pool:expr, |$executor:ident| $work:expr) => {
        match $pool {
            $crate::store::database::Pool::Sqlite($executor) => {
                $crate::store::database::in_time(async { Ok($work) }).await?
            }
            $crate::store::database::Pool::Postgres($executor) => {
                $crate::store::database::in_time(async { Ok($work) }).await?
            }
        }
    };
}

/// Does the same with the connection of a transaction, which is `AsMut<OpenTransaction>`.
macro_rules! on_transaction {
    ($transaction:expr, |$connection:ident| $work:expr) => {
        match $transaction.as_mut() {
            $crate::store::database::OpenTransaction::Sqlite(member) => {
                let worked = $crate::store::database::in_time(async {
                    let $connection = member.connection()?;
                    Ok($work)
                })
                .await;
                if worked.is_err() {
                    member.mark_failed();
                }
                worked?
            }
            $crate::store::database::OpenTransaction::Postgres(transaction) => {
                let $connection = &mut **transaction;
                $crate::store::database::in_time(async { Ok($work) }).await?
            }
        }
    };
}

pub(super) use {on_pool, on_transaction};

/// Whether a connection can be used again.
///
/// SQLite itself rolls back when the disk is full, and sqlx then counts a transaction for ever that
/// is none: the connection would take no other. A server may also have gone without a word, and
/// sqlx would wait for it for as long.
async fn is_reusable<C: Connection>(connection: &mut C) -> Result<bool, sqlx::Error> {
    // Queued work, such as a rollback, is done before the answer.
    tokio::time::timeout(RELEASE_DEADLINE, connection.ping())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(!connection.is_in_transaction())
}

/// Whether the writing connection to SQLite can be used again. After a commit nothing is queued, so the
/// thread of the connection need not be asked.
async fn is_writer_reusable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    Ok(!connection.is_in_transaction() || is_reusable(connection).await?)
}

/// Lets the server end a transaction whose client has gone without a word: it would keep its locks
/// until the network gives the connection up, which takes hours.
async fn give_up_idle_transactions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("set idle_in_transaction_session_timeout = '10s'")
        .execute(connection)
        .await?;
    Ok(())
}

impl Pool {
    /// The writer and the readers of an SQLite file, which is made when it is missing.
    pub(super) async fn open_sqlite(
        path: &Path,
        opener: Opener,
    ) -> Result<(Self, Self), StoreError> {
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
            // A statement that changes many rows first saves their pages, so that it can be undone alone.
            // From 64 KiB on, SQLite would create and remove a file for that with each statement.
            .pragma("temp_store", "memory")
            .disable_statement_logging();
        // All are there from the start, and stay: one that is opened after somebody has removed the
        // write-ahead log begins another, and what stands in the old one is lost at the end.
        let pool = |connections| {
            SqlitePoolOptions::new()
                .min_connections(connections)
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                // A connection is a thread of this process, which sqlx has asked at the end of the use
                // before. Each further question would cost two switches between threads.
                .test_before_acquire(false)
        };
        // Readers never begin a transaction, so they need no check for one that was left open.
        let writer = pool(1)
            .after_release(|connection, _| Box::pin(is_writer_reusable(connection)))
            .connect_with(options.clone())
            .await?;
        schema::prepare(&mut *writer.acquire().await?, opener).await?;
        let readers = pool(SQLITE_READERS).connect_with(options).await?;
        Ok((Self::Sqlite(writer), Self::Sqlite(readers)))
    }

    /// The connections to a PostgreSQL server. Its own lock spans the migrations.
    pub(super) async fn open_postgres(url: &str, opener: Opener) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("auth-service")
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| Box::pin(give_up_idle_transactions(connection)))
            .after_release(|connection, _| Box::pin(is_reusable(connection)))
            .connect_with(options)
            .await?;
        schema::prepare(&mut *pool.acquire().await?, opener).await?;
        Ok(Self::Postgres(pool))
    }

    /// Starts a transaction. In SQLite it waits for its turn.
    pub(super) async fn begin(&self, queue: &WriterQueue) -> Result<OpenTransaction, StoreError> {
        in_time(async {
            Ok(match self {
                Self::Sqlite(pool) => OpenTransaction::Sqlite(queue.begin(pool).await?),
                Self::Postgres(pool) => OpenTransaction::Postgres(pool.begin().await?),
            })
        })
        .await
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl OpenTransaction {
    /// Commits the transaction. When this returns `Ok`, the changes are on the disk. After an error it
    /// is not known whether they are.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(member) => member.commit().await,
            Self::Postgres(mut transaction) => {
                in_time(async {
                    // After a statement that failed, PostgreSQL rolls back at a commit and calls it
                    // a success; any other statement it refuses.
                    sqlx::query("select 1").execute(&mut *transaction).await?;
                    Ok(transaction.commit().await?)
                })
                .await
            }
        }
    }

    /// Rolls the transaction back. When this returns `Ok`, the changes that it has seen are on the disk.
    pub(super) async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(member) => member.roll_back().await,
            // It has seen committed changes alone.
            Self::Postgres(_) => Ok(()),
        }
    }
}

impl AsMut<OpenTransaction> for OpenTransaction {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}
