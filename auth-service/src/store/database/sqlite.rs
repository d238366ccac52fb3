//! Connections to an SQLite file.
//!
//! Each connection is a thread of this process, and each question to it costs two switches between threads. The
//! pool of sqlx asks at the end of each use whether the connection still lives. Here that is asked only after a use
//! that was cut short or failed: it costs a login less, see `docs/decisions/0044-deadpool-for-sqlite.md`.

use std::{path::Path, time::Duration};

use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleResult};
use futures_util::future::try_join_all;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::timeout;

use super::deadlines::{ACQUIRE_TIMEOUT, BUSY_TIMEOUT};
use crate::store::StoreError;

/// Maximum time in which a connection shows, after a use that did not end well, that it can be used again.
const RESET_DEADLINE: Duration = Duration::from_secs(1);

/// The connections to one file. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::store) struct SqliteConnections(managed::Pool<Connector>);

/// A connection in use. It goes back to the others when it is dropped.
pub(in crate::store) type Lent = Object<Connector>;

/// A connection, and how its last use ended.
#[derive(Debug)]
pub(in crate::store) struct Held {
    pub(in crate::store) connection: SqliteConnection,
    is_settled: bool,
}

/// Opens connections, and resets those whose last use did not end well.
#[derive(Debug)]
pub(in crate::store) struct Connector {
    options: SqliteConnectOptions,
}

impl Held {
    /// Notes that the use has ended well: no transaction is open.
    pub(in crate::store) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// Whether the use has ended well.
    pub(in crate::store) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Rolls back what is open.
    async fn reset(&mut self) -> Result<(), sqlx::Error> {
        let connection = &mut self.connection;
        // It fails where nothing is open: SQLite itself rolls back when the disk is full.
        let _ = sqlx::raw_sql("rollback").execute(&mut *connection).await;
        // The first of these fails where something still is.
        sqlx::raw_sql("begin; rollback").execute(connection).await?;
        Ok(())
    }
}

impl managed::Manager for Connector {
    type Type = Held;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Held, sqlx::Error> {
        Ok(Held {
            connection: self.options.connect().await?,
            is_settled: false,
        })
    }

    /// A connection that fails here is dropped, and another one is opened.
    async fn recycle(&self, held: &mut Held, _: &Metrics) -> RecycleResult<sqlx::Error> {
        if !std::mem::take(&mut held.is_settled) {
            let reset = timeout(RESET_DEADLINE, held.reset()).await;
            reset.map_err(|_| sqlx::Error::PoolTimedOut)??;
        }
        Ok(())
    }
}

/// Returns how this service uses a file.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
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
        .disable_statement_logging()
}

impl SqliteConnections {
    /// Opens `count` connections. All are there from the start, and stay: one that is opened after somebody has
    /// removed the write-ahead log begins another, and what stands in the old one is lost at the end.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(super) async fn open(
        options: SqliteConnectOptions,
        count: usize,
    ) -> Result<Self, StoreError> {
        let pool = managed::Pool::builder(Connector { options })
            .max_size(count)
            // The one that was used last has its pages and statements at hand.
            .queue_mode(QueueMode::Lifo)
            .build()
            .map_err(|error| sqlx::Error::Configuration(error.into()))?;
        let connections = Self(pool);
        connections.lend_all().await?;
        Ok(connections)
    }

    /// Waits for a connection on which nothing is open.
    ///
    /// # Errors
    ///
    /// When all are in use for too long, or one that is missing cannot be opened.
    pub(in crate::store) async fn lend(&self) -> Result<Lent, StoreError> {
        match timeout(ACQUIRE_TIMEOUT, self.0.get()).await {
            Ok(Ok(lent)) => Ok(lent),
            Ok(Err(PoolError::Backend(error))) => Err(error.into()),
            Ok(Err(_)) => Err(sqlx::Error::PoolClosed.into()),
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    /// Returns the connections that `lent` is one of, unless they are closed.
    pub(super) fn of(lent: &Lent) -> Option<Self> {
        Object::pool(lent).map(Self)
    }

    async fn lend_all(&self) -> Result<Vec<Lent>, StoreError> {
        let count = self.0.status().max_size;
        try_join_all((0..count).map(|_| self.lend())).await
    }

    /// Closes the connections once nobody uses them any more. The last one writes the write-ahead log back.
    pub(super) async fn close(&self) {
        let all = self.lend_all().await.unwrap_or_default();
        self.0.close();
        for lent in all {
            // It is not used again, whatever the outcome is.
            let _ = Object::take(lent).connection.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const COUNT: &str = "select count(*) from things";

    async fn one_connection() -> (TempDir, SqliteConnections) {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(&directory.path().join("new.db")).create_if_missing(true);
        let connections = SqliteConnections::open(options, 1).await.expect("a file");
        execute(&connections, &["create table things (id)"], true).await;
        (directory, connections)
    }

    async fn execute(
        connections: &SqliteConnections,
        statements: &[&'static str],
        ends_well: bool,
    ) {
        let mut lent = connections.lend().await.expect("a connection");
        for statement in statements {
            let executed = sqlx::query(*statement).execute(&mut lent.connection).await;
            executed.expect(statement);
        }
        if ends_well {
            lent.settle();
        }
    }

    async fn count(connections: &SqliteConnections) -> sqlx::Result<i64> {
        let mut lent = connections.lend().await.expect("a connection");
        let count = sqlx::query_scalar(COUNT).fetch_one(&mut lent.connection);
        count.await
    }

    #[tokio::test]
    async fn what_is_open_on_a_connection_is_rolled_back_before_it_is_lent_again() {
        let insert = "insert into things (id) values (1)";
        for (statements, left) in [
            (["begin", insert].as_slice(), 0),
            (&["begin", insert, "commit"], 1),
            (&[insert], 1),
        ] {
            let (_directory, connections) = one_connection().await;
            execute(&connections, statements, false).await;
            assert_eq!(count(&connections).await.expect("a table"), left);
        }
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_reset_is_replaced() {
        for is_broken in [true, false] {
            let (_directory, connections) = one_connection().await;
            let mut lent = connections.lend().await.expect("a connection");
            let mut handle = lent.connection.lock_handle().await.expect("a handle");
            // It interrupts each statement from now on.
            handle.set_progress_handler(1, || false);
            drop(handle);
            if !is_broken {
                lent.settle();
            }
            drop(lent);
            // Only what is known to be broken is.
            assert_eq!(count(&connections).await.is_ok(), is_broken);
        }
    }

    #[tokio::test]
    async fn closed_connections_are_lent_to_nobody() {
        let (_directory, connections) = one_connection().await;
        connections.close().await;
        let refused = connections.lend().await.err();
        assert!(
            matches!(refused, Some(StoreError::Query(sqlx::Error::PoolClosed))),
            "{refused:?}"
        );
    }
}
