//! Lifecycle events while another process holds the file.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rusqlite::Connection;

use super::*;
use crate::{
    backends::queue::{NotStored, store::NewBook},
    config::WebhookSettings,
};

const SUBJECT: &str = "alice";

/// A queue in `directory` that waits for other writers for a moment only.
fn queue(directory: &tempfile::TempDir) -> Arc<Queue> {
    let settings = WebhookSettings {
        file: directory.path().join("queue.db"),
        ..WebhookSettings::default()
    };
    let queue = Queue::open_within(&settings, Duration::from_millis(10));
    Arc::new(queue.expect("a queue"))
}

fn opening(id: &str) -> Opening {
    let draft = br#"{"type":"latchkey.connection.closed","time":"x","data":{"since":"x"}}"#;
    Opening {
        event: None,
        book: Some(NewBook {
            id: id.to_owned(),
            backend: "shop".to_owned(),
            subject: SUBJECT.to_owned(),
            draft: draft.to_vec(),
            bytes: draft.len() as u64 + CLOSING_BYTES,
        }),
    }
}

async fn stored_ids(queue: &Queue) -> Vec<String> {
    let listed = queue.run(|store| store.list(false, 10, 0)).await;
    let listed = listed.expect("events").into_iter();
    listed.map(|event| event.id).collect()
}

#[tokio::test]
async fn an_end_that_comes_while_another_process_writes_is_stored_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = queue(&directory);
    let drop_nothing = || panic!("there is room");
    queue.open_book(opening("one"), drop_nothing).wait().await;
    let book = OpenBook::new(queue.clone(), vec!["one".into()], "client");
    let other = Connection::open(directory.path().join("queue.db")).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    drop(book);
    let is_dropped = Arc::new(AtomicBool::new(false));
    let drop_one = {
        let is_dropped = is_dropped.clone();
        move || is_dropped.store(true, Ordering::Release)
    };
    queue.open_book(opening("two"), drop_one).wait().await;
    assert!(is_dropped.load(Ordering::Acquire), "it is counted");
    let refused = queue.run(|_| Ok(())).await;
    assert_eq!(refused, Err(NotStored::Unavailable));
    other.execute_batch("ROLLBACK").expect("released");
    assert!(stored_ids(&queue).await.is_empty());
    queue.write_again();
    assert_eq!(stored_ids(&queue).await, ["one"]);
}
