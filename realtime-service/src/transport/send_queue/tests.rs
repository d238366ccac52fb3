//! Packets that wait, and writes that take a part of them.

use super::*;

fn packet(text: &str) -> Queued {
    Queued::new(Packet::engine(text), None)
}

/// Writes into `out`, so many bytes at a time and `room` in all.
fn writer(
    out: &mut Vec<u8>,
    at_once: usize,
    room: usize,
) -> impl FnMut(&[IoSlice<'_>]) -> io::Result<usize> {
    let end = out.len() + room;
    move |slices| {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let taken = bytes.len().min(at_once).min(end - out.len());
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        out.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_in_parts_arrives_whole_and_is_counted_exactly() {
    let (queue, mut out) = (SendQueue::default(), Vec::new());
    let texts = ["first", "second", "third"];
    for text in texts {
        queue.push(packet(text));
    }
    let all: Vec<u8> = texts
        .iter()
        .flat_map(|text| Packet::engine(text).frames().to_vec())
        .collect();
    assert_eq!(queue.waiting().bytes, all.len());
    let written = queue.write_with(Instant::now(), writer(&mut out, 3, 10));
    assert_eq!(written.expect("written"), Written::Blocked);
    assert_eq!(queue.waiting().bytes, all.len() - 10);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(
        queue.blocked_for(Instant::now()),
        Some(Duration::from_secs(2))
    );
    let written = queue.write_with(Instant::now(), writer(&mut out, 3, 100));
    assert_eq!(written.expect("written"), Written::All);
    assert_eq!((out, queue.waiting().bytes), (all, 0));
    assert_eq!(queue.blocked_for(Instant::now()), None);
}

#[test]
fn the_last_packet_goes_before_what_waits_and_behind_what_is_written_in_part() {
    let (queue, mut out) = (SendQueue::default(), Vec::new());
    for text in ["first", "second"] {
        queue.push(packet(text));
    }
    let now = Instant::now();
    queue
        .write_with(now, writer(&mut out, 3, 3))
        .expect("written");
    queue.finish(Some(packet("41")));
    queue.finish(Some(packet("41/a,")));
    assert_eq!(queue.push(packet("late")), None);
    assert_eq!(
        queue.waiting().bytes,
        ["first", "41", "41/a,"]
            .map(|text| text.len() + 2)
            .iter()
            .sum::<usize>()
            - 3
    );
    queue
        .write_with(now, writer(&mut out, 3, 100))
        .expect("written");
    assert_eq!(out, b"\x81\x05first\x81\x0241\x81\x0541/a,");
    queue.clear();
    queue.finish(Some(packet("41")));
    assert!(queue.is_empty());
    assert_eq!(queue.precede(b"head".to_vec()), Err(b"head".to_vec()));
}

#[test]
fn no_last_packet_leaves_without_the_head_of_its_connection() {
    let (queue, mut out) = (SendQueue::default(), Vec::new());
    queue.push(packet("first"));
    queue.precede(b"head".to_vec()).expect("an open queue");
    queue.finish(Some(packet("41")));
    assert_eq!(queue.waiting().bytes, "head".len() + "41".len() + 2);
    queue
        .write_with(Instant::now(), writer(&mut out, 3, 100))
        .expect("written");
    assert_eq!(out, b"head\x81\x0241");
}

#[test]
fn packets_are_taken_up_to_the_limit_and_a_larger_one_is_taken_alone() {
    let queue = SendQueue::default();
    for text in ["first", "a very large second", "third", "last"] {
        queue.push(packet(text));
    }
    // Each has two bytes more in a frame.
    for (limit, expected) in [
        (8, vec!["first"]),
        (8, vec!["a very large second"]),
        (13, vec!["third", "last"]),
        (8, vec![]),
    ] {
        let taken = queue.take(limit);
        let texts: Vec<_> = taken.iter().map(|queued| queued.packet().text()).collect();
        assert_eq!(texts, expected);
    }
    assert_eq!(queue.waiting(), Waiting::default());
}
