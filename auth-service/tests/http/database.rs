//! A database for one service: an SQLite file, or a database of its own on the PostgreSQL server
//! that `tests/postgres` starts.

use auth_service::{config::DatabaseUrl, ids::random_id};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// Set to `postgres`, it lets the whole suite run on PostgreSQL.
const KIND_VARIABLE: &str = "LATCHKEY_TEST_DATABASE";

/// Names the server on which tests make databases.
const SERVER_VARIABLE: &str = "LATCHKEY_TEST_POSTGRES";

/// A new database.
pub(crate) struct OwnDatabase {
    url: String,
    /// Where the file is, which goes when the test ends.
    _directory: Option<TempDir>,
}

impl OwnDatabase {
    /// The kind that the environment asks for.
    pub(crate) async fn make() -> Self {
        match std::env::var(KIND_VARIABLE).as_deref() {
            Err(_) | Ok("sqlite") => Self::sqlite(),
            Ok("postgres") => Self::postgres().await,
            Ok(other) => panic!("{KIND_VARIABLE} is {other}, not sqlite or postgres"),
        }
    }

    fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self {
            url: format!("sqlite://{}", directory.path().join("auth.db").display()),
            _directory: Some(directory),
        }
    }

    async fn postgres() -> Self {
        let server = std::env::var(SERVER_VARIABLE).expect("a server; see tests/postgres");
        let id = random_id().expect("randomness").replace('-', "_");
        let url = format!("{server}/http_{}", id.to_lowercase());
        let name = url.rsplit('/').next().expect("a name");
        run_on_postgres(
            &format!("{server}/postgres"),
            &format!("create database {name}"),
        )
        .await;
        Self {
            url,
            _directory: None,
        }
    }

    pub(crate) fn url(&self) -> DatabaseUrl {
        self.url.parse().expect("a URL")
    }

    /// Runs one statement that both databases understand, and says how many rows it changed.
    pub(crate) async fn execute(&self, statement: &str) -> u64 {
        if !self.url.starts_with("sqlite:") {
            return run_on_postgres(&self.url, statement).await;
        }
        let mut connection = SqliteConnection::connect(&self.url).await.expect("a file");
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await
            .expect(statement);
        connection.close().await.expect("closed");
        done.rows_affected()
    }

    /// Takes the locks that keep everybody else from writing.
    pub(crate) async fn hold_writes(&self) -> HeldWrites {
        if self.url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("a file");
            let lock = sqlx::raw_sql("begin immediate");
            lock.execute(&mut connection).await.expect("the lock");
            HeldWrites::Sqlite(connection)
        } else {
            let mut connection = PgConnection::connect(&self.url).await.expect("a server");
            let lock = "begin; lock table users, sessions, refresh_tokens, login_challenges \
                        in share mode";
            let lock = sqlx::raw_sql(lock);
            lock.execute(&mut connection).await.expect("the lock");
            HeldWrites::Postgres(connection)
        }
    }

    /// The bytes that a statement selects.
    pub(crate) async fn read(&self, statement: &'static str) -> Vec<Vec<u8>> {
        let read = if self.url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("a file");
            sqlx::query_scalar(statement)
                .fetch_all(&mut connection)
                .await
        } else {
            let mut connection = PgConnection::connect(&self.url).await.expect("a server");
            sqlx::query_scalar(statement)
                .fetch_all(&mut connection)
                .await
        };
        read.expect(statement)
    }
}

/// A connection that holds locks.
pub(crate) enum HeldWrites {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl HeldWrites {
    /// Lets others write again.
    pub(crate) async fn release(self) {
        let closed = match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        };
        closed.expect("closed");
    }
}

async fn run_on_postgres(url: &str, statement: &str) -> u64 {
    let mut connection = PgConnection::connect(url).await.expect("a server");
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut connection)
        .await
        .expect(statement);
    connection.close().await.expect("closed");
    done.rows_affected()
}
