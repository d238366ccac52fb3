//! A log keeps its word wherever it is: each test here runs on a log in memory, on one in Redis, and on one
//! in a Redis Cluster.

use std::time::Duration;

use serde_json::{json, value::to_raw_value};

use super::{
    Appended, Extract, MemoryLog, MemoryLogs, MessageKey, RedisLog, RedisLogs, RoomLog, Selection,
};
use crate::{
    cluster::testing,
    config::{ClusterSettings, HistorySettings},
    rooms::{Data, Draft, RoomName, Sender, Since},
};

/// Makes of each function a test on a log in memory, one in Redis, and one in a Redis Cluster.
macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::in_memory).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            #[ignore = "needs redis-server"]
            async fn $name() {
                super::$name(super::in_redis).await;
            })*
        }
        mod redis_cluster {
            $(#[tokio::test]
            #[ignore = "needs redis-server"]
            async fn $name() {
                super::$name(super::in_redis_cluster).await;
            })*
        }
    };
}

on_each!(
    messages_are_numbered_from_1_in_an_epoch,
    an_id_is_found_again_for_its_publisher,
    the_last_thousand_ids_are_known,
    who_comes_back_gets_what_was_missed_or_is_told,
    a_reader_gets_pages,
    it_keeps_so_many_messages,
    it_keeps_so_many_bytes,
    it_keeps_them_for_so_long,
    without_history_messages_have_numbers_all_the_same,
);

async fn in_memory(settings: HistorySettings) -> RoomLog {
    RoomLog::Memory(MemoryLog::new(MemoryLogs::new(settings)))
}

async fn in_redis(settings: HistorySettings) -> RoomLog {
    open_in(&testing::settings(), settings).await
}

async fn in_redis_cluster(settings: HistorySettings) -> RoomLog {
    open_in(&testing::settings_of_cluster(), settings).await
}

async fn open_in(servers: &ClusterSettings, settings: HistorySettings) -> RoomLog {
    let cluster = testing::connected(servers).await;
    let alone = MemoryLogs::new(settings.clone());
    let logs = RedisLogs::new(cluster, settings, alone);
    RoomLog::Redis(Box::new(RedisLog::new(room(), logs)))
}

fn room() -> RoomName {
    RoomName::parse("org:acme:lobby").expect("a room")
}

async fn append(log: &RoomLog, data: &str, key: Option<&MessageKey>) -> Appended {
    let draft = Draft {
        room: room(),
        event: "message".to_owned(),
        data: Data::new(to_raw_value(data).expect("JSON"), Vec::new()).expect("data"),
        id: "m".to_owned(),
        from: Sender {
            iss: None,
            sub: Some("alice".into()),
            name: None,
            connection: "c".into(),
        },
        ts: 0,
    };
    log.append(&draft, key).await.expect("a log")
}

async fn append_numbers(log: &RoomLog, count: usize) {
    for number in 1..=count {
        append(log, &number.to_string(), None).await;
    }
}

async fn read(log: &RoomLog, since: Option<Since>, last: usize, limit: Option<usize>) -> Extract {
    let selection = Selection { since, last, limit };
    log.read(&selection).await.expect("a log")
}

/// The messages as (offset, data), which has to be what was appended there.
fn offsets(extract: &Extract) -> Vec<u64> {
    let messages = extract.messages.iter();
    let offsets = messages.map(|message| {
        assert_eq!(message.meta()["offset"], message.offset());
        assert_eq!(message.meta()["epoch"], json!(extract.position.epoch));
        message.offset()
    });
    offsets.collect()
}

fn key(publisher: &str, id: impl ToString) -> MessageKey {
    MessageKey {
        publisher: publisher.to_owned(),
        id: id.to_string(),
    }
}

async fn messages_are_numbered_from_1_in_an_epoch(open: impl AsyncFn(HistorySettings) -> RoomLog) {
    let log = open(HistorySettings::default()).await;
    let start = read(&log, None, 10, None).await;
    assert_eq!((start.position.offset, offsets(&start)), (0, vec![]));
    for offset in 1..=3 {
        let appended = append(&log, "text", None).await;
        assert_eq!(appended.position.offset, offset);
        assert_eq!(appended.position.epoch, start.position.epoch);
        assert!(!appended.is_duplicate);
        let message = appended.message;
        assert!(message.is_none_or(|message| message.offset() == offset));
    }
    let end = read(&log, None, 2, None).await;
    assert_eq!((end.position.offset, end.recovered), (3, None));
    assert_eq!(offsets(&end), [2, 3]);
    assert_eq!(end.messages[0].data(), "text");
}

async fn an_id_is_found_again_for_its_publisher(open: impl AsyncFn(HistorySettings) -> RoomLog) {
    let log = open(HistorySettings::default()).await;
    let first = append(&log, "1", Some(&key("alice", "a b\n\"c\""))).await;
    append(&log, "2", None).await;
    let again = append(&log, "3", Some(&key("alice", "a b\n\"c\""))).await;
    assert!(!first.is_duplicate && again.is_duplicate && again.message.is_none());
    let original = again.original.map(|draft| draft.data.json().to_owned());
    // A log in memory ends with the gateway that has told everybody of its messages.
    let expected = log.redis().map(|_| "\"1\"".to_owned());
    assert_eq!((first.original.is_none(), original), (true, expected));
    assert_eq!(
        (again.position.offset, again.position.epoch),
        (1, first.position.epoch)
    );
    for other in [key("bob", "a b\n\"c\""), key("alice", "a b")] {
        assert!(!append(&log, "4", Some(&other)).await.is_duplicate);
    }
    assert_eq!(read(&log, None, 0, None).await.position.offset, 4);
}

async fn the_last_thousand_ids_are_known(open: impl AsyncFn(HistorySettings) -> RoomLog) {
    let log = open(HistorySettings::default()).await;
    for id in 0..=1000 {
        append(&log, "x", Some(&key("alice", id))).await;
    }
    assert!(append(&log, "x", Some(&key("alice", 1))).await.is_duplicate);
    assert!(!append(&log, "x", Some(&key("alice", 0))).await.is_duplicate);
}

async fn who_comes_back_gets_what_was_missed_or_is_told(
    open: impl AsyncFn(HistorySettings) -> RoomLog,
) {
    let log = open(HistorySettings {
        messages: 3,
        ..HistorySettings::default()
    })
    .await;
    append_numbers(&log, 5).await;
    let epoch = serde_json::to_value(read(&log, None, 0, None).await.position.epoch);
    let epoch = epoch.expect("JSON").as_str().expect("a text").to_owned();
    let since = |epoch: &str, offset| {
        let epoch = epoch.to_owned();
        Some(Since { epoch, offset })
    };
    for (offset, recovered, last, expected) in [
        (2, true, 0, vec![3, 4, 5]),
        (4, true, 3, vec![5]),
        (5, true, 3, vec![]),
        // One of the missed ones is not kept.
        (1, false, 0, vec![]),
        (1, false, 2, vec![4, 5]),
        // There was never such a message.
        (6, false, 2, vec![4, 5]),
        (u64::MAX, false, 0, vec![]),
    ] {
        let extract = read(&log, since(&epoch, offset), last, None).await;
        assert_eq!(extract.recovered, Some(recovered), "{offset}");
        assert_eq!(offsets(&extract), expected, "{offset}");
    }
    let other = read(&log, since("another", 4), 1, None).await;
    assert_eq!((other.recovered, offsets(&other)), (Some(false), vec![5]));
}

async fn a_reader_gets_pages(open: impl AsyncFn(HistorySettings) -> RoomLog) {
    let log = open(HistorySettings {
        messages: 4,
        ..HistorySettings::default()
    })
    .await;
    append_numbers(&log, 5).await;
    let epoch = read(&log, None, 0, None).await.position.epoch;
    let since = |offset| {
        let epoch = epoch.0.to_string();
        Some(Since { epoch, offset })
    };
    for (since, limit, expected, more, recovered) in [
        (since(2), 2, vec![3, 4], true, Some(true)),
        (since(2), 3, vec![3, 4, 5], false, Some(true)),
        (since(0), 2, vec![2, 3], true, Some(false)),
        (since(5), 2, vec![], false, Some(true)),
        (None, 2, vec![4, 5], false, None),
        (None, 0, vec![], false, None),
        (None, 9, vec![2, 3, 4, 5], false, None),
    ] {
        let extract = read(&log, since, limit, Some(limit)).await;
        assert_eq!((offsets(&extract), extract.more), (expected, more));
        assert_eq!(extract.recovered, recovered);
    }
}

async fn it_keeps_so_many_messages(open: impl AsyncFn(HistorySettings) -> RoomLog) {
    let log = open(HistorySettings {
        messages: 3,
        ..HistorySettings::default()
    })
    .await;
    append_numbers(&log, 7).await;
    let extract = read(&log, None, usize::MAX, None).await;
    assert_eq!(
        (extract.position.offset, offsets(&extract)),
        (7, vec![5, 6, 7])
    );
}

async fn it_keeps_so_many_bytes(open: impl AsyncFn(HistorySettings) -> RoomLog) {
    let log = open(HistorySettings {
        bytes: 20_000,
        ..HistorySettings::default()
    })
    .await;
    for _ in 0..10 {
        append(&log, &"x".repeat(6000), None).await;
    }
    let extract = read(&log, None, usize::MAX, None).await;
    assert_eq!(offsets(&extract), [8, 9, 10]);
    // One that is too large by itself is not kept, nor is what was before it.
    let large = append(&log, &"x".repeat(20_000), None).await;
    assert_eq!(large.position.offset, 11);
    let extract = read(&log, None, usize::MAX, None).await;
    assert_eq!((extract.position.offset, offsets(&extract)), (11, vec![]));
    append(&log, "small", None).await;
    let extract = read(&log, None, usize::MAX, None).await;
    assert_eq!(offsets(&extract), [12]);
}

async fn it_keeps_them_for_so_long(open: impl AsyncFn(HistorySettings) -> RoomLog) {
    let log = open(HistorySettings {
        secs: 1,
        ..HistorySettings::default()
    })
    .await;
    append(&log, "1", None).await;
    let kept = read(&log, None, usize::MAX, None).await;
    assert_eq!(offsets(&kept), [1]);
    let forgotten = async {
        while !read(&log, None, usize::MAX, None).await.messages.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(15);
    tokio::time::timeout(limit, forgotten)
        .await
        .expect("forgotten in time");
    // The room goes on.
    let second = append(&log, "2", None).await;
    assert_eq!(second.position.offset, 2);
    assert_eq!(second.position.epoch, kept.position.epoch);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_has_expired_takes_no_bytes_from_later_messages() {
    let settings = testing::settings();
    let cluster = testing::connected(&settings).await;
    let history = HistorySettings {
        bytes: 10_000,
        secs: 1,
        ..HistorySettings::default()
    };
    let logs = RedisLogs::new(cluster.clone(), history.clone(), MemoryLogs::new(history));
    let log = RoomLog::Redis(Box::new(RedisLog::new(room(), logs)));
    append(&log, &"x".repeat(9000), None).await;
    let link = cluster.link().expect("a connection");
    let mut exists = ::redis::cmd("EXISTS");
    exists.arg(cluster.name(&format!("{{{}}}:messages", room())));
    let expired = async { while link.query::<i64>(&exists).await != Ok(0) {} };
    let limit = Duration::from_secs(15);
    tokio::time::timeout(limit, expired)
        .await
        .expect("expired in time");
    append(&log, &"x".repeat(2000), None).await;
    let extract = read(&log, None, usize::MAX, None).await;
    assert_eq!(offsets(&extract), [2]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_room_without_a_message_is_forgotten_within_an_hour() {
    let settings = testing::settings();
    let cluster = testing::connected(&settings).await;
    let history = HistorySettings::default();
    let logs = RedisLogs::new(cluster.clone(), history.clone(), MemoryLogs::new(history));
    let log = RoomLog::Redis(Box::new(RedisLog::new(room(), logs)));
    let link = cluster.link().expect("a connection");
    let mut lifetime = ::redis::cmd("TTL");
    lifetime.arg(cluster.name(&format!("{{{}}}:log", room())));
    read(&log, None, 1, None).await;
    let empty = link.query::<i64>(&lifetime).await.expect("a time");
    append(&log, "1", None).await;
    let used = link.query::<i64>(&lifetime).await.expect("a time");
    assert!(
        (1..=3600).contains(&empty) && used > 600_000,
        "{empty}, {used}"
    );
}

async fn without_history_messages_have_numbers_all_the_same(
    open: impl AsyncFn(HistorySettings) -> RoomLog,
) {
    let log = open(HistorySettings {
        messages: 0,
        ..HistorySettings::default()
    })
    .await;
    append_numbers(&log, 3).await;
    let extract = read(&log, None, usize::MAX, None).await;
    assert_eq!((extract.position.offset, offsets(&extract)), (3, vec![]));
    let epoch = extract.position.epoch.0.to_string();
    let since = |offset| {
        Some(Since {
            epoch: epoch.clone(),
            offset,
        })
    };
    assert_eq!(read(&log, since(3), 0, None).await.recovered, Some(true));
    assert_eq!(read(&log, since(2), 0, None).await.recovered, Some(false));
}
