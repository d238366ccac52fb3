//! What back ends are sent, and how large it is.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::{
    backends::{cloud_event::complete, queue::CLOSING_BYTES},
    config::{Config, WebhookSettings},
    metrics::Metrics,
    rooms::Data,
};

#[test]
fn the_longest_end_of_a_draft_is_within_the_size_that_its_book_counts() {
    let draft = br#"{"type":"latchkey.connection.closed","time":"2026-11-27T10:00:00.123Z","data":{"since":"x"}}"#;
    let body = complete(draft, (Cause::Unauthenticated.name(), u64::from(u32::MAX)));
    let body = body.expect("an event");
    assert!(body.len() as u64 <= draft.len() as u64 + CLOSING_BYTES);
    let event: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        event["data"],
        json!({ "since": "x", "cause": "unauthenticated" })
    );
    assert_eq!(event["time"], "1970-02-19T17:02:47.295Z");
    assert_eq!(complete(b"draft", ("client", 0)), None);
}

#[test]
fn an_id_is_that_of_its_parts_in_their_order() {
    assert_eq!(id_of(&["a", "b"]), id_of(&["a", "b"]));
    for other in [&["b", "a"][..], &["ab"], &["a", "b", ""]] {
        assert_ne!(id_of(&["a", "b"]), id_of(other));
    }
}

/// Back ends with a queue in `directory`, one of which is sent everything.
fn back_ends(directory: &tempfile::TempDir) -> BackEnds {
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
    let back_end = json!({ "name": "shop", "url": "http://shop/", "secret_file": secret });
    let types = [
        "connection.opened",
        "connection.closed",
        "room.occupied",
        "room.vacated",
        "message.published",
        "session.revoked",
    ];
    let rule = json!({ "backend": "shop", "types": types, "rooms": ["**"] });
    let mut config = Config {
        backends: vec![serde_json::from_value(back_end).expect("settings")],
        lifecycle: vec![serde_json::from_value(rule).expect("a rule")],
        ..Config::default()
    };
    config.webhooks.file = directory.path().join("queue.db");
    BackEnds::open(&config, &Arc::new(Metrics::new()), None).expect("back ends")
}

async fn stored_types(back_ends: &BackEnds) -> Vec<String> {
    let queue = back_ends.queue.as_ref().expect("a queue");
    let bodies = queue.run(|store| {
        let listed = store.list(false, 10, 0)?.into_iter();
        let bodies = listed.filter_map(|event| store.find(&event.id).transpose());
        bodies.collect::<rusqlite::Result<Vec<_>>>()
    });
    let bodies = bodies.await.expect("events").into_iter();
    let name = |(_, body): (_, Vec<u8>)| {
        let event: Value = serde_json::from_slice(&body).expect("JSON");
        event["type"].as_str().expect("a type").to_owned()
    };
    bodies.map(name).collect()
}

fn origin() -> Origin<'static> {
    Origin {
        connection: "c",
        namespace: "/",
        issuer: None,
        subject: None,
        session: None,
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_admits_clients_and_acknowledges_no_revocation() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut back_ends = back_ends(&directory);
    back_ends.queue = None;
    let settings = WebhookSettings {
        file: directory.path().join("locked.db"),
        ..WebhookSettings::default()
    };
    let queue = Queue::open_within(&settings, Duration::from_millis(10)).expect("a queue");
    back_ends.queue = Some(Arc::new(queue));
    let logout = VerifiedLogout {
        iss: "issuer".to_owned(),
        iat: 1,
        scopes: vec![LogoutScope::Session("s".to_owned())],
        tokens_exp: None,
    };
    let other = rusqlite::Connection::open(&settings.file).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let claims = Map::new();
    let opening = back_ends.connection_opening(origin(), &claims).await;
    let (book, stored) = opening.expect("an opening").store().split();
    stored.await;
    drop(book);
    // Dropped before the gateway knows that the file cannot be written.
    let opening = back_ends.connection_opening(origin(), &claims).await;
    let (book, stored) = opening.expect("an opening").store().split();
    drop(book);
    stored.await;
    let untold = back_ends.session_revoked(&logout, None, wall_now()).await;
    assert_eq!(untold, Err(NotStored::Unavailable));
    let queue = back_ends.queue.as_ref().expect("a queue");
    assert_eq!(queue.unwritten(), 0, "what was not told owes no end");
    other.execute_batch("ROLLBACK").expect("released");
    // The issuer posts it again.
    let told = back_ends.session_revoked(&logout, None, wall_now()).await;
    assert_eq!(told, Ok(()));
    let expected = ["latchkey.session.revoked"];
    assert_eq!(stored_types(&back_ends).await, expected);
}

#[tokio::test]
async fn connections_and_messages_wait_for_memory_and_a_room_without_it_owes_no_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let back_ends = back_ends(&directory);
    let queue = back_ends.queue.as_ref().expect("a queue");
    let room = RoomName::parse("lobby").expect("a room");
    let draft = Draft {
        room: room.clone(),
        event: "say".to_owned(),
        data: Data::new(
            RawValue::from_string("1".to_owned()).expect("JSON"),
            Vec::new(),
        )
        .expect("data"),
        id: "m".to_owned(),
        from: Sender {
            iss: None,
            sub: None,
            name: None,
            connection: "c".into(),
        },
        ts: 1,
    };
    let all = queue.try_reserve(usize::MAX).expect("all of it");
    let claims = Map::new();
    let mut opening = Box::pin(back_ends.connection_opening(origin(), &claims));
    assert!(opening.as_mut().now_or_never().is_none());
    let mut message = Box::pin(back_ends.reserve_message(&draft));
    assert!(message.as_mut().now_or_never().is_none());
    drop(back_ends.room_occupied(&room));
    drop(all);
    let opened = opening.await.expect("an opening").store();
    assert!(message.await.is_some());
    let (book, stored) = opened.split();
    stored.await;
    drop(book);
    drop(back_ends.room_occupied(&room));
    let expected = [
        "latchkey.connection.opened",
        "latchkey.connection.closed",
        "latchkey.room.occupied",
        "latchkey.room.vacated",
    ];
    assert_eq!(stored_types(&back_ends).await, expected);
}
