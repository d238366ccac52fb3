//! A room under load: several threads publish while sockets come and go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread,
};

use super::{
    super::CloseReason,
    server::{Server, TestSession, settings},
};
use crate::transport::{Packet, turn};

const PUBLISHERS: usize = 4;
const MESSAGES: usize = 500;
const MEMBERS: usize = 24;
const VICTIMS: usize = 12;

type Members = Arc<Mutex<Vec<TestSession>>>;

/// Publishes numbered messages, each to all members in a turn of its own.
fn publish(publisher: usize, members: &Members) {
    for number in 0..MESSAGES {
        let packet = Packet::engine(&format!("4{publisher}:{number}"));
        turn::scope(|| {
            for member in members.lock().expect("members").iter() {
                member.send(packet.clone());
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stays_gets_every_message_in_order_while_others_die() {
    let mut server = Server::start(settings()).await;
    let members = Members::default();
    let mut clients = Vec::new();
    for _ in 0..MEMBERS + VICTIMS {
        clients.push(server.websocket().await);
        let session = server.session().await;
        members.lock().expect("members").push(session);
    }
    let victims = clients.split_off(MEMBERS);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let members = members.clone();
            let runtime = tokio::runtime::Handle::current();
            thread::spawn(move || {
                let _runtime = runtime.enter();
                publish(publisher, &members);
            })
        })
        .collect();
    let killed: Vec<_> = members.lock().expect("members")[MEMBERS..].to_vec();
    let killer = thread::spawn(move || {
        for (index, session) in killed.iter().enumerate() {
            match index % 2 {
                0 => session.kill(),
                _ => session.close(super::super::CloseCode::GoingAway),
            }
            thread::yield_now();
        }
    });
    // Some of the victims leave by themselves.
    drop(victims);
    for client in &mut clients {
        let mut next: HashMap<String, usize> = HashMap::new();
        for _ in 0..PUBLISHERS * MESSAGES {
            let text = client.text().await;
            let (publisher, number) = text.split_once(':').expect("a number");
            let expected = next.entry(publisher.to_owned()).or_default();
            assert_eq!(number.parse(), Ok(*expected), "of {publisher}");
            *expected += 1;
        }
    }
    for thread in publishers.into_iter().chain([killer]) {
        thread.join().expect("no panic");
    }
    for _ in 0..VICTIMS {
        let reason = server.close_reason().await;
        assert!(!matches!(reason, CloseReason::PingTimeout), "{reason:?}");
    }
    assert!(server.has_no_other_end());
    for session in members.lock().expect("members").iter() {
        assert_eq!(session.queue().waiting(), 0);
    }
}
