//! WebSockets over TLS.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer},
    server::TlsStream,
};

use super::{
    super::{CloseReason, recover},
    server::{Server, WebSocket, settings},
};
use crate::transport::{Packet, Queued};

/// A server with a certificate for "localhost", and a connector that trusts it.
async fn start() -> (Server, TlsConnector) {
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
    let accept = move |tcp| {
        let accepting = acceptor.accept(tcp);
        async { accepting.await.ok() }
    };
    let server = Server::start_with(settings(), recover::<TlsStream<TcpStream>>, accept).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, TlsConnector::from(Arc::new(config)))
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
