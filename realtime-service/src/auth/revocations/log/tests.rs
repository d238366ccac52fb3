use shared_claims::verify::LogoutScope;

use super::*;
use crate::auth::revocations::entries::Entry;

#[test]
fn what_is_appended_after_a_draft_was_filled_is_in_the_next_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("revocations.jsonl");
    let mut writer = Writer::open(&path, |_| Ok(())).expect("a file");
    let old = ["of no use any more".to_owned(), "nor is this".to_owned()];
    writer.append(&old).expect("durable");
    let entries = Arc::new(Entries::new(2));
    let key = (
        "issuer".to_owned(),
        LogoutScope::Session("in force".to_owned()),
    );
    let entry = Entry {
        iat: 0,
        until: u64::MAX,
    };
    entries.insert(key, entry);
    let (queue, commands) = sync_channel(1);
    writer.begin_rewriting(entries, queue).expect("a draft");
    let Ok(Command::Finish(draft)) = commands.recv() else {
        panic!("the draft is not sent");
    };
    // It is acknowledged from here on, and the draft does not have it.
    writer
        .append(&["appended meanwhile".to_owned()])
        .expect("durable");
    writer.finish_rewriting(draft).expect("a new file");
    writer
        .append(&["appended later".to_owned()])
        .expect("durable");
    let text = std::fs::read_to_string(&path).expect("a file");
    let lines: Vec<_> = text.lines().collect();
    let [in_force, meanwhile, later] = lines[..] else {
        panic!("{lines:?}");
    };
    assert!(in_force.contains("in force"), "{in_force}");
    assert_eq!((meanwhile, later), ("appended meanwhile", "appended later"));
    assert_eq!(*writer.lines.borrow(), 3);
}

#[tokio::test]
async fn a_page_longer_than_the_queue_is_on_the_disk_when_the_append_returns() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("revocations.jsonl");
    let log = Log::start(Writer::open(&path, |_| Ok(())).expect("a file")).expect("a thread");
    for _ in 0..3 {
        let page = (0..=QUEUE).map(|number| number.to_string()).collect();
        log.append_all(page).await;
    }
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(text.lines().count(), 3 * (QUEUE + 1));
    assert!(!log.is_incomplete());
}

#[tokio::test]
async fn a_full_queue_leaves_the_file_incomplete_until_it_is_written_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("revocations.jsonl");
    let writer = Writer::open(&path, |_| Ok(())).expect("a file");
    let (queue, commands) = sync_channel(1);
    let log = Log {
        queue,
        lines: writer.lines.subscribe(),
        is_incomplete: writer.is_incomplete.clone(),
    };
    let entries = Arc::new(Entries::new(2));
    for sid in ["first", "second"] {
        assert!(!log.is_incomplete());
        let key = ("issuer".to_owned(), LogoutScope::Session(sid.to_owned()));
        let entry = Entry {
            iat: 0,
            until: u64::MAX,
        };
        entries.insert(key, entry);
        log.append_later(sid.to_owned());
    }
    assert!(log.is_incomplete());
    std::thread::spawn(move || writer.run(&commands));
    let complete = async {
        let has_both = || {
            let text = std::fs::read_to_string(&path).expect("a file");
            text.contains("\"first\"") && text.contains("\"second\"")
        };
        while log.is_incomplete() || !has_both() {
            log.rewrite_later(entries.clone());
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(15);
    tokio::time::timeout(limit, complete)
        .await
        .expect("in time");
}
