//! The audit chain: what its verifier finds, and what it finds nothing wrong with.

use super::{
    OwnStore,
    sessions::{ending, start},
};
use crate::{
    store::{EndReason, SessionFilter, database::Pool},
    vault::Hash,
};

super::on_both!(a_change_of_any_field_of_any_event_is_found);

/// Lets rows be changed, as whoever owns the database can.
async fn remove_guards(own: &OwnStore) {
    let statements: &[&'static str] = match &own.store.writer {
        Pool::Sqlite(_) => &[
            "drop trigger audit_events_are_not_changed",
            "drop trigger audit_events_are_not_removed",
        ],
        Pool::Postgres(_) => &["alter table audit_events disable trigger user"],
    };
    for statement in statements {
        own.try_execute(*statement).await.expect(statement);
    }
}

/// Each change, the event at which it shows, and what takes it back.
const CHANGES: [(&str, i64, &str); 8] = [
    (
        "update audit_events set at = at + 1 where number = 1",
        1,
        "update audit_events set at = at - 1 where number = 1",
    ),
    (
        "update audit_events set event = 'logged_ou' where number = 2",
        2,
        "update audit_events set event = 'logged_in' where number = 2",
    ),
    (
        "update audit_events set user_id = 'bobb' where number = 3",
        3,
        "update audit_events set user_id = 'bob' where number = 3",
    ),
    (
        "update audit_events set user_id = null where number = 3",
        3,
        "update audit_events set user_id = 'bob' where number = 3",
    ),
    (
        "update audit_events set session_id = '' where number = 3",
        3,
        "update audit_events set session_id = null where number = 3",
    ),
    (
        "update audit_events set detail = detail || ' ' where number = 7",
        7,
        "update audit_events set detail = trim(detail) where number = 7",
    ),
    (
        "update audit_events set hash = previous, previous = hash where number = 4",
        4,
        "update audit_events set hash = previous, previous = hash where number = 4",
    ),
    (
        "update audit_events set number = 70 where number = 7",
        70,
        "update audit_events set number = 7 where number = 70",
    ),
];

async fn a_change_of_any_field_of_any_event_is_found(own: OwnStore) {
    for name in ["alice", "bob", "carol"] {
        start(&own, name, &Hash::of(name)).await;
    }
    let ended = own.end_sessions("bob", SessionFilter::All, ending(EndReason::LoggedOut, &[]));
    assert_eq!(ended.await.expect("a write").len(), 1);
    let check = async || own.check_events().await.expect("an answer");
    assert_eq!(check().await, Ok(7));
    remove_guards(&own).await;
    for (change, number, undo) in CHANGES {
        own.try_execute(change).await.expect(change);
        assert_eq!(check().await, Err(number), "{change}");
        own.try_execute(undo).await.expect(undo);
        assert_eq!(check().await, Ok(7), "{undo}");
    }
    // An end that is cut off leaves a chain; a gap does not.
    for (removed, left) in [
        ("delete from audit_events where number = 7", Ok(6)),
        ("delete from audit_events where number = 4", Err(5)),
        ("delete from audit_events where number < 4", Err(5)),
        ("delete from audit_events", Ok(0)),
    ] {
        own.try_execute(removed).await.expect(removed);
        assert_eq!(check().await, left, "{removed}");
    }
}
