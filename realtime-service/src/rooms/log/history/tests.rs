use serde_json::{json, value::to_raw_value};

use super::*;
use crate::rooms::{Data, Draft, Epoch, Position, RoomName, Sender};

/// Messages as a log has numbered them, each with data of so many bytes.
fn messages(count: u64, bytes: usize) -> Vec<Arc<Message>> {
    let text = "x".repeat(bytes - 2);
    let data = to_raw_value(&json!(text)).expect("JSON");
    let draft = Draft {
        room: RoomName::parse("lobby").expect("a room name"),
        event: "message".to_owned(),
        data: Data::new(data, Vec::new()).expect("data"),
        id: "m".to_owned(),
        from: Sender {
            iss: None,
            sub: None,
            name: None,
            connection: "c".into(),
        },
        ts: 0,
    };
    let offsets = 1..=count;
    let encode = |offset| {
        let epoch = Epoch("e".into());
        Arc::new(Message::encode(&draft, &Position { epoch, offset }))
    };
    offsets.map(encode).collect()
}

fn settings(messages: usize, secs: u64, bytes: usize) -> HistorySettings {
    HistorySettings {
        messages,
        secs,
        bytes,
        ..HistorySettings::default()
    }
}

fn offsets(messages: &[Arc<Message>]) -> Vec<u64> {
    let offsets = messages.iter().map(|message| message.offset());
    offsets.collect()
}

fn kept(history: &History) -> Vec<u64> {
    offsets(&history.last(usize::MAX))
}

#[test]
fn it_keeps_so_many_messages() {
    let (now, settings) = (Instant::now(), settings(3, 60, 1 << 20));
    let mut history = History::default();
    for message in messages(3, 10) {
        history.push(message, now, &settings);
    }
    assert_eq!(kept(&history), [1, 2, 3]);
    let fourth = messages(4, 10).remove(3);
    history.push(fourth, now, &settings);
    assert_eq!(kept(&history), [2, 3, 4]);
    assert_eq!(history.bytes(), 3 * weight(&messages(1, 10)[0]));
}

#[test]
fn it_keeps_so_many_bytes() {
    let (now, weight) = (Instant::now(), weight(&messages(1, 100)[0]));
    for (bytes, expected) in [
        (3 * weight, vec![1, 2, 3]),
        (3 * weight - 1, vec![2, 3]),
        // Even the newest is too much.
        (weight - 1, vec![]),
    ] {
        let settings = settings(100, 60, bytes);
        let mut history = History::default();
        for message in messages(3, 100) {
            history.push(message, now, &settings);
        }
        assert_eq!(kept(&history), expected, "{bytes}");
        assert_eq!(history.bytes(), expected.len() * weight, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_keeps_them_for_so_long() {
    let settings = settings(100, 60, 1 << 20);
    let mut history = History::default();
    for message in messages(2, 10) {
        history.push(message, Instant::now(), &settings);
        tokio::time::advance(Duration::from_secs(30)).await;
    }
    // The first is a minute old, the second half of one.
    let millisecond = Duration::from_millis(1);
    history.trim(Instant::now() - millisecond, &settings);
    assert_eq!(kept(&history), [1, 2]);
    history.trim(Instant::now(), &settings);
    assert_eq!(kept(&history), [2]);
    tokio::time::advance(Duration::from_secs(30)).await;
    history.trim(Instant::now(), &settings);
    assert_eq!((kept(&history), history.bytes()), (vec![], 0));
}

#[test]
fn what_is_after_a_message_is_all_of_it_or_nothing() {
    let (now, settings) = (Instant::now(), settings(3, 60, 1 << 20));
    let mut history = History::default();
    for message in messages(5, 10) {
        history.push(message, now, &settings);
    }
    for (offset, expected) in [
        (0, None),
        (1, None),
        (2, Some(vec![3, 4, 5])),
        (4, Some(vec![5])),
        (5, Some(vec![])),
        // It was never reached.
        (6, None),
        (u64::MAX, None),
    ] {
        let after = history.after(offset, 5).map(|messages| offsets(&messages));
        assert_eq!(after, expected, "{offset}");
    }
    // When all have gone, only whoever has the newest misses nothing.
    history.clear();
    assert_eq!(history.after(5, 5).map(|messages| messages.len()), Some(0));
    assert!(history.after(4, 5).is_none());
}

#[test]
fn the_last_ones_are_as_many_as_there_are() {
    let mut history = History::default();
    assert!(history.last(10).is_empty());
    for message in messages(3, 10) {
        history.push(message, Instant::now(), &HistorySettings::default());
    }
    assert!(history.last(0).is_empty());
    assert_eq!(offsets(&history.last(2)), [2, 3]);
    assert_eq!(offsets(&history.last(10)), [1, 2, 3]);
}
