//! The one place with SQL: an SQLite file with one writer and a few readers.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

mod accounts;

pub use accounts::{Account, AccountWithHash, NewAccount};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a connection waits for another process's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reading connections. SQLite reads in parallel under WAL; four saturate any login rate that the
/// password pool lets through.
const READERS: u32 = 4;

/// The database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    /// SQLite has one writer at a time anyway; a second connection would only wait, or fail.
    writer: SqlitePool,
    readers: SqlitePool,
}

/// The database failed. What was looked for and not found is no error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made.
    #[error("cannot make the database {path}")]
    File {
        /// Which file.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The tables cannot be brought up to date.
    #[error("cannot bring the database up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A query failed.
    #[error("the database failed")]
    Query(#[from] sqlx::Error),
}

impl Store {
    /// Opens the database, makes it when it is missing, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        create_private_file(path)?;
        let _first = lock_beside(path).await?;
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
        MIGRATIONS.run(&writer).await?;
        let readers = pool(READERS).connect_lazy_with(options);
        Ok(Self { writer, readers })
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1 from users limit 1")
            .execute(&self.readers)
            .await?;
        Ok(())
    }

    /// Closes all connections, so that the write-ahead log is written back.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the file for its owner alone; SQLite gives the files beside it the same mode. A file that
/// exists is not opened: closing it would drop the locks that SQLite holds on it in this process.
fn create_private_file(path: &Path) -> Result<(), StoreError> {
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn_if_readable(path);
            Ok(())
        }
        Err(source) => Err(StoreError::File {
            path: path.display().to_string(),
            source,
        }),
    }
}

fn warn_if_readable(path: &Path) {
    let mode = fs::metadata(path).map(|data| data.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!("the database can be read by others than its owner");
    }
}

/// Holds everybody else off until it is dropped. SQLite has no lock that spans the migrations, and
/// the switch to a write-ahead log does not wait for one: of two processes that open a new database
/// at once, one would fail.
async fn lock_beside(path: &Path) -> Result<fs::File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source| StoreError::File {
        path: name.to_string_lossy().into_owned(),
        source,
    };
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(failed)?;
    let locking = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    let locked = locking.await.map_err(io::Error::other);
    locked.and_then(|locked| locked).map_err(failed)
}

#[cfg(test)]
mod tests;
