//! Whether the time of `POST /password/forgot` tells if an account has the address.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    fixture::Service,
    mailbox::Mailbox,
    timing::{CRITICAL_SCORE, MEASUREMENTS, SAMPLES, in_random_order, mann_whitney},
};

/// Kinds of addresses: one that an account has, one that none has, one that an account has unverified,
/// and a text that is none, which is refused early.
const ADDRESSES: [&str; 4] = [
    "alice@example.org",
    "nobody@example.org",
    "bob@example.org",
    "no address",
];

fn ask(stream: &mut TcpStream, email: &str) -> Duration {
    let body = format!("{{\"email\":\"{email}\"}}");
    let request = format!(
        "POST /password/forgot HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let start = Instant::now();
    stream.write_all(request.as_bytes()).expect("sent");
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    // The answer to an address has no body.
    while !bytes.ends_with(b"\r\n\r\n") && !bytes.ends_with(b"}") {
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(read > 0, "the connection was closed");
        bytes.extend_from_slice(&buffer[..read]);
    }
    start.elapsed()
}

/// Returns the times of each kind of address, asked for in turn and each round in another order.
fn measure(address: SocketAddr) -> [Vec<Duration>; ADDRESSES.len()] {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let mut times: [Vec<Duration>; ADDRESSES.len()] = Default::default();
    for _ in 0..SAMPLES {
        for kind in in_random_order([0, 1, 2, 3]) {
            times[kind].push(ask(&mut stream, ADDRESSES[kind]));
        }
    }
    times
}

#[tokio::test]
async fn known_and_unknown_addresses_take_the_same_time() {
    let mailbox = Mailbox::start();
    let service = Service::start_with(|settings| {
        mailbox.configure(settings);
        settings.limits.mails_per_mailbox = 1_000_000;
        settings.limits.mails_per_address = 1_000_000;
        settings.mail.queue = 1_000_000;
    })
    .await;
    service.add_verified_user("alice").await;
    service.add_user("bob").await;
    let address = service.address;
    let mut found = Vec::new();
    for _ in 0..MEASUREMENTS {
        let measuring = tokio::task::spawn_blocking(move || measure(address));
        let [known, unknown, unverified, none] = measuring.await.expect("no panic");
        let control = mann_whitney(&none, &known);
        assert!(control < -CRITICAL_SCORE, "nothing is measured: {control}");
        let scores = [unknown, unverified].map(|others| mann_whitney(&known, &others));
        if scores.iter().all(|score| score.abs() <= CRITICAL_SCORE) {
            return;
        }
        found.push(scores);
    }
    panic!("the time tells whether an account has the address: {found:?}");
}
