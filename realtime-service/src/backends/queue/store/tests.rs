//! The order of events, and what becomes of them.

use std::collections::HashSet;

use super::*;

/// Asserts that a query searches this index, and neither sorts nor reads anything else.
pub(super) fn assert_search(store: &Store, sql: &str, index: &str) {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let mut statement = store.0.prepare(&sql).expect("a query");
    let plan = statement.raw_query().mapped(|row| row.get::<_, String>(3));
    let plan: Result<Vec<_>> = plan.collect();
    let plan = plan.expect("a plan");
    assert_eq!(plan.len(), 1, "{sql}: nothing is sorted: {plan:?}");
    assert!(plan[0].starts_with("SEARCH"), "{sql}: {plan:?}");
    assert!(plan[0].contains(index), "{sql}: {plan:?}");
}

fn store(directory: &tempfile::TempDir) -> Store {
    Store::open(&directory.path().join("queue.db"), true).expect("a file")
}

fn append(store: &mut Store, subject: &str, ids: &[&str]) {
    for id in ids {
        let event = NewEvent {
            id: (*id).to_owned(),
            backend: "shop".to_owned(),
            subject: subject.to_owned(),
            body: b"{}".to_vec(),
        };
        store
            .commit(|store| store.append(&event, 1))
            .expect("durable")
            .expect("stored");
    }
}

fn limits(batches: usize, events: usize) -> BatchLimits {
    BatchLimits {
        batches,
        events,
        bytes: u64::MAX,
    }
}

fn due(store: &Store, now: u64) -> Vec<(i64, String)> {
    let due = store
        .due("shop", now, limits(100, 1), &HashSet::new())
        .expect("events");
    let events = due.into_iter().flatten();
    events.map(|event| (event.seq, event.id)).collect()
}

fn ids(store: &Store, now: u64) -> Vec<String> {
    due(store, now).into_iter().map(|(_, id)| id).collect()
}

#[test]
fn of_each_subject_one_event_is_due_and_the_next_one_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    append(&mut store, "alice", &["a1", "a2", "a3"]);
    append(&mut store, "bob", &["b1"]);
    assert_eq!(ids(&store, 1), ["a1", "b1"]);
    let (first, _) = due(&store, 1)[0];
    store.retry(first, (1, 5), "no").expect("noted");
    assert_eq!(ids(&store, 4), ["b1"], "a2 does not overtake a1");
    assert_eq!(ids(&store, 5), ["b1", "a1"]);
    store.remove(first).expect("removed");
    assert_eq!(ids(&store, 1), ["a2", "b1"]);
    // The same after the file was opened again.
    drop(store);
    let store = self::store(&directory);
    assert_eq!(ids(&store, 1), ["a2", "b1"]);
    assert_eq!(store.totals().expect("numbers"), (3, 6));
}

#[test]
fn a_dead_letter_lets_the_next_event_pass_until_it_is_replayed_or_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    append(&mut store, "alice", &["a1", "a2", "a3"]);
    let (first, _) = due(&store, 1)[0];
    store.bury(first, (1, 9), "no answer").expect("given up");
    assert_eq!(ids(&store, 9), ["a2"]);
    let dead = store.list(true, 10, 0).expect("dead letters");
    assert_eq!(
        (dead.len(), dead[0].id.as_str(), dead[0].dead_at),
        (1, "a1", Some(9))
    );
    assert_eq!(dead[0].problem.as_deref(), Some("no answer"));
    let levels = store.levels("shop").expect("levels");
    assert_eq!(
        (levels.queued, levels.dead, levels.oldest_at),
        (2, 1, Some(1))
    );
    assert_eq!(
        store.replay(Some("a2"), 20).expect("none"),
        0,
        "a2 is not dead"
    );
    assert_eq!(store.replay(Some("a1"), 20).expect("one"), 1);
    assert!(ids(&store, 20).contains(&"a1".to_owned()));
    assert_eq!(store.drop_events(Some("a1")).expect("one"), 1);
    assert_eq!(store.drop_events(Some("a1")).expect("none"), 0);
    assert_eq!(ids(&store, 20), ["a2"]);
    assert_eq!(store.drop_events(Some("a2")).expect("one"), 1);
    assert_eq!(ids(&store, 20), ["a3"], "the next one has its turn");
}

#[test]
fn the_file_is_its_owners_alone_and_of_this_version() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    assert!(Store::open(&path, false).is_err(), "there is none");
    drop(store(&directory));
    let mode = std::fs::metadata(&path)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let connection = Connection::open(&path).expect("a file");
    connection
        .pragma_update(None, "user_version", 7)
        .expect("set");
    assert!(Store::open(&path, true).is_err());
}

#[test]
fn events_under_way_are_not_due_again_and_leave_the_places_to_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    for subject in ["alice", "bob", "carol"] {
        append(&mut store, subject, &[subject]);
    }
    let first = store.due("shop", 1, limits(1, 1), &HashSet::new());
    let first = first.expect("events");
    let under_way = first.iter().flatten().map(|event| event.seq).collect();
    let others = store
        .due("shop", 1, limits(1, 1), &under_way)
        .expect("events");
    let names = |events: &[Vec<Due>]| {
        let events = events.iter().flatten();
        events.map(|it| it.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&first), names(&others)),
        (vec!["alice".to_owned()], vec!["bob".to_owned()])
    );
}

#[test]
fn the_events_of_a_subject_are_counted_dead_letters_included() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    append(&mut store, "alice", &["a1", "a2"]);
    append(&mut store, "bob", &["b1"]);
    let (first, _) = due(&store, 1)[0];
    store.bury(first, (1, 9), "no answer").expect("given up");
    let totals = |backend, subject| store.totals_of(backend, subject).expect("numbers");
    assert_eq!(totals("shop", "alice"), (2, 4));
    assert_eq!(
        (totals("shop", "carol"), totals("another", "bob")),
        ((0, 0), (0, 0))
    );
}

#[test]
fn a_batch_has_the_events_of_a_subject_in_their_order_and_one_that_failed_is_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    append(&mut store, "alice", &["a1", "a2", "a3"]);
    append(&mut store, "bob", &["b1", "b2"]);
    append(&mut store, "carol", &["c1"]);
    let batches = |store: &Store, places, maximum| {
        let due = store.due("shop", 9, limits(places, maximum), &HashSet::new());
        let due = due.expect("events").into_iter();
        let names = |batch: Vec<Due>| batch.into_iter().map(|one| one.id).collect::<Vec<_>>();
        due.map(names).collect::<Vec<_>>()
    };
    assert_eq!(
        batches(&store, 2, 4),
        [vec!["a1", "a2", "a3", "b1"], vec!["c1"]]
    );
    assert_eq!(batches(&store, 1, 4), [["a1", "a2", "a3", "b1"]]);
    assert_eq!(batches(&store, 9, 1), [["a1"], ["b1"], ["c1"]]);
    let (first, _) = due(&store, 9)[0];
    store.retry(first, (1, 2), "no").expect("noted");
    assert_eq!(batches(&store, 9, 4), [vec!["a1"], vec!["b1", "b2", "c1"]]);
    // A replayed event stands beside the head that took its place.
    store.bury(first, (1, 9), "no").expect("given up");
    store.replay(Some("a1"), 9).expect("replayed");
    assert_eq!(
        batches(&store, 9, 9),
        [["a2", "a3", "b1", "b2", "c1", "a1"]]
    );
}

#[test]
fn a_closed_book_is_an_event_in_its_place_and_an_opening_is_stored_whole_or_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    let opening = |id: &str| Opening {
        event: Some(NewEvent {
            id: format!("{id} opened"),
            backend: "shop".to_owned(),
            subject: "alice".to_owned(),
            body: b"{}".to_vec(),
        }),
        book: Some(NewBook {
            id: id.to_owned(),
            backend: "shop".to_owned(),
            subject: "alice".to_owned(),
            draft: b"draft".to_vec(),
            bytes: 10,
        }),
    };
    let complete = |draft: &[u8]| Some([draft, b"!"].concat());
    let has_room = |all: (u64, u64), _: (u64, u64), own: (u64, u64)| all.0 + own.0 <= 4;
    for (id, is_stored) in [("one", true), ("two", true), ("three", false)] {
        let opened = store.commit(|store| store.open_book(&opening(id), 1, has_room));
        assert_eq!(opened.expect("durable").expect("asked"), is_stored, "{id}");
    }
    assert_eq!(store.totals().expect("numbers"), (4, 24));
    assert_eq!(store.totals_of("shop", "alice").expect("numbers"), (4, 24));
    store
        .commit(|store| store.close_book("one", 2, &complete))
        .expect("durable")
        .expect("closed");
    assert_eq!(store.totals().expect("numbers"), (4, 20));
    store
        .commit(|store| store.close_book("one", 2, &complete))
        .expect("durable")
        .expect("nothing");
    // The next process closes what this one has left open.
    drop(store);
    let mut store = self::store(&directory);
    assert_eq!(
        store
            .commit(|store| store.close_all_books(3, &complete))
            .expect("durable")
            .expect("closed"),
        1
    );
    assert_eq!(
        store
            .commit(|store| store.close_all_books(3, &complete))
            .expect("durable")
            .expect("none"),
        0
    );
    let listed = store.list(false, 9, 0).expect("events");
    let ids: Vec<_> = listed.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["one opened", "two opened", "one", "two"]);
    assert_eq!(store.list(false, 9, listed[1].seq).expect("two").len(), 2);
    let (_, body) = store.find("two").expect("read").expect("an event");
    assert_eq!(body, b"draft!");
}

#[test]
fn a_list_has_as_many_bytes_as_its_back_end_takes_and_a_larger_event_is_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    for (id, bytes) in [("a1", 3), ("a2", 3), ("a3", 2), ("a4", 9), ("a5", 2)] {
        let event = NewEvent {
            id: id.to_owned(),
            backend: "shop".to_owned(),
            subject: "alice".to_owned(),
            body: vec![b'1'; bytes],
        };
        let stored = store.commit(|store| store.append(&event, 1));
        stored.expect("durable").expect("stored");
    }
    let mut sent = Vec::new();
    loop {
        let limits = BatchLimits {
            bytes: 8,
            ..limits(1, 100)
        };
        let due = store.due("shop", 1, limits, &HashSet::new());
        let Some(batch) = due.expect("events").pop() else {
            break;
        };
        for event in &batch {
            store.remove(event.seq).expect("removed");
        }
        let ids = batch.into_iter().map(|event| event.id);
        sent.push(ids.collect::<Vec<_>>());
    }
    assert_eq!(sent, [vec!["a1", "a2"], vec!["a3"], vec!["a4"], vec!["a5"]]);
}

#[test]
fn dead_letters_are_replayed_and_dropped_in_slices() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    let count = SLICE + 1;
    let buried = store.commit(|store| {
        for number in 0..count {
            let event = NewEvent {
                id: number.to_string(),
                backend: "shop".to_owned(),
                subject: number.to_string(),
                body: b"{}".to_vec(),
            };
            store.append(&event, 1)?;
        }
        (1..=count).try_for_each(|seq| store.bury(signed(seq as u64), (1, 2), "no"))
    });
    buried.expect("durable").expect("buried");
    let replay = |store: &mut Store| {
        let replayed = store.commit(|store| store.replay(None, 3));
        replayed.expect("durable").expect("replayed")
    };
    assert_eq!(replay(&mut store), SLICE);
    let levels = store.levels("shop").expect("levels");
    assert_eq!((levels.queued, levels.dead), (SLICE as u64, 1));
    assert_eq!(replay(&mut store), 1);
    assert_eq!(due(&store, 3).len(), 100, "each is the head of its subject");
    let buried = store.commit(|store| {
        (1..=count).try_for_each(|seq| store.bury(signed(seq as u64), (1, 4), "no"))
    });
    buried.expect("durable").expect("buried");
    let mut drop_all = || {
        store
            .commit(|store| store.drop_events(None))
            .expect("durable")
    };
    assert_eq!(drop_all().expect("a slice"), SLICE);
    assert_eq!(drop_all().expect("the rest"), 1);
    assert_eq!(store.totals().expect("numbers"), (0, 0));
}

#[test]
fn a_clock_that_is_set_back_holds_no_new_event_and_one_that_failed_for_the_longest_pause_at_most() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    let hold = LONGEST_HOLD.as_secs() * 1000;
    append(&mut store, "alice", &["a"]);
    append(&mut store, "bob", &["b"]);
    append(&mut store, "carol", &["c"]);
    assert_eq!(ids(&store, 0), ["a", "b", "c"], "they are stored at 1");
    let (first, _) = due(&store, 1)[0];
    store.retry(first, (1, 10 + hold), "no").expect("noted");
    assert_eq!(ids(&store, 10), ["b", "c"], "a pause");
    assert_eq!(ids(&store, 9), ["a", "b", "c"], "no pause is so long");
    assert_eq!(ids(&store, 10 + hold), ["b", "c", "a"]);
}

#[test]
fn a_subject_without_a_head_has_one_when_the_file_is_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    append(&mut store, "alice", &["a1", "a2"]);
    append(&mut store, "bob", &["b1"]);
    let lost = "UPDATE events SET is_head = 0 WHERE subject = 'alice'";
    store.0.execute(lost, []).expect("changed");
    assert_eq!(ids(&store, 1), ["b1"]);
    assert_eq!(store.choose_missing_heads().expect("chosen"), 1);
    assert_eq!(store.choose_missing_heads().expect("none"), 0);
    assert_eq!(ids(&store, 1), ["a1", "b1"]);
}

#[test]
fn an_event_goes_with_the_choice_of_the_next_head_or_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = store(&directory);
    append(&mut store, "alice", &["a1", "a2"]);
    let (first, _) = due(&store, 1)[0];
    let fails = "CREATE TRIGGER fails BEFORE UPDATE OF is_head ON events
        WHEN new.is_head = 1 BEGIN SELECT RAISE(ABORT, 'no'); END";
    store.0.execute_batch(fails).expect("a trigger");
    let removed = store.commit(|store| store.remove(first)).expect("durable");
    assert!(removed.is_err());
    assert_eq!(ids(&store, 1), ["a1"]);
    store
        .0
        .execute_batch("DROP TRIGGER fails")
        .expect("dropped");
    let removed = store.commit(|store| store.remove(first)).expect("durable");
    assert!(removed.is_ok());
    assert_eq!(ids(&store, 1), ["a2"]);
}
