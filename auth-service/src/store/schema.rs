//! The version of the tables: which migrations a database has, and who may add some.

use sqlx::{
    Connection, PgConnection, SqliteConnection,
    migrate::{Migrate, Migrator},
};

use super::{SchemaError, StoreError};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// The table in which sqlx keeps the migrations that were applied.
const TABLE: &str = "_sqlx_migrations";

/// Process that opens a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// The service, or the command `migrate`: brings an older database up to date.
    Service,
    /// Any other command: works on the tables of this version alone. A mistaken URL makes none in somebody
    /// else's database.
    Command,
}

/// A connection whose tables can be brought up to date.
pub(super) trait Migrated: Migrate + Connection {
    /// The migrations of this kind of database.
    fn migrations() -> &'static Migrator;

    /// Returns whether any migration was ever applied.
    async fn has_tables(&mut self) -> Result<bool, sqlx::Error>;
}

impl Migrated for SqliteConnection {
    fn migrations() -> &'static Migrator {
        &SQLITE_MIGRATIONS
    }

    async fn has_tables(&mut self) -> Result<bool, sqlx::Error> {
        let count: i64 = sqlx::query_scalar("select count(*) from sqlite_master where name = $1")
            .bind(TABLE)
            .fetch_one(self)
            .await?;
        Ok(count > 0)
    }
}

impl Migrated for PgConnection {
    fn migrations() -> &'static Migrator {
        &POSTGRES_MIGRATIONS
    }

    async fn has_tables(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(TABLE)
            .fetch_one(self)
            .await
    }
}

/// Makes sure that the tables are those of this version. One process does so at a time: for SQLite the
/// caller holds a lock, and PostgreSQL has one of its own.
pub(super) async fn prepare<C: Migrated>(
    connection: &mut C,
    opener: Opener,
) -> Result<(), StoreError> {
    connection.lock().await?;
    let found = match connection.has_tables().await? {
        true => connection.list_applied_migrations(TABLE).await?,
        false => Vec::new(),
    };
    let found = found.iter().map(|migration| migration.version).max();
    let needed = C::migrations().iter().map(|one| one.version).max();
    match (found, needed.unwrap_or_default()) {
        (None, _) if opener == Opener::Command => {
            return Err(StoreError::Schema(SchemaError::Missing));
        }
        (Some(found), known) if found > known => {
            return Err(StoreError::Schema(SchemaError::Newer { found, known }));
        }
        (Some(found), needed) if found < needed && opener == Opener::Command => {
            return Err(StoreError::Schema(SchemaError::Older { found, needed }));
        }
        (Some(_), _) if opener == Opener::Command => {}
        _ => C::migrations().run_direct(None, connection, false).await?,
    }
    connection.unlock().await?;
    Ok(())
}
