//! HTTP/1.1 over TCP. A connection is driven by the task of the call that uses it: a task of its own
//! would be woken for each request and wake the call for each answer.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, response::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Response,
    body::{Body as _, Incoming},
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use ipnet::IpNet;
use reqwest::Url;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    time::{Instant, sleep_until, timeout},
};
use tower::Service as _;

use super::{CONNECT_DEADLINE, CONNECTED, CONNECTING, IDLE_TIMEOUT, Problem, unreachable};
use crate::backends::{CallError, addresses::AllowedAddresses};

/// Maximum size of a body whose connection is used again, in bytes. hyper copies a body into its write
/// buffer, and an idle connection keeps the capacity of that buffer.
const POOLED_BODY_BYTES: u64 = 64 * 1024;

/// A client without TLS.
pub(in crate::backends) struct PlainClient {
    /// The whole URL, to which connections are opened.
    uri: Uri,
    /// Its path and query, which requests name.
    target: Uri,
    host: HeaderValue,
    connector: HttpConnector<AllowedAddresses>,
    idle: Arc<Idle>,
}

/// An answer, and the connection from which its body is read.
pub(in crate::backends) struct Answer {
    head: Parts,
    /// `None` once the answer is dropped.
    body: Option<Incoming>,
    /// `None` once the answer is dropped.
    connection: Option<Box<Connection>>,
    idle: Arc<Idle>,
}

/// An open connection. hyper reads and writes only within [`drive`].
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    io: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    /// False once a body larger than [`POOLED_BODY_BYTES`] was sent.
    is_pooled: bool,
}

/// Connections without a request.
#[derive(Default)]
struct Idle(Mutex<IdleState>);

#[derive(Default)]
struct IdleState {
    /// Each with the end of its time. The last one is used next, so that those of a burst end.
    connections: Vec<(Instant, Box<Connection>)>,
    /// Whether a task closes those whose time is over.
    is_swept: bool,
}

impl PlainClient {
    /// Builds the client of the back end with this `url`.
    ///
    /// # Errors
    ///
    /// When the URL has no host.
    pub(super) fn new(url: &Url, denied: &[IpNet]) -> Result<Self, Problem> {
        let invalid = || ("url", "must be a URL with a host".to_owned());
        let uri: Uri = url.as_str().parse().map_err(|_| invalid())?;
        let target = uri.path_and_query().cloned().ok_or_else(invalid)?;
        let host = uri.authority().ok_or_else(invalid)?.as_str();
        Ok(Self {
            host: HeaderValue::from_str(host).map_err(|_| invalid())?,
            target: target.into(),
            uri,
            connector: connector_of(AllowedAddresses::new(denied)),
            idle: Arc::default(),
        })
    }

    /// Posts one request.
    ///
    /// # Errors
    ///
    /// See [`super::Client::post`].
    pub(super) async fn post(
        &self,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, CallError> {
        headers.insert(header::HOST, self.host.clone());
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        self.send(self.idle.take(), request).await
    }

    /// Sends a request on an `idle` connection, or on a new one. While a connection ends before any of the
    /// request is written, the request is sent on the next idle connection, and at last on a new one.
    async fn send(
        &self,
        mut idle: Option<Box<Connection>>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, CallError> {
        let mut left = None;
        loop {
            let is_new = idle.is_none();
            let mut connection = match idle {
                Some(connection) => connection,
                // In a box, since calls that find a connection are many, and should be small.
                None => Box::pin(self.connect()).await?,
            };
            let mut error = match connection.exchange(request).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    return Ok(Answer {
                        head,
                        body: Some(body),
                        connection: Some(connection),
                        idle: self.idle.clone(),
                    });
                }
                Err(error) => error,
            };
            request = match error.take_message() {
                Some(unsent) if !is_new => unsent,
                _ => return Err(unreachable(CONNECTED, &error.into_error())),
            };
            // Connections that become idle meanwhile add no attempts.
            let left = left.get_or_insert_with(|| self.idle.state().connections.len());
            idle = match left.checked_sub(1) {
                Some(fewer) => {
                    *left = fewer;
                    self.idle.take()
                }
                None => None,
            };
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, CallError> {
        // This deadline bounds the resolution of the name, too.
        let stream = timeout(
            CONNECT_DEADLINE,
            self.connector.clone().call(self.uri.clone()),
        )
        .await;
        let stream = stream.map_err(|error| unreachable(CONNECTING, &error))?;
        let stream = stream.map_err(|error| unreachable(CONNECTING, &error))?;
        // A copy of a small body costs less than a write in two parts.
        let opened = http1::Builder::new().writev(false).handshake(stream).await;
        let (requests, io) = opened.map_err(|error| unreachable(CONNECTING, &error))?;
        Ok(Box::new(Connection {
            requests,
            io: Some(io),
            is_pooled: true,
        }))
    }
}

/// Returns a connector that divides [`CONNECT_DEADLINE`] among the addresses of a name, so that an address
/// that does not answer leaves time for the next one.
fn connector_of<R>(resolver: R) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_DEADLINE));
    connector
}

impl Answer {
    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Waits for the next part of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the connection fails before the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let (Some(body), Some(connection)) = (&mut self.body, &mut self.connection) else {
            return Ok(None);
        };
        while !body.is_end_stream() {
            let Some(frame) = drive(&mut connection.io, body.frame()).await else {
                break;
            };
            let frame = frame.map_err(|error| unreachable(CONNECTED, &error))?;
            // The other kind of frame has trailers, which mean nothing here.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl Drop for Answer {
    /// Keeps the connection if its answer has arrived as a whole.
    fn drop(&mut self) {
        // hyper reads on in the same buffer once nothing refers to it.
        self.head.headers.clear();
        self.body = None;
        // Without its body, hyper skips what has arrived of it.
        if let Some(mut connection) = self.connection.take()
            && connection.is_pooled
            && (connection.requests.is_ready() || connection.read_arrived())
        {
            self.idle.keep(connection);
        }
    }
}

/// Awaits `work`, which waits for a connection, and lets the connection read and write meanwhile.
async fn drive<T>(
    io: &mut Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        if let Some(open) = io
            && Pin::new(open).poll(context).is_ready()
        {
            // With the connection dropped, the work hears of the end.
            *io = None;
        }
        work.as_mut().poll(context)
    })
    .await
}

impl Connection {
    /// Sends a request, and returns the answer when its head has arrived. The error holds the request if
    /// none of it was written.
    fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> {
        self.is_pooled &= request.body().size_hint().lower() <= POOLED_BODY_BYTES;
        let answer = self.requests.try_send_request(request);
        drive(&mut self.io, answer)
    }

    /// Reads what has arrived, and returns whether the connection can take a request now.
    fn read_arrived(&mut self) -> bool {
        let Some(io) = &mut self.io else {
            return false;
        };
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(io).poll(&mut context).is_pending() && self.requests.is_ready()
    }
}

impl Idle {
    /// Takes out the connection that was used last, and is still open.
    fn take(&self) -> Option<Box<Connection>> {
        loop {
            let (end, mut connection) = self.state().connections.pop()?;
            if Instant::now() < end && connection.read_arrived() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for [`IDLE_TIMEOUT`]. After the end of the runtime, it is closed.
    fn keep(self: &Arc<Self>, connection: Box<Connection>) {
        let mut state = self.state();
        let end = Instant::now() + IDLE_TIMEOUT;
        if !state.is_swept {
            let Ok(runtime) = Handle::try_current() else {
                return;
            };
            runtime.spawn(sweep(Arc::downgrade(self), end));
            state.is_swept = true;
        }
        state.connections.push((end, connection));
    }

    /// Closes the connections whose time is over at `now`; returns the next end, if there is one.
    fn close_unused(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let unused = state.connections.partition_point(|(end, _)| *end <= now);
        let unused: Vec<_> = state.connections.drain(..unused).collect();
        let next = state.connections.first().map(|(end, _)| *end);
        state.is_swept = next.is_some();
        drop(state);
        drop(unused);
        next
    }

    fn state(&self) -> MutexGuard<'_, IdleState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections at the end of their time, the first at `end`, until none is left.
async fn sweep(idle: Weak<Idle>, end: Instant) {
    let mut next = Some(end);
    while let Some(end) = next {
        sleep_until(end).await;
        next = idle
            .upgrade()
            .and_then(|idle| idle.close_unused(Instant::now()));
    }
}

#[cfg(test)]
mod tests;
