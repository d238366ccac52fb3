//! What back ends are sent, and how large it is.

use super::*;
use crate::backends::{cloud_event::complete, queue::CLOSING_BYTES};

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
