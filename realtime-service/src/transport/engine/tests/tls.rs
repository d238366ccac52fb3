//! WebSockets over TLS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer},
    server::TlsStream,
};

use super::{
    super::{
        CloseReason, EngineQuery, Recover as _, Session, TransportKind, core::Core, recover,
        sid::Sid, stream::Reader,
    },
    server::{Server, TestSession, WebSocket, settings},
};
use crate::transport::{Dialect, Packet, Queued};

/// An acceptor with a certificate for "localhost", and a connector that trusts it.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let certified = certified.expect("a certificate");
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let certificate = certified.cert.der().clone();
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (acceptor, TlsConnector::from(Arc::new(config)))
}

/// A server with TLS, and a connector that trusts it.
async fn start() -> (Server, TlsConnector) {
    let (acceptor, connector) = tls();
    let accept = move |tcp| {
        let accepting = acceptor.accept(tcp);
        async { accepting.await.ok() }
    };
    let server = Server::start_with(settings(), recover::<TlsStream<TcpStream>>, accept).await;
    (server, connector)
}

async fn connect(server: &Server, connector: &TlsConnector) -> client::TlsStream<TcpStream> {
    let name = "localhost".try_into().expect("a name");
    let connected = connector.connect(name, server.connect().await).await;
    connected.expect("TLS")
}

#[tokio::test]
async fn messages_of_every_size_go_both_ways() {
    let (mut server, connector) = start().await;
    let mut client = WebSocket::open(connect(&server, &connector).await, "").await;
    client.send("4admit").await;
    for length in [0, 1, 16_000, 99_000] {
        let message = format!("4{}", "x".repeat(length));
        client.send(&message).await;
        assert_eq!(client.text().await, message);
    }
    client.send("4close").await;
    assert_eq!(client.text().await, "4last");
    assert_eq!(client.close_code().await, Some(1000));
    assert_eq!(client.receive().await, None);
    server.close_reason().await;
}

#[tokio::test]
async fn a_client_that_reads_late_gets_everything_and_a_kill_drops_the_rest() {
    let (mut server, connector) = start().await;
    let mut client = WebSocket::open(connect(&server, &connector).await, "").await;
    let session = server.session().await;
    let packet = Packet::engine(&"x".repeat(1 << 18));
    let mut sent = 0;
    while !session.is_blocked() {
        session.send(packet.clone());
        sent += 1;
        tokio::task::yield_now().await;
    }
    for _ in 0..sent {
        assert_eq!(client.text().await.len(), 1 << 18);
    }
    while session.is_blocked() {
        tokio::task::yield_now().await;
    }
    while !session.is_blocked() {
        session.send(packet.clone());
    }
    session.kill();
    assert_eq!(session.queue().waiting().bytes, 0);
    assert_eq!(server.close_reason().await, CloseReason::Killed);
    while client.receive().await.is_some() {}
}

#[tokio::test]
async fn a_last_packet_that_is_encrypted_and_has_not_left_is_not_finished() {
    for takes_it in [true, false] {
        let (mut server, connector) = start().await;
        let _client = WebSocket::open(connect(&server, &connector).await, "").await;
        let session = server.session().await;
        if !takes_it {
            session.writer().as_ref().expect("a WebSocket").fill();
        }
        let is_finished = Arc::new(AtomicBool::new(false));
        let note = is_finished.clone();
        session
            .queue()
            .on_finished(move || note.store(true, Ordering::Relaxed));
        let last = Queued::new(Packet::engine("41"), None);
        session.queue().finish(Some(last));
        session.flush();
        assert!(session.queue().is_empty(), "TLS has taken it");
        assert_eq!(session.is_blocked(), !takes_it);
        assert_eq!(is_finished.load(Ordering::Relaxed), takes_it);
    }
}

/// Reads what has arrived, without waiting, and returns the number of bytes.
fn read_arrived(tcp: &TcpStream) -> usize {
    let (mut buffer, mut arrived) = (vec![0; 1 << 16], 0);
    while let Ok(read) = tcp.try_read(&mut buffer)
        && read > 0
    {
        arrived += read;
    }
    arrived
}

/// A session over TLS without the task that reads it, and the client's end of its TCP connection.
async fn without_task() -> (TestSession, TcpStream, Reader) {
    let (acceptor, connector) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let accepting = async { acceptor.accept(listener.accept().await?.0).await };
    let connecting = async {
        let name = "localhost".try_into().expect("a name");
        connector
            .connect(name, TcpStream::connect(address).await?)
            .await
    };
    let (stream, client) = tokio::try_join!(accepting, connecting).expect("TLS");
    let (reader, writer) = stream.recover().expect("a stream").stream.split();
    let query = EngineQuery {
        dialect: Dialect::DEFAULT,
        transport: TransportKind::WebSocket,
        sid: None,
    };
    let core = Arc::new(Core::new(settings()));
    let session = Session::new(Sid::generate(), &query, core, Arc::default(), ());
    let session = Arc::new(session);
    session.attach(writer);
    (session, client.into_inner().0, reader)
}

#[tokio::test]
async fn what_tls_has_encrypted_does_not_leave_after_a_kill() {
    for is_killed in [false, true] {
        let (session, client, _reader) = without_task().await;
        // The tickets of TLS have arrived, too.
        tokio::time::sleep(Duration::from_millis(5)).await;
        read_arrived(&client);
        let filled = session.writer().as_ref().expect("a WebSocket").fill();
        session.send(Packet::engine("4last"));
        assert!(session.is_blocked() && session.queue().is_empty());
        if is_killed {
            session.kill();
        }
        let mut arrived = 0;
        for _ in 0..50 {
            arrived += read_arrived(&client);
            session.flush();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(arrived >= filled, "{arrived} of {filled}");
        assert_eq!(arrived > filled, !is_killed);
    }
}
