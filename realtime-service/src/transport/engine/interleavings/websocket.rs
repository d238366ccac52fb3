//! A WebSocket: publishers against a slow client, a kill, a close.

use shuttle::{future::block_on, thread};

use super::{Opened, Pipe, Silent, explore, of_thread};
use crate::transport::{
    Packet,
    engine::{CloseCode, CloseReason, Session, TransportKind},
    turn,
};

type SilentSession = std::sync::Arc<Session<()>>;

/// A session over a pipe, whose task runs on a thread of its own.
fn over(pipe: &Pipe) -> (Silent, SilentSession, thread::JoinHandle<()>) {
    let handler = Silent::default();
    let opened = Opened::new(
        TransportKind::WebSocket,
        Default::default(),
        handler.clone(),
        (),
    );
    let task = opened.task(pipe, false);
    (
        handler,
        opened.session,
        thread::spawn(move || block_on(task)),
    )
}

/// Publishes three messages, one by one or in one turn, and returns those that were queued.
fn publish(session: &SilentSession, thread: &str, in_one_turn: bool) -> Vec<String> {
    let send = |number: usize| {
        let text = format!("{thread}{number}");
        let is_queued = session.send(Packet::engine(&format!("4{text}")));
        is_queued.then_some(text)
    };
    match in_one_turn {
        true => turn::scope(|| (0..3).filter_map(send).collect()),
        false => (0..3).filter_map(send).collect(),
    }
}

/// Two threads that publish: `a` one by one, `b` in one turn.
fn publishers(session: &SilentSession) -> [thread::JoinHandle<Vec<String>>; 2] {
    ["a", "b"].map(|name| {
        let session = session.clone();
        thread::spawn(move || publish(&session, name, name == "b"))
    })
}

#[test]
fn messages_of_two_threads_leave_whole_and_in_order_however_little_is_taken() {
    explore(|| {
        let pipe = Pipe::default();
        let (handler, session, task) = over(&pipe);
        let publishers = publishers(&session);
        for room in [1, 4, 7, 100] {
            pipe.make_room(room);
        }
        let received = pipe.wait_for(|packets| packets.len() == 6);
        for (publisher, name) in publishers.into_iter().zip(["a", "b"]) {
            let queued = publisher.join().expect("no panic");
            assert_eq!(queued.len(), 3);
            assert_eq!(of_thread(name, &received), queued);
        }
        assert!(session.queue().is_empty());
        pipe.hang_up();
        task.join().expect("no panic");
        assert_eq!(handler.0.get(), Some(&CloseReason::ConnectionLost));
    });
}

#[test]
fn nothing_leaves_once_a_kill_has_returned() {
    explore(|| {
        let pipe = Pipe::default();
        let (handler, session, task) = over(&pipe);
        let publishers = publishers(&session);
        let killer = thread::spawn({
            let (session, pipe) = (session.clone(), pipe.clone());
            move || {
                session.kill();
                assert!(!session.send(Packet::engine("4late")));
                pipe.sent_bytes()
            }
        });
        pipe.make_room(3);
        pipe.make_room(100);
        let sent = killer.join().expect("no panic");
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        task.join().expect("no panic");
        assert_eq!(pipe.sent_bytes(), sent);
        assert_eq!(handler.0.get(), Some(&CloseReason::Killed));
        assert!(session.queue().is_empty());
    });
}

#[test]
fn all_that_was_queued_before_a_close_leaves_in_front_of_the_close_frame_and_nothing_behind_it() {
    explore(|| {
        let pipe = Pipe::default();
        pipe.make_room(1_000);
        let (handler, session, task) = over(&pipe);
        let publishers = publishers(&session);
        let closers = [CloseCode::Normal, CloseCode::GoingAway].map(|code| {
            let session = session.clone();
            thread::spawn(move || session.close(code))
        });
        let queued = publishers.map(|publisher| publisher.join().expect("no panic"));
        for closer in closers {
            closer.join().expect("no panic");
        }
        let received = pipe.wait_for(|packets| packets.iter().any(|one| one.starts_with("close")));
        pipe.hang_up();
        task.join().expect("no panic");
        for (queued, name) in queued.iter().zip(["a", "b"]) {
            assert_eq!(of_thread(name, &received), *queued);
        }
        assert_eq!(received.len(), queued.concat().len() + 1);
        assert!(
            received
                .last()
                .is_some_and(|last| last.starts_with("close 100"))
        );
        assert_eq!(pipe.wait_for(|_| true), received, "nothing behind it");
        let reason = handler.0.get();
        assert!(
            matches!(reason, Some(CloseReason::Requested(_))),
            "{reason:?}"
        );
    });
}

#[test]
fn a_close_of_a_client_that_takes_little_ends_with_its_close_frame_or_at_once() {
    explore(|| {
        let pipe = Pipe::default();
        let (handler, session, task) = over(&pipe);
        let publisher = thread::spawn({
            let session = session.clone();
            move || publish(&session, "a", false)
        });
        let closer = thread::spawn({
            let session = session.clone();
            move || session.close(CloseCode::Normal)
        });
        pipe.make_room(7);
        pipe.make_room(1_000);
        publisher.join().expect("no panic");
        closer.join().expect("no panic");
        let is_killed = session.queue().is_empty() && {
            let received = pipe.wait_for(|_| true);
            !received.iter().any(|packet| packet == "close 1000")
        };
        if !is_killed {
            pipe.wait_for(|packets| packets.last().is_some_and(|last| last == "close 1000"));
        }
        pipe.hang_up();
        task.join().expect("no panic");
        assert!(handler.0.get().is_some());
    });
}
