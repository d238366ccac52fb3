//! Members that poll: a large message lies in memory once, whatever else their polls fetch.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use harness::Polling;

use super::*;

/// Number of members, and size of a message that no connection takes at once.
const POLLING_MEMBERS: usize = 60;
const LARGE_BYTES: usize = 5_000_000;

/// Sends a message of the client, in the form of its version.
async fn send(polling: &Polling, is_old: bool, packet: &str) {
    let body = match is_old {
        true => format!("{}:{packet}", packet.len()),
        false => packet.to_owned(),
    };
    assert_eq!(polling.post(body).await.0, 200);
}

/// A member of the room that polls.
async fn member(stack: &Stack, token: &str, is_old: bool) -> Polling {
    let mut polling = Polling::of(stack);
    if is_old {
        polling = polling.version_3().query("token", token);
        let (_, body) = polling.get().await;
        let (_, sid) = body.split_once("\"sid\":\"").expect("an open packet");
        polling.sid = sid.split_once('"').expect("a sid").0.to_owned();
    } else {
        polling = polling.admitted(token).await;
    }
    let subscribe = json!(["rt:subscribe", { "room": "chat:crowd" }]);
    send(&polling, is_old, &format!("421{subscribe}")).await;
    loop {
        let (status, body) = polling.get().await;
        assert_eq!(status, 200, "{body}");
        if let Some((_, answer)) = body.split_once("431[") {
            assert!(answer.starts_with("{\"ok\":true"), "{body}");
            return polling;
        }
    }
}

/// Sends a poll whose answer is not read yet.
async fn poll(stack: &Stack, token: &str, polling: &Polling, is_old: bool) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4 * 1024).expect("a buffer");
    let connected = socket.connect(stack.gateway_address).await;
    let mut tcp = connected.expect("a connection");
    let version = match is_old {
        true => format!("EIO=3&token={token}"),
        false => "EIO=4".to_owned(),
    };
    let sid = &polling.sid;
    let head = format!(
        "GET /socket.io/?{version}&transport=polling&sid={sid} HTTP/1.1\r\nhost: a\r\n\
         user-agent: polling/1\r\nconnection: close\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.expect("sent");
    tcp
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_large_message_with_a_small_one_behind_it_lies_in_memory_once_for_members_that_poll() {
    let options = options()
        .gateway("limits.message_bytes", 2 * LARGE_BYTES)
        .gateway("limits.outbound_bytes", 4 * LARGE_BYTES)
        .gateway("limits.inbound_bytes", 4 * LARGE_BYTES);
    let stack = Stack::start_with(options).await;
    let token = token(&stack);
    let mut members = Vec::new();
    for number in 0..POLLING_MEMBERS {
        let is_old = number % 2 == 1;
        members.push((member(&stack, &token, is_old).await, is_old));
    }
    let mut publisher = Opening::of(&stack).admitted(&token).await;
    let before = stack.gateway_memory_bytes("VmHWM");
    for data in ["x".repeat(LARGE_BYTES), "small".to_owned()] {
        publisher.publish("chat:crowd", json!(data)).await;
    }
    let mut answers = Vec::new();
    for (polling, is_old) in &members {
        answers.push(poll(&stack, &token, polling, *is_old).await);
    }
    for tcp in &mut answers {
        let mut first = [0; 64];
        let read = soon("an answer", tcp.read_exact(&mut first)).await;
        let first = String::from_utf8_lossy(&first);
        assert!(read.is_ok() && first.starts_with("HTTP/1.1 200"), "{first}");
    }
    let grown = stack.gateway_memory_bytes("VmHWM") - before;
    println!("grew by {} KiB", grown / 1024);
    assert!(grown < COPIES_BYTES + MARGIN_BYTES, "{} MiB", grown / MIB);
    drop(answers);
    for (polling, is_old) in &members {
        let (_, next) = polling.get().await;
        assert!(next.contains("small") && next.len() < 1000, "{is_old}");
    }
}
