//! Bounds on who connects, and how often: whoever goes beyond one is told what to do, and nobody
//! else notices.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use harness::{Mode, Opening, Options, Polling, Stack, eventually, soon};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Another address of this machine.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// How much longer an honest client may take to connect while others misbehave.
const MORE_THAN_USUAL: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn one_address_may_have_so_many_connections_and_no_more() {
    let options = Options::default().gateway("limits.connections_per_address", 3);
    let stack = Stack::start_with(options).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(Opening::of(&stack).session().await);
    }
    assert_eq!(Opening::of(&stack).open().await.err(), Some(429));
    let elsewhere = Opening::of(&stack).from(ELSEWHERE);
    elsewhere.admitted(&stack.forge().token()).await;
    kept.pop();
    eventually("a free place", || async {
        Opening::of(&stack).open().await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_may_be_so_many_connections_in_all_and_no_more() {
    let stack = Stack::start_with(Options::default().gateway("limits.connections", 2)).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(Opening::of(&stack).session().await);
    }
    let elsewhere = Opening::of(&stack).from(ELSEWHERE);
    assert_eq!(elsewhere.open().await.err(), Some(503));
    kept.pop();
    eventually("a free place", || async { elsewhere.open().await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subject_may_have_so_many_sockets_and_no_more() {
    let options = Options::default().gateway("limits.sockets_per_subject", 2);
    let stack = Stack::start_with(options).await;
    let forge = stack.forge();
    let mut first = Opening::of(&stack).admitted(&forge.token()).await;
    let second = Polling::of(&stack).admitted(&forge.token()).await;
    let mut third = Opening::of(&stack).session().await;
    let refused = third.connect(&json!({"token": forge.token()})).await;
    let message = "too many connections";
    let data = json!({
        "message": message, "code": "too_many_connections", "type": "UnauthorizedError",
        "reason": "too_many_sockets",
    });
    assert_eq!(
        refused.expect_err("one too many").0,
        json!({ "message": message, "data": data })
    );
    // Somebody else has a share of their own, and a place is free again once a socket has gone.
    Opening::of(&stack).admitted(&stack.forge().token()).await;
    assert_eq!(second.post("1").await.0, StatusCode::OK);
    eventually("a free place", || async {
        let mut socket = Opening::of(&stack).session().await;
        let admitted = socket.connect(&json!({"token": forge.token()})).await;
        admitted.is_ok()
    })
    .await;
    first.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_sends_events_too_fast_is_told_to_wait_and_then_closed() {
    let options = Options::default()
        .gateway("limits.events_per_sec", 2)
        .gateway("limits.events_burst", 4)
        .gateway("limits.events_excess", 3);
    let stack = Stack::start_with(options).await;
    let mut listens = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut floods = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut waits = Opening::of(&stack).admitted(&stack.forge().token()).await;
    listens.subscribe("lobby").await;
    let payload = json!({"room": "lobby", "event": "message", "data": 1});
    let packets: Vec<String> = (0..6)
        .map(|number| format!("42{number}{}", json!(["rt:publish", payload])))
        .collect();
    for socket in [&mut floods, &mut waits] {
        socket.send_at_once(&packets).await;
        for number in 0..4 {
            assert_eq!(socket.acknowledgement(number).await["ok"], true);
        }
        for number in 4..6 {
            let answer = socket.acknowledgement(number).await;
            let error = &answer["error"];
            assert_eq!(
                (&answer["ok"], &error["code"], &error["retryable"]),
                (&json!(false), &json!("rate_limited"), &json!(true))
            );
        }
        // Neither of those was carried out.
        for _ in 0..4 {
            assert_eq!(listens.event().await[1], 1);
        }
    }
    floods.send_at_once(&packets).await;
    let answers = floods.closed().await;
    let is_told = answers.iter().any(|one| one.contains("rate_limited"));
    assert!(is_told, "{answers:?}");
    let answer = wait_as_told(&mut waits, &payload).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(listens.event().await[1], 1);
}

/// Publishes once more, waits for as long as that is answered to, and publishes then.
async fn wait_as_told(socket: &mut harness::WebSocket, payload: &Value) -> Value {
    let answer = socket.call("rt:publish", payload.clone()).await;
    let wait = answer["error"]["retry_after_ms"].as_u64();
    let wait = Duration::from_millis(wait.expect("a time to wait"));
    assert!(wait < Duration::from_secs(4), "{wait:?}");
    assert!(socket.next_within(wait).await.is_none(), "nothing comes");
    socket.call("rt:publish", payload.clone()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_too_many_refusals_is_turned_away_before_its_token_is_looked_at() {
    let options = Options::default().gateway("limits.refusals_per_address", 2);
    let stack = Stack::start_with(options).await;
    let mut open_before = Opening::of(&stack).session().await;
    for _ in 0..2 {
        let mut socket = Opening::of(&stack).session().await;
        let refused = socket.connect(&json!({"token": "x"})).await;
        refused.expect_err("no token");
    }
    let url = format!(
        "{}/socket.io/?EIO=4&transport=polling&token={}",
        stack.gateway_url,
        stack.forge().token()
    );
    let answer = soon("an answer", stack.http().get(url).send()).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let secs = answer.headers()[header::RETRY_AFTER].to_str();
    let secs: u64 = secs.expect("a text").parse().expect("a number");
    assert!((1..=31).contains(&secs), "{secs}");
    assert_eq!(Opening::of(&stack).open().await.err(), Some(429));
    // Another address is served, and so is who was here before.
    let elsewhere = Opening::of(&stack).from(ELSEWHERE);
    elsewhere.admitted(&stack.forge().token()).await;
    let good = json!({"token": stack.forge().token()});
    open_before.connect(&good).await.expect("a good token");
}

/// A socket that was admitted can have as many signatures verified as one that was not.
#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_of_an_admitted_socket_count_for_its_address() {
    for (tokens, is_served) in [(["x"].as_slice(), true), (&["x", "y"], false)] {
        let options = Options::default().gateway("limits.refusals_per_address", 2);
        let stack = Stack::start_with(options).await;
        let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
        for token in tokens {
            socket.call("authenticate", json!({ "token": token })).await;
        }
        let opened = Opening::of(&stack).open().await;
        assert_eq!(opened.is_ok(), is_served, "{tokens:?}");
    }
}

/// Sends `request` as it is, and gives the status line, or nothing when the connection just ends.
async fn status_line(stack: &Stack, request: &[u8]) -> String {
    let tcp = TcpStream::connect(stack.gateway_address).await;
    let mut tcp = tcp.expect("a connection");
    // What is not taken is answered before it is all sent.
    let _ = soon("a request to be sent", tcp.write_all(request)).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = soon("an answer or the end", tcp.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..read]);
        if answer.contains(&b'\n') {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.lines().next().unwrap_or_default().to_owned()
}

fn request(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_many_or_too_long_are_answered_431() {
    let stack = Stack::start().await;
    let many = |count: usize| (0..count).fold(String::new(), |all, _| all + "x-many: 1\r\n");
    let long = |bytes: usize| format!("x-long: {}\r\n", "x".repeat(bytes));
    for fine in [many(50), long(8 * 1024)] {
        let line = status_line(&stack, &request("/health/live", &fine)).await;
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    }
    for bad in [many(200), long(512 * 1024)] {
        let line = status_line(&stack, &request("/health/live", &bad)).await;
        assert!(line.starts_with("HTTP/1.1 431"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_is_not_spoken() {
    let stack = Stack::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let tcp = TcpStream::connect(stack.gateway_address).await;
    let mut tcp = tcp.expect("a connection");
    tcp.write_all(preface).await.expect("sent");
    let mut answer = Vec::new();
    // A reset ends it as well.
    let _ = soon("the end of the connection", tcp.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
        "{answer}"
    );
    let line = status_line(&stack, &request("/health/live", "")).await;
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_taken_as_it_is_written_or_not_at_all() {
    let stack = Stack::start().await;
    const QUERY: &str = "?EIO=4&transport=polling";
    for path in ["/socket.io/", "/socket.io"] {
        let line = status_line(&stack, &request(&format!("{path}{QUERY}"), "")).await;
        assert!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
    }
    for path in [
        "//socket.io/",
        "/socket.io//",
        "/Socket.IO/",
        "/socket%2eio/",
        "/%73ocket.io/",
        "/socket.io/;x",
        "/socket.io;x/",
        "/x/../socket.io/",
        "/x/%2e%2e/socket.io/",
        "/socket.io/../socket.io/",
        "/socket.io/x",
        "//health/live",
        "/health/live/",
        "/HEALTH/live",
        "/health/%6cive",
    ] {
        let line = status_line(&stack, &request(&format!("{path}{QUERY}"), "")).await;
        assert!(line.starts_with("HTTP/1.1 404"), "{path}: {line}");
    }
}

/// How long an honest client takes to be admitted.
async fn time_to_connect(stack: &Stack) -> Duration {
    let token = stack.forge().token();
    let started = Instant::now();
    let honest = Opening::of(stack).from(Ipv4Addr::LOCALHOST.into());
    honest.admitted(&token).await;
    started.elapsed()
}

/// The best of three, since what is measured is the gateway and not this machine.
async fn usual_time_to_connect(stack: &Stack) -> Duration {
    let mut best = time_to_connect(stack).await;
    for _ in 0..2 {
        best = best.min(time_to_connect(stack).await);
    }
    best
}

/// A connection from one of many addresses of this machine, none of which has many.
async fn connection(stack: &Stack, number: usize) -> TcpStream {
    const PER_ADDRESS: usize = 500;

    let last = u8::try_from(10 + number / PER_ADDRESS).expect("few addresses");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(([127, 0, 0, last], 0).into())
        .expect("an address");
    let connected = socket.connect(stack.gateway_address);
    soon("a connection", connected).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_drip_headers_are_gone_in_time_and_hold_nobody_up() {
    const DRIPPING: usize = 500;

    let stack = Stack::start_with(Options::default().gateway("limits.header_read_secs", 2)).await;
    let usual = usual_time_to_connect(&stack).await;
    let started = Instant::now();
    let mut dripping = Vec::new();
    for number in 0..DRIPPING {
        let mut tcp = connection(&stack, number).await;
        dripping.push(tokio::spawn(async move {
            let mut drops = tokio::time::interval(Duration::from_millis(200));
            let request = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nX-Slow: ";
            let mut bytes = request.iter().chain(std::iter::repeat(&b'x'));
            let mut buffer = [0; 256];
            loop {
                tokio::select! {
                    read = tcp.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { return },
                    _ = drops.tick() => {
                        let byte = *bytes.next().expect("there is no end of them");
                        if tcp.write_all(&[byte]).await.is_err() { return }
                    }
                }
            }
        }));
    }
    let meanwhile = usual_time_to_connect(&stack).await;
    assert!(
        meanwhile <= usual + MORE_THAN_USUAL,
        "{meanwhile:?} instead of {usual:?}"
    );
    for one in dripping {
        soon("the end of a connection that drips", one)
            .await
            .expect("no panic");
    }
    let lasted = started.elapsed();
    assert!(lasted < Duration::from_secs(8), "{lasted:?}");
}

/// Opens `count` connections: every other one idles as it is, and the rest are WebSockets on which
/// nobody sends CONNECT. All of them end, and meanwhile an honest client connects as quickly as
/// ever.
async fn idle_connections_are_gone(stack: &Stack, count: usize) {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    let usual = usual_time_to_connect(stack).await;
    let upgrade = request("/socket.io/?EIO=4&transport=websocket", UPGRADE);
    let mut idle = Vec::new();
    for number in 0..count {
        let mut tcp = connection(stack, number).await;
        if number % 2 == 0 {
            tcp.write_all(&upgrade).await.expect("sent");
        }
        idle.push(tcp);
    }
    let meanwhile = usual_time_to_connect(stack).await;
    assert!(
        meanwhile <= usual + MORE_THAN_USUAL,
        "{meanwhile:?} instead of {usual:?}"
    );
    let opened = Instant::now();
    for mut tcp in idle {
        let mut rest = Vec::new();
        // A reset ends it as well.
        let _ = soon("the end of an idle connection", tcp.read_to_end(&mut rest)).await;
    }
    let lasted = opened.elapsed();
    assert!(lasted < Duration::from_secs(13), "{lasted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_never_connect_are_gone_in_time_and_hold_nobody_up() {
    let options = Options::default()
        .gateway("limits.header_read_secs", 3)
        .gateway("limits.unauthenticated_secs", 3);
    let stack = Stack::start_with(options).await;
    idle_connections_are_gone(&stack, 1_000).await;
}

/// Allows as many open files as the system does, and fails if these are fewer than `least`. Processes inherit it.
pub(crate) fn allow_open_files(least: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    assert!(most > least, "only {most} files can be open");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a higher limit");
}

/// With the gateway in a process of its own each side needs 10,000 descriptors, not one both.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn ten_thousand_connections_that_never_connect_are_gone_in_time_and_hold_nobody_up() {
    allow_open_files(10_500);
    let stack = Stack::start_with(Options::default().mode(Mode::Binaries).log("warn")).await;
    idle_connections_are_gone(&stack, 10_000).await;
}
