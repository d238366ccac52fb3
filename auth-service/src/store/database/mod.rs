//! The database: an SQLite file with one writer and a few readers, or PostgreSQL.
//!
//! The text of a statement is the same for both, but sqlx makes it a different type for each. So a
//! statement is written once, and [`on_pool`] and [`on_transaction`] compile it for either.

mod deadlines;
mod group_commit;
mod sqlite;

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use self::deadlines::ACQUIRE_TIMEOUT;
#[cfg(test)]
pub(super) use self::sqlite::Lent;
pub(super) use self::{
    deadlines::{WAIT_DEADLINE, in_time},
    group_commit::{Member, WriterQueue},
    sqlite::SqliteConnections,
};
use super::{
    StoreError, file,
    schema::{self, Opener},
};

/// Maximum time in which a connection shows, after its use, that it can be used again.
const RELEASE_DEADLINE: Duration = Duration::from_secs(1);

/// Reading connections to SQLite, which reads in parallel under WAL; four saturate any login rate
/// that the password pool lets through.
const SQLITE_READERS: usize = 4;

/// Connections to PostgreSQL, of which a server has a hundred by default for everybody.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Connections to one of the two databases.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Sqlite(SqliteConnections),
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
            $crate::store::database::Pool::Sqlite(connections) => {
                $crate::store::database::in_time(async {
                    let mut lent = connections.lend().await?;
                    let $executor = &mut lent.connection;
                    let worked = $work;
                    lent.settle();
                    Ok(worked)
                })
                .await?
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
/// A server may have gone without a word, and sqlx would wait for it for as long.
async fn is_reusable(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Queued work, such as a rollback, is done before the answer.
    tokio::time::timeout(RELEASE_DEADLINE, connection.ping())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(!connection.is_in_transaction())
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
        let writer = SqliteConnections::open(sqlite::options(path), 1).await?;
        schema::prepare(&mut writer.lend().await?.connection, opener).await?;
        let readers = SqliteConnections::open(sqlite::options(path), SQLITE_READERS).await?;
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
