//! A server with an engine, and clients for it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::super::{
    Answer, CloseCode, CloseReason, Engine, EngineHandler, EngineQuery, EngineSettings, Recover,
    RecoverFn, Reply, RequestError, Session, Violation, recover,
};
use crate::transport::{Opcode, Packet};

pub(super) type TestSession = Arc<Session<()>>;

/// Sends messages back, follows a few commands, and reports sessions.
pub(super) struct TestHandler {
    opened: UnboundedSender<TestSession>,
    closed: UnboundedSender<CloseReason>,
    /// Number of text messages of all sessions.
    pub(super) texts: AtomicUsize,
}

impl EngineHandler for TestHandler {
    type Data = ();

    fn opened(&self, session: &TestSession) {
        let _ = self.opened.send(session.clone());
    }

    fn text(&self, session: &TestSession, text: &str) -> Result<(), Violation> {
        let texts = self.texts.fetch_add(1, Ordering::Relaxed);
        match text {
            "admit" => session.set_admitted(),
            "close" => {
                session.send(Packet::engine("4last"));
                session.close(CloseCode::Normal);
            }
            "kill" => {
                session.send(Packet::engine("4never"));
                session.kill();
            }
            "count" => {
                session.send(Packet::engine(&format!("4{texts}")));
            }
            "panic" => panic!("on purpose"),
            "invalid" => return Err(Violation::Protocol),
            text => {
                session.send(Packet::engine(&format!("4{text}")));
            }
        }
        Ok(())
    }

    fn binary(&self, session: &TestSession, data: Bytes) -> Result<(), Violation> {
        session.send(Packet::control(Opcode::Binary, &data));
        Ok(())
    }

    fn closed(&self, _: &TestSession, reason: CloseReason) {
        let _ = self.closed.send(reason);
    }
}

/// A running server.
pub(super) struct Server {
    pub(super) engine: Engine<TestHandler>,
    opened: UnboundedReceiver<TestSession>,
    closed: UnboundedReceiver<CloseReason>,
    pub(super) address: std::net::SocketAddr,
}

/// Settings with short limits and the usual intervals.
pub(super) fn settings() -> EngineSettings {
    EngineSettings {
        message_bytes: 100_000,
        unadmitted_message_bytes: 1000,
        ..EngineSettings::default()
    }
}

impl Server {
    /// Starts a server for plain TCP.
    pub(super) async fn start(settings: EngineSettings) -> Self {
        Self::start_with(settings, recover::<TcpStream>, |tcp| async { Some(tcp) }).await
    }

    /// Starts a server whose streams `accept` makes of TCP streams.
    pub(super) async fn start_with<S, F>(
        settings: EngineSettings,
        recover: RecoverFn,
        accept: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        S: Recover,
        F: Future<Output = Option<S>> + Send + 'static,
    {
        let (opened, of_opened) = unbounded_channel();
        let (closed, of_closed) = unbounded_channel();
        let handler = TestHandler {
            opened,
            closed,
            texts: AtomicUsize::new(0),
        };
        let engine = Engine::new(settings, handler, recover);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let running = engine.clone();
        tokio::spawn(async move { running.run().await });
        let serving = engine.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                // Otherwise a small packet may wait for the client's system, in time that is not paused.
                let _ = tcp.set_nodelay(true);
                let (engine, stream) = (serving.clone(), accept(tcp));
                tokio::spawn(async move {
                    if let Some(stream) = stream.await {
                        serve(stream, engine).await;
                    }
                });
            }
        });
        Self {
            engine,
            opened: of_opened,
            closed: of_closed,
            address,
        }
    }

    /// Returns the session that was opened next.
    pub(super) async fn session(&mut self) -> TestSession {
        self.opened.recv().await.expect("an opened session")
    }

    /// Returns why the session that ended next has ended.
    pub(super) async fn close_reason(&mut self) -> CloseReason {
        let reason = tokio::time::timeout(Duration::from_secs(60), self.closed.recv()).await;
        reason.expect("in time").expect("a closed session")
    }

    /// Whether no further session has ended.
    pub(super) fn has_no_other_end(&mut self) -> bool {
        self.closed.try_recv().is_err()
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Opens a session as a WebSocket. The handshake packet is read.
    pub(super) async fn websocket(&self) -> WebSocket<TcpStream> {
        WebSocket::open(self.connect().await, "").await
    }

    /// Sends the head of a WebSocket handshake, for the session `sid` if there is one, as the second request
    /// of a connection. If `hangs_up`, the stream ends behind the head, before the server reads any of it.
    pub(super) async fn begin_websocket(&self, sid: &str, hangs_up: bool) -> TcpStream {
        let mut tcp = self.connect().await;
        // Behind its answer to a first request, the server waits, and learns of head and end at once.
        let first = format!(
            "GET {} HTTP/1.1\r\nhost: a\r\n\r\n",
            path("polling", "unknown")
        );
        tcp.write_all(first.as_bytes()).await.expect("sent");
        let read = tcp.read(&mut [0; 1024]).await;
        assert!(read.is_ok_and(|read| read > 0));
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            path("websocket", sid),
        );
        // On the runtime of one thread, the server does not run until this task waits.
        tcp.write_all(head.as_bytes()).await.expect("sent");
        if hangs_up {
            tcp.shutdown().await.expect("the end of the stream");
        }
        tcp
    }

    /// Opens a session by polling, and returns its identifier.
    pub(super) async fn poll_session(&self) -> String {
        let (status, body) = self.get("").await;
        assert_eq!(status, 200);
        let handshake: serde_json::Value = serde_json::from_str(&body[1..]).expect("JSON");
        handshake["sid"].as_str().expect("a sid").to_owned()
    }

    /// Polls.
    pub(super) async fn get(&self, sid: &str) -> (u16, String) {
        self.request("GET", sid, b"").await
    }

    pub(super) async fn post(&self, sid: &str, body: &[u8]) -> (u16, String) {
        self.request("POST", sid, body).await
    }

    /// Sends a request by polling, and returns status and body of the response.
    pub(super) async fn request(&self, method: &str, sid: &str, body: &[u8]) -> (u16, String) {
        let mut tcp = self.connect().await;
        let head = format!(
            "{method} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            path("polling", sid),
            body.len(),
        );
        tcp.write_all(&[head.as_bytes(), body].concat())
            .await
            .expect("sent");
        let mut response = String::new();
        tcp.read_to_string(&mut response).await.expect("a response");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        (status, body.to_owned())
    }
}

pub(super) fn path(transport: &str, sid: &str) -> String {
    match sid {
        "" => format!("/engine.io/?EIO=4&transport={transport}"),
        sid => format!("/engine.io/?EIO=4&transport={transport}&sid={sid}"),
    }
}

async fn serve<S: Recover>(stream: S, engine: Engine<TestHandler>) {
    let service = service_fn(move |request: Request<Incoming>| {
        // As the gate does, the engine is called before the first poll of the future.
        let reply = reply(&engine, request.map(Body::new));
        async {
            let answer = match reply {
                Ok(reply) => reply.wait().await,
                Err(error) => Err(error),
            };
            let response = answer.map(Answer::spawn);
            Ok::<_, Infallible>(response.unwrap_or_else(RequestError::into_response))
        }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn reply(engine: &Engine<TestHandler>, request: Request<Body>) -> Result<Reply, RequestError> {
    let query = EngineQuery::parse(request.uri())?;
    let Some(sid) = &query.sid else {
        let answer = engine.open(request, &query, Arc::default(), ());
        return Ok(Reply::Now(answer));
    };
    let session = engine.session(sid).ok_or(RequestError::UnknownSession)?;
    Ok(engine.resume(request, query.transport, session))
}

/// A WebSocket client.
pub(super) struct WebSocket<S>(pub(super) WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Opens a WebSocket, for the session `sid` if there is one.
    pub(super) async fn open(stream: S, sid: &str) -> Self {
        let mut websocket = Self::open_at(stream, &path("websocket", sid)).await;
        if sid.is_empty() {
            websocket.read_handshake().await;
        }
        websocket
    }

    /// Opens a WebSocket at `path`.
    pub(super) async fn open_at(stream: S, path: &str) -> Self {
        let opened = tokio_tungstenite::client_async(format!("ws://a{path}"), stream).await;
        Self(opened.expect("a WebSocket").0)
    }

    /// Reads the packet that opens a session.
    pub(super) async fn read_handshake(&mut self) {
        let handshake = self.text().await;
        assert!(handshake.starts_with("0{"), "{handshake}");
    }

    pub(super) async fn send(&mut self, text: &str) {
        let message = Message::text(text);
        self.0.send(message).await.expect("sent");
    }

    /// Receives the next message; `None` when the connection ends without a close frame.
    pub(super) async fn receive(&mut self) -> Option<Message> {
        let received = tokio::time::timeout(Duration::from_secs(60), self.0.next()).await;
        received.expect("in time")?.ok()
    }

    pub(super) async fn text(&mut self) -> String {
        match self.receive().await {
            Some(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// Receives the end of the connection, and returns the code of its close frame.
    pub(super) async fn close_code(&mut self) -> Option<u16> {
        match self.receive().await {
            Some(Message::Close(Some(frame))) => Some(frame.code.into()),
            None => None,
            other => panic!("not the end: {other:?}"),
        }
    }
}
