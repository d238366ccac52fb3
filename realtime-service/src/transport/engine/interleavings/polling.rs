//! A polling session: polls against publishers, a close, and an upgrade.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{Opened, Pipe, Silent, explore, of_thread};
use crate::transport::{
    Packet,
    engine::{CloseCode, TransportKind, polling as requests},
};

fn polling() -> Arc<Opened<Silent>> {
    let handler = Silent::default();
    Arc::new(Opened::new(
        TransportKind::Polling,
        Default::default(),
        handler,
        (),
    ))
}

/// Sends two messages, and returns those that were queued.
fn publisher(
    opened: &Arc<Opened<Silent>>,
    thread: &'static str,
) -> thread::JoinHandle<Vec<String>> {
    let session = opened.session.clone();
    thread::spawn(move || {
        let texts = (0..2).map(|number| format!("{thread}{number}"));
        texts
            .filter(|text| session.send(Packet::engine(&format!("4{text}"))))
            .collect()
    })
}

/// Polls once; `None` when the session has ended.
fn poll(opened: &Opened<Silent>) -> Option<Vec<String>> {
    block_on(async {
        let answer = requests::poll(opened.session.clone()).await.ok()?;
        let body = answer.response.into_body().collect().await.expect("a body");
        let body = String::from_utf8(body.to_bytes().to_vec()).expect("text");
        Some(body.split('\u{1e}').map(str::to_owned).collect())
    })
}

#[test]
fn polls_have_all_messages_and_then_the_close_packet() {
    explore(|| {
        let opened = polling();
        let publishers = ["a", "b"].map(|name| publisher(&opened, name));
        let closer = thread::spawn({
            let session = opened.session.clone();
            move || session.close(CloseCode::Normal)
        });
        let mut received = Vec::new();
        while let Some(packets) = poll(&opened) {
            received.extend(packets);
        }
        closer.join().expect("no panic");
        let queued = publishers.map(|one| one.join().expect("no panic"));
        for (queued, name) in queued.iter().zip(["a", "b"]) {
            assert_eq!(of_thread(name, &received), *queued);
        }
        assert_eq!(received.len(), queued.concat().len() + 1, "{received:?}");
        assert_eq!(received.last().map(String::as_str), Some("1"));
    });
}

#[test]
fn an_upgrade_loses_no_message_and_repeats_none() {
    explore(|| {
        let (opened, pipe) = (polling(), Pipe::default());
        pipe.make_room(1_000);
        assert_eq!(opened.session.state().start_probe(), Ok(()));
        let task = opened.task(&pipe, true);
        let task = thread::spawn(move || block_on(task));
        let is_paused = Arc::new(AtomicBool::new(false));
        let polls = thread::spawn({
            let (opened, is_paused) = (opened.clone(), is_paused.clone());
            move || {
                let mut received = Vec::new();
                // With a noop the client is about to learn that its probe was answered.
                while !is_paused.load(Ordering::SeqCst)
                    && received.last().is_none_or(|packet| packet != "6")
                    && let Some(packets) = poll(&opened)
                {
                    received.extend(packets);
                }
                received
            }
        });
        let publishers = ["a", "b"].map(|name| publisher(&opened, name));
        pipe.send("2probe");
        pipe.wait_for(|packets| packets == ["3probe"]);
        // As a stock client does: it starts no poll any more, waits for the last one, and goes on.
        is_paused.store(true, Ordering::SeqCst);
        let mut received = polls.join().expect("no panic");
        received.retain(|packet| packet != "6");
        pipe.send("5");
        let missing = 4 - received.len();
        let rest = pipe.wait_for(|packets| packets.len() == 1 + missing);
        received.extend_from_slice(&rest[1..]);
        for (publisher, name) in publishers.into_iter().zip(["a", "b"]) {
            let queued = publisher.join().expect("no panic");
            assert_eq!(of_thread(name, &received), queued);
        }
        assert_eq!(received.len(), 4);
        pipe.hang_up();
        task.join().expect("no panic");
        assert_eq!(pipe.wait_for(|_| true).len(), 1 + missing, "nothing twice");
    });
}
