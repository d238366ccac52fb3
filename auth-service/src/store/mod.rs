//! The one place with SQL. Each table, or the few that change together, has a file of its own.

use std::{io, path::Path};

use crate::config::DatabaseUrl;

mod accounts;
pub mod audit;
mod clients;
mod database;
mod file;
mod grants;
mod outbox;
mod second_factor;
mod sessions;
mod signing_keys;

pub use accounts::{Account, AccountWithHash, NewAccount};
pub use clients::Client;
pub use outbox::Delivery;
pub use second_factor::{Challenged, TotpSecret};
pub use sessions::{EndReason, Ending, NewSession, RETRY_WINDOW_SECS, Refreshed, Session, Which};
pub use signing_keys::{NewSigningKey, SigningKey};

use database::{Pool, on_pool};

/// The database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    /// SQLite has one writer at a time anyway; a second connection would only wait, or fail.
    writer: Pool,
    readers: Pool,
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

impl StoreError {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

impl Store {
    /// Opens the database, makes an SQLite file when it is missing, and brings the tables up to
    /// date.
    ///
    /// # Errors
    ///
    /// When the database cannot be used.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let (writer, readers) = if let Some(path) = url.sqlite_path() {
            Pool::open_sqlite(&path).await?
        } else {
            let pool = Pool::open_postgres(url.expose()).await?;
            (pool.clone(), pool)
        };
        Ok(Self { writer, readers })
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        on_pool!(&self.readers, |pool| {
            sqlx::query("select 1 from users limit 1")
                .execute(pool)
                .await?;
        });
        Ok(())
    }

    /// Closes all connections, so that a write-ahead log is written back.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests;
