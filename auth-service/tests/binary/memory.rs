//! Memory of the process while clients send requests far ahead and read no answer.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};
use socket2::{Domain, Socket, Type};

use crate::{
    fixture::Workbench,
    serving::{Serving, login},
};

const KIB: usize = 1024;

/// Bytes of requests that each client sends.
const PIPELINE_BYTES: usize = 62 * KIB;

/// Maximum growth of the process for each connection.
const MAXIMUM_BYTES: usize = 512 * KIB;

/// Requests of few bytes: the shortest of all, one with a body, and one with further headers.
const SHORT: [&str; 3] = [
    "G / HTTP/1.1\nhost:\n\n",
    "PUT / HTTP/1.1\nhost:\ntransfer-encoding:chunked\n\n0\r\n\r\n",
    "GET / HTTP/1.1\nhost:\na:\nb:\nc:\nd:\ne:\nf:\ng:\n\n",
];

const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";

/// A request that waits for a thread of the password pool, so that those behind it wait for it.
fn slow() -> String {
    login("nobody", "open-sesame").replace("close", "keep-alive")
}

/// A connection whose client has little room for answers.
fn connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 * KIB).expect("a size");
    let deadline = Some(Duration::from_secs(30));
    socket.set_read_timeout(deadline).expect("a deadline");
    socket.connect(&address.into()).expect("a connection");
    socket.into()
}

/// The most memory that a process has had, once that does not grow any more.
fn settled_peak_bytes(serving: &Serving) -> usize {
    let path = format!("/proc/{}/status", serving.child.id());
    let (mut peak, mut unchanged) = (0, 0);
    while unchanged < 5 {
        thread::sleep(Duration::from_millis(100));
        let status = fs::read_to_string(&path).expect("the status of a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let now = number.expect("a line").parse::<usize>().expect("a number") * KIB;
        unchanged = if now == peak { unchanged + 1 } else { 0 };
        peak = now;
    }
    peak
}

/// Reads until so many answers have come.
fn read_answers(stream: &mut impl Read, count: usize) {
    let (mut answers, mut found) = (String::new(), 0);
    while found < count {
        let mut bytes = [0; 16 * KIB];
        let read = stream.read(&mut bytes).expect("answers");
        assert_ne!(read, 0, "{found} of {count} answers");
        answers.push_str(str::from_utf8(&bytes[..read]).expect("text"));
        let start = "HTTP/1.1 ";
        found += answers.matches(start).count();
        // The last bytes may be the first ones of an answer.
        let last = answers.rfind(start).map_or(0, |found| found + start.len());
        let last = last.max(answers.len().saturating_sub(start.len() - 1));
        answers.drain(..last);
    }
    assert_eq!(found, count);
}

/// Sends `first` and a full pipeline on each of `count` connections that do not read, and asserts the bound,
/// and that all is answered once somebody reads.
fn assert_bounded<S: Read + Write>(
    serving: &Serving,
    first: &str,
    request: &str,
    count: usize,
    open: impl Fn() -> S,
) {
    let requests = PIPELINE_BYTES / request.len();
    let pipeline = format!("{first}{}", request.repeat(requests));
    let before = settled_peak_bytes(serving);
    let mut streams: Vec<S> = (0..count).map(|_| open()).collect();
    for stream in &mut streams {
        stream.write_all(pipeline.as_bytes()).expect("sent");
    }
    let grown = settled_peak_bytes(serving).saturating_sub(before) / count;
    assert!(grown < MAXIMUM_BYTES, "{grown} bytes for each {request:?}");
    for stream in streams.iter_mut().take(2) {
        read_answers(stream, requests + 1);
    }
}

fn start(bench: &Workbench, variables: &[(&str, &str)]) -> Serving {
    let mut all = vec![
        ("RUST_LOG", "error"),
        ("AUTH__PASSWORD__THREADS", "1"),
        ("AUTH__PASSWORD__QUEUE_DEADLINE_MS", "60000"),
        ("AUTH__LIMITS__WAITING_PER_ADDRESS", "1000"),
        ("AUTH__LIMITS__LOGINS_PER_ADDRESS", "1000"),
        ("AUTH__LIMITS__LOGINS_PER_NAME", "1000"),
    ];
    all.extend(variables);
    Serving::start_with(bench, &all)
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address")
}

#[test]
fn requests_sent_ahead_take_little_memory_on_the_public_listener() {
    for request in SHORT {
        let bench = Workbench::new();
        let serving = start(&bench, &[]);
        let address = serving.address.parse().expect("an address");
        assert_bounded(&serving, &slow(), request, 48, || connect(address));
    }
}

#[test]
fn requests_sent_ahead_take_little_memory_on_the_listener_of_the_operator() {
    let bench = Workbench::new();
    let address = free_address();
    let serving = start(&bench, &[("AUTH__ADMIN__LISTEN", &address.to_string())]);
    assert_bounded(&serving, LIVE, SHORT[0], 16, || connect(address));
}

#[test]
fn requests_sent_ahead_take_little_memory_through_tls() {
    let bench = Workbench::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    fs::write(bench.path().join("cert.pem"), made.cert.pem()).expect("written");
    fs::write(
        bench.path().join("key.pem"),
        made.signing_key.serialize_pem(),
    )
    .expect("written");
    let files = [
        ("AUTH__TLS__CERT_FILE", "cert.pem"),
        ("AUTH__TLS__KEY_FILE", "key.pem"),
    ];
    let serving = start(&bench, &files);
    let address: SocketAddr = serving.address.parse().expect("an address");
    let config = Arc::new(client_config(made.cert.der()));
    assert_bounded(&serving, &slow(), SHORT[0], 48, || {
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let mut stream = StreamOwned::new(client, connect(address));
        // A handshake has three seconds.
        stream.conn.complete_io(&mut stream.sock).expect("TLS");
        stream
    });
}

/// Settings of a client that knows this certificate and no other.
fn client_config(certificate: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
