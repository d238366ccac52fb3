//! The one place with SQL. Each table, or the few that change together, has a file of its own.

use std::{io, path::Path};

use tokio::runtime::Handle;

use crate::config::DatabaseUrl;

mod accounts;
mod administration;
mod attempt_counters;
pub mod audit;
mod audit_walk;
mod claims;
mod clients;
mod command;
mod database;
mod erasure;
pub mod event;
mod exchange;
mod expired;
mod failure;
mod file;
mod followed_links;
mod gauges;
mod grants;
mod import;
mod login_proofs;
mod mail_links;
mod mails;
mod outbox;
mod outgoing;
mod passkeys;
mod passwords;
mod readiness;
mod recipients;
mod refresh_tokens;
mod schema;
mod second_factor;
mod session_ends;
mod sessions;
mod signing_keys;
mod successors;
mod transaction;

pub use accounts::{Account, AccountWithHash, Added, NewAccount};
pub use administration::{AccountPage, Edit, EditedProfile, ManagedAccount, NewGrant};
pub use attempt_counters::{AttemptCounter, Level};
pub use clients::Client;
pub(crate) use command::{open_for_command, open_to_end_sessions};
pub use erasure::Deleted;
pub use exchange::{Exchange, Exchanged, ExchangedFor};
pub use failure::{FailureKind, SchemaError, StoreError};
pub use followed_links::Verified;
pub use gauges::Pending;
pub use import::ImportedAccount;
pub use login_proofs::{LoginProof, OneTimeCode, SpentChallenge, UsedPasskey};
pub use mail_links::{EmailChange, Link, LinkPurpose, NewLink, ResetRequest};
pub use mails::{Mail, MailKind};
pub use outbox::{DeliveryOrder, Destination, Message};
pub use passkeys::{NewPasskey, Passkey, PasskeyAdded};
pub use passwords::LoginRequirements;
pub use readiness::NotReady;
pub use recipients::Recipients;
pub use refresh_tokens::{Refreshed, Rotation, TokenState};
pub use schema::Opener;
pub use second_factor::{Challenged, TotpSecret};
pub use session_ends::{EndReason, Ending, SessionFilter};
pub use sessions::{NewSession, Session, SessionStarted};
pub use signing_keys::{NewSigningKey, SigningKey};

use database::{Pool, WriterQueue};
use event::Actor;
use exchange::ExchangeQueue;
use file::OpenedFile;
use readiness::LastWrite;
use transaction::Transaction;

/// The database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    /// SQLite has one writer at a time anyway; a second connection would only wait, or fail.
    writer: Pool,
    /// The transactions that wait for that connection.
    queue: WriterQueue,
    readers: Pool,
    exchanges: ExchangeQueue,
    /// The runtime that opened the store, which outlives the runtimes of the HTTP workers.
    runtime: Handle,
    last_write: LastWrite,
    /// The SQLite file; `None` for PostgreSQL.
    file: Option<OpenedFile>,
    /// The actor of the events that this handle records.
    actor: Actor,
    /// Time for which the operator's service is told of an event, in seconds; `None` when nobody is told.
    event_retention_secs: Option<i64>,
    /// Maximum number of mails that wait; `None` when no mail is sent.
    mail_queue: Option<i64>,
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
    /// Opens the database for the service: makes an SQLite file when it is missing, and brings the
    /// tables up to date.
    ///
    /// # Errors
    ///
    /// When the database cannot be used.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open_by(url, Opener::Service).await
    }

    /// Opens the database, and makes an SQLite file when it is missing. Whether older tables are brought
    /// up to date depends on the `opener`. Batches of refreshes run on the runtime of the caller.
    ///
    /// # Errors
    ///
    /// When the database cannot be used, or its tables are not those of this version.
    pub async fn open_by(url: &DatabaseUrl, opener: Opener) -> Result<Self, StoreError> {
        let opened = if let Some(path) = url.sqlite_path() {
            Pool::open_sqlite(&path, opener).await
        } else {
            let opened = Pool::open_postgres(url.expose(), opener).await;
            opened.map(|pool| (pool.clone(), pool))
        };
        match opened {
            Ok((writer, readers)) => Ok(Self {
                writer,
                queue: WriterQueue::new(),
                readers,
                exchanges: ExchangeQueue::default(),
                runtime: Handle::current(),
                last_write: LastWrite::default(),
                file: url.sqlite_path().and_then(|path| OpenedFile::at(&path)),
                actor: Actor::default(),
                event_retention_secs: None,
                mail_queue: None,
            }),
            // The error names the file already, which may be the one beside the database.
            Err(error @ StoreError::File { .. }) => Err(error),
            Err(cause) => Err(StoreError::Open {
                database: url.to_string(),
                cause: Box::new(cause),
            }),
        }
    }

    /// Returns a handle to the same connections whose events name `actor`.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Self {
        Self {
            actor,
            ..self.clone()
        }
    }

    /// Returns a handle to the same connections whose events are told to the operator's service, for so
    /// many seconds at most.
    #[must_use]
    pub fn telling_events(&self, retention_secs: Option<i64>) -> Self {
        Self {
            event_retention_secs: retention_secs,
            ..self.clone()
        }
    }

    /// Returns a handle to the same connections that writes notices to owners, while no more than so many
    /// mails wait; none when no mail is sent.
    #[must_use]
    pub fn sending_mail(&self, mail_queue: Option<i64>) -> Self {
        Self {
            mail_queue,
            ..self.clone()
        }
    }

    /// Starts a transaction in the name of this handle's actor.
    async fn begin(&self) -> Result<Transaction, StoreError> {
        let retention_secs = self.event_retention_secs;
        let connection = self.writer.begin(&self.queue).await?;
        Ok(Transaction::new(
            connection,
            self.actor.clone(),
            retention_secs,
        ))
    }

    /// Closes all connections, so that a write-ahead log is written back.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
