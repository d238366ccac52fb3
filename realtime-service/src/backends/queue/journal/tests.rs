//! Lifecycle events while another process holds the file.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use rusqlite::Connection;

use super::*;
use crate::{
    backends::queue::{
        NotStored,
        store::{NewBook, NewEvent},
    },
    config::WebhookSettings,
};

const SUBJECT: &str = "alice";

/// A queue in `directory` for 32 events that waits for other writers for a moment only.
fn queue(directory: &tempfile::TempDir) -> Arc<Queue> {
    let settings = WebhookSettings {
        file: directory.path().join("queue.db"),
        entries: 32,
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

fn event(id: &str) -> NewEvent {
    NewEvent {
        id: id.to_owned(),
        backend: "shop".to_owned(),
        subject: SUBJECT.to_owned(),
        body: b"{}".to_vec(),
    }
}

/// Stores an opening, or an event that begins nothing. Returns whether it was not dropped.
async fn is_stored(queue: &Queue, opening: Opening, share: Share) -> bool {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let dropped = {
        let is_dropped = is_dropped.clone();
        move || is_dropped.store(true, Ordering::Release)
    };
    let memory = queue.reserve(opening.memory()).await.expect("memory");
    let stored = queue.open_book(opening, (memory, share), dropped);
    let _ = stored.wait().await;
    !is_dropped.load(Ordering::Acquire)
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
    assert!(is_stored(&queue, opening("one"), Share::Eighth).await);
    let book = OpenBook::new(queue.clone(), vec!["one".into()], "client");
    let other = Connection::open(directory.path().join("queue.db")).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    drop(book);
    // A beginning is counted as dropped.
    assert!(!is_stored(&queue, opening("two"), Share::Eighth).await);
    let refused = queue.run(|_| Ok(())).await;
    assert_eq!(refused, Err(NotStored::Unavailable));
    other.execute_batch("ROLLBACK").expect("released");
    assert!(stored_ids(&queue).await.is_empty());
    queue.write_again();
    assert_eq!(stored_ids(&queue).await, ["one"]);
}

#[tokio::test]
async fn the_events_of_a_client_leave_room_for_its_connections_and_its_revocation() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = queue(&directory);
    let alone = |id| Opening {
        event: Some(event(id)),
        book: None,
    };
    for id in ["a", "b"] {
        assert_eq!(queue.append(event(id)).await, Ok(()));
    }
    assert_eq!(queue.append(event("c")).await, Err(NotStored::Full));
    assert!(!is_stored(&queue, alone("message"), Share::Sixteenth).await);
    for id in ["one", "two"] {
        assert!(is_stored(&queue, opening(id), Share::Eighth).await, "{id}");
    }
    assert!(!is_stored(&queue, opening("three"), Share::Eighth).await);
    assert!(is_stored(&queue, alone("revoked"), Share::All).await);
}

#[tokio::test]
async fn a_revocation_has_no_place_in_a_queue_that_is_full_for_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = queue(&directory);
    for (id, fits) in (0..33).map(|id| (id, id < 32)) {
        let opening = Opening {
            event: Some(event(&id.to_string())),
            book: None,
        };
        assert_eq!(is_stored(&queue, opening, Share::All).await, fits, "{id}");
    }
}

#[tokio::test]
async fn memory_is_waited_for_and_nothing_overtakes_who_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = queue(&directory);
    let all = queue.reserve(usize::MAX).await;
    assert!(queue.try_reserve(1).is_none());
    let mut waiting = Box::pin(queue.reserve(100));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(all);
    assert!(queue.try_reserve(usize::MAX).is_none());
    assert!(waiting.await.is_some());
    assert!(queue.try_reserve(1).is_some());
}
