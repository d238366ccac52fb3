use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{super::*, lend};

#[tokio::test]
async fn processes_that_make_the_same_database_at_once_all_get_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new.db");
    let opening = (0..6).map(|_| {
        let path = path.clone();
        tokio::spawn(async move { Store::open(&DatabaseUrl::sqlite(&path)).await })
    });
    for opened in opening.collect::<Vec<_>>() {
        let store = opened.await.expect("no panic").expect("a store");
        store.check_ready(0).await.expect("an answer");
    }
}

#[tokio::test]
async fn the_database_is_its_owners_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new.db");
    let store = Store::open(&DatabaseUrl::sqlite(&path))
        .await
        .expect("a store");
    let account = super::conformance::account("id", "alice", "alice");
    let added = store.insert_account(&account).await;
    assert_eq!(added.expect("a write"), Added::Fine);
    for name in ["new.db", "new.db-wal", "new.db-shm"] {
        let data = fs::metadata(directory.path().join(name)).expect(name);
        assert_eq!(data.permissions().mode() & 0o777, 0o600, "{name}");
    }
    store.close().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_on_the_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&DatabaseUrl::sqlite(&directory.path().join("new.db")))
        .await
        .expect("a store");
    let mut writer = lend(&store.writer).await;
    let journal: String = sqlx::query_scalar("pragma journal_mode")
        .fetch_one(&mut writer.connection)
        .await
        .expect("a mode");
    let synchronous: i64 = sqlx::query_scalar("pragma synchronous")
        .fetch_one(&mut writer.connection)
        .await
        .expect("a level");
    assert_eq!((journal.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn a_database_in_no_directory_is_an_error_that_names_it() {
    let refused = Store::open(&DatabaseUrl::sqlite(Path::new("/nowhere/new.db"))).await;
    let error = refused.expect_err("no directory").to_string();
    assert_eq!(error, "cannot make the database /nowhere/new.db");
}
