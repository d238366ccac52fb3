//! Connections: when they are used again, and when they end.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
    vec,
};

use futures_util::future::join_all;
use hyper_util::client::legacy::connect::dns;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    time::timeout,
};

use super::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// A client of a server, and the server's listener.
async fn client() -> (PlainClient, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = format!("http://{address}/path?query")
        .parse()
        .expect("a URL");
    (PlainClient::new(&url, &[]).expect("a client"), listener)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = timeout(Duration::from_secs(10), listener.accept()).await;
    accepted.expect("in time").expect("a connection").0
}

/// Reads one request, whose body is `{}`.
async fn request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        assert!(stream.read_buf(&mut request).await.expect("bytes") > 0);
    }
    String::from_utf8(request).expect("text")
}

/// Answers requests on one connection until the client closes it.
async fn answer_all(mut stream: TcpStream, answer: &str) -> usize {
    let mut requests = 0;
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await.expect("bytes") > 0 {
        if buffer.ends_with(b"{}") {
            buffer.clear();
            requests += 1;
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    }
    requests
}

async fn post(client: &PlainClient) -> Result<Answer, CallError> {
    client.post(HeaderMap::new(), b"{}".to_vec()).await
}

/// Posts a request and reads the answer.
async fn exchange(client: &PlainClient) -> Result<Vec<u8>, CallError> {
    let mut answer = post(client).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[tokio::test]
async fn a_request_names_path_host_and_length() {
    let (client, listener) = client().await;
    let host = listener.local_addr().expect("an address");
    let server = async {
        let mut stream = accept(&listener).await;
        let request = request(&mut stream).await.to_lowercase();
        stream.write_all(ANSWER.as_bytes()).await.expect("written");
        request
    };
    let (request, body) = tokio::join!(server, exchange(&client));
    assert_eq!(body.expect("an answer"), b"{}");
    assert!(
        request.starts_with("post /path?query http/1.1\r\n"),
        "{request}"
    );
    for header in [format!("host: {host}"), "content-length: 2".to_owned()] {
        assert!(
            request.contains(&format!("\r\n{header}\r\n")),
            "{header}: {request}"
        );
    }
}

#[tokio::test]
async fn answers_of_each_framing_are_read_to_their_end_and_leave_the_connection_usable() {
    for answer in [
        ANSWER,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: a\r\n\r\n2\r\n{}\r\n0\r\na: b\r\n\r\n",
    ] {
        let (client, listener) = client().await;
        let server = tokio::spawn(async move {
            let stream = accept(&listener).await;
            answer_all(stream, answer).await
        });
        for _ in 0..3 {
            assert_eq!(exchange(&client).await.expect(answer), b"{}", "{answer}");
        }
        drop(client);
        assert_eq!(server.await.expect("a server"), 3, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_has_arrived_and_is_not_read_leaves_the_connection_usable() {
    let (client, listener) = client().await;
    let server = tokio::spawn(async move {
        let stream = accept(&listener).await;
        answer_all(stream, ANSWER).await
    });
    for _ in 0..3 {
        drop(post(&client).await.expect("an answer"));
    }
    drop(client);
    assert_eq!(server.await.expect("a server"), 3);
}

#[tokio::test]
async fn calls_at_the_same_time_have_connections_of_their_own() {
    let (client, listener) = client().await;
    let server = async {
        let (mut one, mut other) = (accept(&listener).await, accept(&listener).await);
        tokio::join!(request(&mut one), request(&mut other));
        for stream in [&mut one, &mut other] {
            stream.write_all(ANSWER.as_bytes()).await.expect("written");
        }
        (one, other)
    };
    let (_kept, one, other) = tokio::join!(server, exchange(&client), exchange(&client));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(client.idle.state().connections.len(), 2);
}

#[tokio::test]
async fn an_idle_connection_that_the_server_has_closed_is_not_used() {
    let (client, listener) = client().await;
    for _ in 0..2 {
        let server = async {
            let mut stream = accept(&listener).await;
            request(&mut stream).await;
            stream.write_all(ANSWER.as_bytes()).await.expect("written");
            stream
        };
        let (stream, body) = tokio::join!(server, exchange(&client));
        assert_eq!(body.expect("an answer"), b"{}");
        assert_eq!(client.idle.state().connections.len(), 1);
        drop(stream);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Answers one request, on `stream` or on a new connection.
async fn answer_one(listener: &TcpListener, stream: Option<TcpStream>) -> TcpStream {
    let mut stream = match stream {
        Some(stream) => stream,
        None => accept(listener).await,
    };
    request(&mut stream).await;
    stream.write_all(ANSWER.as_bytes()).await.expect("written");
    stream
}

/// Opens `N` connections and returns the server's ends. The client's ends are idle, the last one on top.
async fn idle_connections<const N: usize>(
    client: &PlainClient,
    listener: &TcpListener,
) -> [TcpStream; N] {
    let calls = (0..N).map(|_| post(client));
    let server = async {
        let mut streams = Vec::new();
        for _ in 0..N {
            streams.push(accept(listener).await);
        }
        join_all((streams.into_iter()).map(|stream| answer_one(listener, Some(stream)))).await
    };
    let (answers, streams) = tokio::join!(join_all(calls), server);
    drop(answers);
    assert_eq!(client.idle.state().connections.len(), N);
    streams.try_into().expect("as many as were opened")
}

fn request_of(client: &PlainClient) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from("{}"));
    *request.uri_mut() = client.target.clone();
    *request.method_mut() = Method::POST;
    request
}

/// Time in which the other side's end of a connection arrives.
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_request_of_which_nothing_was_written_is_sent_on_the_next_idle_connection_and_on_a_new_one()
 {
    for is_other_open in [true, false] {
        let (client, listener) = client().await;
        let [other, one] = idle_connections(&client, &listener).await;
        // The connections end after the client has found them open.
        let taken = [client.idle.take(), client.idle.take()];
        drop(one);
        let other = is_other_open.then_some(other);
        tokio::time::sleep(PAUSE).await;
        let [last, first] = taken.map(|taken| taken.expect("an idle connection"));
        let end = Instant::now() + IDLE_TIMEOUT;
        client.idle.state().connections.push((end, first));
        let server = answer_one(&listener, other);
        let (_stream, answer) = tokio::join!(server, client.send(Some(last), request_of(&client)));
        assert!(answer.is_ok(), "is_other_open: {is_other_open}");
    }
}

#[tokio::test]
async fn a_request_that_was_written_is_sent_once() {
    for is_new in [true, false] {
        let (client, listener) = client().await;
        let [mut stream] = idle_connections(&client, &listener).await;
        let mut idle = client.idle.take();
        if is_new {
            idle = None;
        }
        let server = async {
            if is_new {
                stream = accept(&listener).await;
            }
            request(&mut stream).await;
            drop(stream);
            timeout(PAUSE, listener.accept()).await.is_ok()
        };
        let (is_sent_again, answer) = tokio::join!(server, client.send(idle, request_of(&client)));
        let error = answer.err().expect("no answer");
        assert!(error.reason.starts_with(CONNECTED), "{}", error.reason);
        assert!(!is_sent_again, "there is a second connection");
    }
}

#[tokio::test]
async fn a_connection_with_a_large_write_buffer_is_not_used_again() {
    for (bytes, kept) in [(POOLED_BODY_BYTES, 1), (POOLED_BODY_BYTES + 1, 0)] {
        let (client, listener) = client().await;
        let mut body = vec![b' '; usize::try_from(bytes).expect("a size")];
        body.splice(body.len() - 2.., *b"{}");
        let call = client.post(HeaderMap::new(), body);
        let (_stream, answer) = tokio::join!(answer_one(&listener, None), call);
        drop(answer.expect("an answer"));
        assert_eq!(client.idle.state().connections.len(), kept, "{bytes}");
    }
}

/// A listener whose backlog is full, so that nothing answers further attempts to connect, and the connection
/// that fills the backlog.
async fn full_listener(address: SocketAddr) -> (TcpListener, TcpStream) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(address).expect("a port");
    let listener = socket.listen(0).expect("a listener");
    let stream = TcpStream::connect(address).await.expect("a connection");
    (listener, stream)
}

#[tokio::test]
async fn an_address_that_does_not_answer_leaves_time_for_the_next_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let live = listener.local_addr().expect("an address");
    let dead = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), live.port()));
    let _full = full_listener(dead).await;
    let reaches = async |addresses: Vec<SocketAddr>| {
        let resolver = tower::service_fn(move |_: dns::Name| {
            let addresses: vec::IntoIter<_> = addresses.clone().into_iter();
            async move { Ok::<_, Infallible>(addresses) }
        });
        let uri = format!("http://name:{}/", live.port());
        let uri = uri.parse().expect("a URI");
        let mut connector = connector_of(resolver);
        let connected = timeout(CONNECT_DEADLINE, connector.call(uri)).await;
        connected.is_ok_and(|stream| stream.is_ok())
    };
    let (alone, with_next) = tokio::join!(reaches(vec![dead]), reaches(vec![dead, live]));
    assert!(!alone, "the address answers");
    assert!(with_next);
}

#[tokio::test]
async fn a_call_that_is_given_up_closes_its_connection() {
    let (client, listener) = client().await;
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{"] {
        let mut call = Box::pin(exchange(&client));
        let server = async {
            let mut stream = accept(&listener).await;
            request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.expect("written");
            stream
        };
        let mut stream = tokio::select! {
            stream = server => stream,
            _ = &mut call => panic!("there is no answer"),
        };
        let pause = Duration::from_millis(50);
        assert!(timeout(pause, &mut call).await.is_err());
        drop(call);
        let read = timeout(Duration::from_secs(10), stream.read_u8()).await;
        assert!(read.expect("the end, in time").is_err());
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_an_answer_fails_the_call() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"] {
        let (client, listener) = client().await;
        let server = async {
            let mut stream = accept(&listener).await;
            request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.expect("written");
        };
        let (_, body) = tokio::join!(server, exchange(&client));
        let error = body.expect_err("half an answer");
        assert!(error.reason.starts_with(CONNECTED), "{}", error.reason);
    }
}

#[tokio::test]
async fn unused_connections_are_closed_when_their_time_is_over() {
    let (client, listener) = client().await;
    let server = tokio::spawn(async move {
        let stream = accept(&listener).await;
        answer_all(stream, ANSWER).await
    });
    exchange(&client).await.expect("an answer");
    tokio::time::pause();
    tokio::time::sleep(IDLE_TIMEOUT - Duration::from_millis(1)).await;
    assert_eq!(client.idle.state().connections.len(), 1);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let requests = timeout(Duration::from_secs(10), server).await;
    assert_eq!(requests.expect("the end, in time").expect("a server"), 1);
    let state = client.idle.state();
    assert!(state.connections.is_empty() && !state.is_swept);
}

#[tokio::test]
async fn nobody_who_cannot_be_reached_is_called() {
    let (client, listener) = client().await;
    drop(listener);
    let error = exchange(&client).await.expect_err("no server");
    assert!(error.reason.starts_with(CONNECTING), "{}", error.reason);
    let denied = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().expect("a network"));
    let url = "http://localhost:1/".parse().expect("a URL");
    let client = PlainClient::new(&url, &denied).expect("a client");
    let error = exchange(&client).await.expect_err("a denied address");
    assert!(
        error.reason.contains("backend_deny_networks"),
        "{}",
        error.reason
    );
}
