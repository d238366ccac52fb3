//! A back end that the gateway calls: a real HTTP server, which keeps every request.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    http::{HeaderMap, Version},
    response::{IntoResponse as _, Response},
    serve::Listener,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Options, tls::Certificate};

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Request {
    /// The version of HTTP.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The body as JSON.
    pub event: Value,
}

impl Request {
    /// A header, as text.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"));
        value.to_str().expect("text")
    }

    /// Whether the claims or the signature of a token are in it, as the token has them.
    ///
    /// # Panics
    ///
    /// When the token has no three parts.
    #[must_use]
    pub fn has_token(&self, token: &str) -> bool {
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(parts.len(), 3, "a token");
        let body = String::from_utf8_lossy(&self.body);
        let headers = format!("{:?}", self.headers);
        let has = |part: &str| body.contains(part) || headers.contains(part);
        parts[1..].iter().any(|part| has(part))
    }
}

/// A back end at an address of this machine.
pub struct CalledBackEnd {
    /// The URL that is posted to, with the name `localhost`.
    pub url: String,
    /// The secret of its signatures.
    pub secret: String,
    directory: TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl CalledBackEnd {
    /// Starts a back end that answers each event with what `answer` makes of it.
    pub async fn start<F, Answer>(answer: F) -> Self
    where
        F: Fn(Value) -> Answer + Clone + Send + Sync + 'static,
        Answer: Future<Output = Response> + Send,
    {
        let requests = Arc::default();
        let router = router(answer, &requests);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self::new(format!("http://localhost:{port}/events"), requests)
    }

    /// Starts a back end that answers each event with `value`, once there is a permit for it. Returns the
    /// permits too, of which there are none yet.
    pub async fn start_gated(value: Value) -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let open = gate.clone();
        let this = Self::start(move |_| {
            let (gate, value) = (gate.clone(), value.clone());
            async move {
                gate.acquire().await.expect("an open gate").forget();
                answer(value)
            }
        });
        (this.await, open)
    }

    /// Starts a back end that speaks TLS with `own`, HTTP/2 where it is asked for, to clients that have
    /// the certificate `client` alone.
    ///
    /// # Panics
    ///
    /// When a certificate cannot be used.
    pub async fn start_with_tls<F, Answer>(
        own: &Certificate,
        client: &Certificate,
        answer: F,
    ) -> Self
    where
        F: Fn(Value) -> Answer + Clone + Send + Sync + 'static,
        Answer: Future<Output = Response> + Send,
    {
        let requests = Arc::default();
        let router = router(answer, &requests);
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = tcp.local_addr().expect("an address").port();
        let acceptor = own.acceptor_for(client);
        let listener = TlsListener { tcp, acceptor };
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self::new(format!("https://localhost:{port}/events"), requests)
    }

    fn new(url: String, requests: Arc<Mutex<Vec<Request>>>) -> Self {
        let this = Self {
            url,
            secret: new_secret(),
            directory: tempfile::tempdir().expect("a temporary directory"),
            requests,
        };
        std::fs::write(this.secret_file(), &this.secret).expect("a written file");
        this
    }

    /// The file with the secret.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    /// Its entry in the settings, under `name`.
    #[must_use]
    pub fn settings(&self, name: &str) -> Value {
        json!({ "name": name, "url": self.url, "secret_file": self.secret_file(), "timeout_ms": 10_000 })
    }

    /// A stack whose events `shop:**` it answers.
    #[must_use]
    pub fn options(&self) -> Options {
        let events = json!([{ "events": ["shop:**"], "backend": "shop", "mode": "call" }]);
        Options::default()
            .gateway("backends", json!([self.settings("shop")]))
            .gateway("events", events)
    }

    /// A stack in whose rooms `desk:*` it decides on `actions`. `lobby` is open to everybody.
    #[must_use]
    pub fn decides_on(&self, actions: &[&str]) -> Options {
        let rooms = json!([
            { "rooms": ["lobby"], "actions": ["sub", "pub"] },
            { "rooms": ["desk:*"], "actions": actions, "authorize": "backend", "backend": "shop" },
        ]);
        Options::default()
            .gateway("backends", json!([self.settings("shop")]))
            .gateway("rooms", rooms)
    }

    /// A stack that asks it about each client that connects.
    #[must_use]
    pub fn admits(&self) -> Options {
        // The answer must come before the time without an admitted socket is over.
        let settings = with(self.settings("shop"), json!({ "timeout_ms": 5000 }));
        Options::default()
            .gateway("backends", json!([settings]))
            .gateway("connect.backend", "shop")
    }

    /// The requests until now.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A random secret of Standard Webhooks.
///
/// # Panics
///
/// When there are no random bytes.
#[must_use]
pub fn new_secret() -> String {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("random bytes");
    format!("whsec_{}", STANDARD.encode(random))
}

/// Keeps each request, and answers it.
fn router<F, Answer>(answer: F, requests: &Arc<Mutex<Vec<Request>>>) -> Router
where
    F: Fn(Value) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Response> + Send,
{
    let kept = requests.clone();
    Router::new().fallback(move |version: Version, headers: HeaderMap, body: Bytes| {
        let (kept, answer) = (kept.clone(), answer.clone());
        async move {
            let event: Value = serde_json::from_slice(&body).unwrap_or_default();
            let request = Request {
                version,
                headers,
                body,
                event: event.clone(),
            };
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(request);
            answer(event).await
        }
    })
}

/// A listener whose connections have done their TLS handshake.
struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (tcp, address) = self.tcp.accept().await.expect("a connection");
            if let Ok(stream) = self.acceptor.accept(tcp).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// An answer of JSON.
#[must_use]
pub fn answer(value: Value) -> Response {
    Json(value).into_response()
}

/// A JSON object with further members.
///
/// # Panics
///
/// When one of them is no object.
#[must_use]
pub fn with(mut value: Value, more: Value) -> Value {
    let members = value.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("members").clone());
    value
}
