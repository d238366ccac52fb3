//! Databases of other versions.

use sqlx::{Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{OwnStore, postgres_url, sqlite_url};
use crate::{
    config::DatabaseUrl,
    store::{Opener, Store, schema::Migrated},
};

super::on_both!(a_newer_database_is_refused_in_one_line);

/// The migration up to which an older version has brought its database.
const OLDER: i64 = 8;

async fn refusal(url: &DatabaseUrl, opener: Opener) -> Option<String> {
    let opened = Store::open_by(url, opener).await;
    match opened {
        Ok(store) => {
            store.close().await;
            None
        }
        Err(error) => Some(error.story()),
    }
}

/// Asserts that a command refuses the tables as they are for `reason`, and that the service makes them fit.
async fn assert_left_by_commands(url: &DatabaseUrl, reason: &str) {
    for _ in 0..2 {
        let refused = refusal(url, Opener::Command).await.expect("a refusal");
        assert!(refused.contains(reason), "{refused}");
        assert!(refused.contains("`auth-service migrate`"), "{refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    assert_eq!(refusal(url, Opener::Service).await, None);
    assert_eq!(refusal(url, Opener::Command).await, None);
}

#[tokio::test]
async fn a_command_makes_no_tables_in_sqlite() {
    let (url, _directory) = sqlite_url();
    assert_left_by_commands(&url, "it has no tables: ").await;
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_command_makes_no_tables_in_postgresql() {
    assert_left_by_commands(&postgres_url().await, "it has no tables: ").await;
}

#[tokio::test]
async fn a_command_leaves_an_older_sqlite_database_as_it_is() {
    let (url, _directory) = sqlite_url();
    let path = url.sqlite_path().expect("a file");
    let options = SqliteConnectOptions::new().filename(path);
    let options = options.create_if_missing(true);
    let mut old = SqliteConnection::connect_with(&options)
        .await
        .expect("a file");
    let migrations = SqliteConnection::migrations();
    migrations.run_to(OLDER, &mut old).await.expect("tables");
    old.close().await.expect("closed");
    assert_left_by_commands(&url, "(migration 8, and").await;
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_command_leaves_an_older_postgresql_database_as_it_is() {
    let url = postgres_url().await;
    let mut old = PgConnection::connect(url.expose()).await.expect("a server");
    let migrations = PgConnection::migrations();
    migrations.run_to(OLDER, &mut old).await.expect("tables");
    old.close().await.expect("closed");
    assert_left_by_commands(&url, "(migration 8, and").await;
}

async fn a_newer_database_is_refused_in_one_line(own: OwnStore) {
    let newer = "insert into _sqlx_migrations \
                 (version, description, installed_on, success, checksum, execution_time) \
                 select 9000, description, installed_on, success, checksum, execution_time \
                 from _sqlx_migrations where version = 1";
    own.try_execute(newer).await.expect("a row");
    for opener in [Opener::Service, Opener::Command] {
        let refused = refusal(&own.url, opener).await.expect("a refusal");
        assert!(refused.contains("(migration 9000, and"), "{refused}");
        assert!(refused.contains("restore the backup"), "{refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    let undo = "delete from _sqlx_migrations where version = 9000";
    own.try_execute(undo).await.expect("a row");
    assert_eq!(refusal(&own.url, Opener::Service).await, None);
}
