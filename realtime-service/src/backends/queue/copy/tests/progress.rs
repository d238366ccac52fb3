//! The moment at which a change is told, without Redis.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn begun(directory: &TempDir) -> (Store, Progress) {
    let mut store = Store::open(&directory.path().join("queue.db"), true).expect("a file");
    let progress = store.commit(Progress::begin).expect("durable");
    let progress = progress.expect("numbered");
    progress.settle();
    (store, progress)
}

#[test]
fn a_change_is_told_once_the_copy_has_it_or_has_fallen_behind() {
    let directory = directory();
    let (_, progress) = begun(&directory);
    let count = Arc::new(AtomicUsize::new(0));
    let tell = |last| {
        let count = count.clone();
        let told: super::super::super::Told = Box::new(move |is_durable| {
            assert!(is_durable);
            count.fetch_add(1, Ordering::Relaxed);
        });
        progress.tell(last, vec![told]);
    };
    let told = || count.load(Ordering::Relaxed);
    // Without a copy the disk is enough, and so it is until the copy is whole.
    tell(1);
    let edition = progress.begin_edition();
    assert_eq!(edition.version, 1);
    tell(2);
    assert_eq!(told(), 2);
    let at = |version| Edition {
        version,
        ..edition.clone()
    };
    assert!(progress.advance(&at(2)) && progress.has(2));
    for last in [3, 4] {
        tell(last);
    }
    assert_eq!(told(), 2);
    assert!(!progress.advance(&at(3)) && !progress.has(4));
    assert_eq!(told(), 3);
    // Another copy has nothing to say.
    let other = Edition {
        name: "another".to_owned(),
        version: 9,
    };
    assert!(!progress.advance(&other));
    assert_eq!(told(), 3);
    assert!(progress.fall_back() && !progress.fall_back());
    assert_eq!(told(), 4);
    tell(5);
    assert_eq!(told(), 5);
    // The file does not keep changes without end.
    assert!(progress.advance(&at(5)));
    tell(100_005);
    assert_eq!((told(), progress.edition().is_some()), (5, true));
    tell(100_006);
    assert_eq!((told(), progress.edition()), (7, None));
}

#[test]
fn the_file_forgets_the_changes_that_the_copy_has_or_that_no_copy_follows() {
    let directory = directory();
    let (mut store, progress) = begun(&directory);
    let append = |store: &mut Store, id: &str| {
        let event = NewEvent {
            id: id.to_owned(),
            backend: "shop".to_owned(),
            subject: "alice".to_owned(),
            body: b"{}".to_vec(),
        };
        let last = store.commit(|store| {
            progress.note(store)?;
            store.append(&event, 1)?;
            store.last_change()
        });
        let last = last.expect("durable").expect("stored");
        progress.tell(last, Vec::new());
        last
    };
    let kept = |store: &Store| store.changes_since(0).expect("a page").rows.len();
    append(&mut store, "a");
    append(&mut store, "b");
    assert_eq!(kept(&store), 1, "the last one");
    let mut edition = progress.begin_edition();
    append(&mut store, "c");
    append(&mut store, "d");
    assert_eq!(kept(&store), 2);
    edition.version = 3;
    progress.advance(&edition);
    assert_eq!(append(&mut store, "e"), 5);
    assert_eq!(kept(&store), 2, "d and e");
    // A command in another process.
    let mut other = Store::open(&directory.path().join("queue.db"), false).expect("the file");
    let dropped = other.commit(|store| store.drop_events(Some("d")));
    dropped.expect("durable").expect("dropped");
    let page = store.changes_since(3).expect("a page");
    assert_eq!((page.version, page.is_last), (6, true));
    let rows: Vec<_> = page.rows.iter().map(|(_, row)| row.is_some()).collect();
    assert_eq!(rows, [false, true], "d has gone, and is one row");
}

#[test]
fn a_file_that_is_used_without_a_cluster_numbers_nothing() {
    let directory = directory();
    let (store, progress) = begun(&directory);
    drop((store, progress));
    let settings = WebhookSettings {
        file: directory.path().join("queue.db"),
        ..WebhookSettings::default()
    };
    drop(Queue::open(&settings).expect("a queue"));
    let store = Store::open(&settings.file, false).expect("the file");
    assert!(store.changes_since(0).is_err());
}
