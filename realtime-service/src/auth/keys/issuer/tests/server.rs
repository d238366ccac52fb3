//! A provider on this machine that says whatever a test wants, and counts what it is asked.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};

/// Where a provider's keys are, on every server.
pub(super) const KEYS: &str = "/keys";

/// What stands at an address.
#[derive(Clone)]
pub(super) enum Page {
    /// A document, and what is said about how long it can be kept.
    Document(Vec<u8>, &'static str),
    /// A status and nothing else.
    Status(u16),
    /// A redirect to there.
    Redirect(String),
    /// Blanks, one at a time and without an end.
    Drip,
}

impl Page {
    pub(super) fn json(value: &Value) -> Self {
        Self::Document(value.to_string().into_bytes(), "max-age=600")
    }

    /// A set of keys (RFC 7517, section 5).
    pub(super) fn keys<'a>(keys: impl IntoIterator<Item = &'a Value>) -> Self {
        let keys: Vec<&Value> = keys.into_iter().collect();
        Self::json(&json!({ "keys": keys }))
    }
}

struct Shared {
    pages: Mutex<HashMap<String, Page>>,
    requests: AtomicUsize,
    /// Whether a request without a `User-Agent` is refused.
    refuses_nameless: AtomicBool,
    /// Whether answers are kept back.
    is_held: watch::Sender<bool>,
}

/// A server with threads of its own, which go by the clock on the wall.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(super) fn start_at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared {
            pages: Mutex::default(),
            requests: AtomicUsize::new(0),
            refuses_nameless: AtomicBool::new(false),
            is_held: watch::Sender::new(false),
        });
        // Bound and served over there: a socket belongs to the runtime that opened it.
        let (sender, bound) = std::sync::mpsc::channel();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.expect("a free port");
            let address = listener.local_addr().expect("a bound listener");
            sender.send(address).expect("somebody who waits");
            axum::serve(listener, router).await.expect("served");
        });
        Self {
            address: bound.recv().expect("an address"),
            shared,
            runtime: Some(runtime),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn publish(&self, path: &str, page: Page) {
        let mut pages = self.shared.pages.lock().expect("no panic");
        pages.insert(path.to_owned(), page);
    }

    /// How many requests have come.
    pub(super) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Answers 403 to requests without a `User-Agent`, as some firewalls before key servers do.
    pub(super) fn refuse_nameless(&self) {
        self.shared.refuses_nameless.store(true, Ordering::SeqCst);
    }

    /// Keeps answers back, or lets them go.
    pub(super) fn hold(&self, is_held: bool) {
        self.shared.is_held.send_replace(is_held);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let is_nameless = !headers.contains_key(header::USER_AGENT);
    if is_nameless && shared.refuses_nameless.load(Ordering::SeqCst) {
        return axum::http::StatusCode::FORBIDDEN.into_response();
    }
    let mut is_held = shared.is_held.subscribe();
    is_held.wait_for(|held| !held).await.expect("a server");
    let page = shared
        .pages
        .lock()
        .expect("no panic")
        .get(uri.path())
        .cloned();
    match page {
        None => axum::http::StatusCode::NOT_FOUND.into_response(),
        Some(Page::Document(document, control)) => {
            ([(header::CACHE_CONTROL, control)], document).into_response()
        }
        Some(Page::Status(status)) => axum::http::StatusCode::from_u16(status)
            .expect("a status")
            .into_response(),
        Some(Page::Redirect(to)) => (
            axum::http::StatusCode::FOUND,
            [(header::LOCATION, to)],
            "elsewhere",
        )
            .into_response(),
        Some(Page::Drip) => Body::from_stream(stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, Infallible>(" "), ()))
        }))
        .into_response(),
    }
}
