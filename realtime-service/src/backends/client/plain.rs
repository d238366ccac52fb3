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
    body::{Body as _, Incoming},
    client::conn::http1::{self, SendRequest},
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

/// A client without TLS.
pub(in crate::backends) struct Plain {
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

impl Plain {
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
        let mut connector = HttpConnector::new_with_resolver(AllowedAddresses::new(denied));
        connector.set_nodelay(true);
        Ok(Self {
            host: HeaderValue::from_str(host).map_err(|_| invalid())?,
            target: target.into(),
            uri,
            connector,
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
        let mut connection = match self.idle.take() {
            Some(connection) => connection,
            // In a box, since calls that find a connection are many, and should be small.
            None => Box::pin(self.connect()).await?,
        };
        headers.insert(header::HOST, self.host.clone());
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        let answer = connection.requests.send_request(request);
        let answer = drive(&mut connection.io, answer).await;
        let (head, body) = answer
            .map_err(|error| unreachable(CONNECTED, &error))?
            .into_parts();
        Ok(Answer {
            head,
            body: Some(body),
            connection: Some(connection),
            idle: self.idle.clone(),
        })
    }

    async fn connect(&self) -> Result<Box<Connection>, CallError> {
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
        let io = Some(io);
        Ok(Box::new(Connection { requests, io }))
    }
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
            && (connection.requests.is_ready() || connection.is_usable())
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
    /// Reads what has arrived, and returns whether the connection can take a request now.
    fn is_usable(&mut self) -> bool {
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
            if Instant::now() < end && connection.is_usable() {
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
