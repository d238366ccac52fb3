//! The accept loop: how many connections there may be, how long each may take, and the switch that
//! ends each of them.
//!
//! `axum::serve` has no deadline for headers and no way to close a connection from outside, so the
//! loop is our own, over hyper.

pub mod refusal_data;
mod stream;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::refusal_data::RefusalData;
pub use self::stream::{Backlog, GuardedStream, KillSwitch, Place};
use crate::{
    config::Limits,
    limits::{AddressKey, Exceeded, Quota},
};

/// How long the loop rests when the system has no file descriptor left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections may take to notice that their streams are closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What hyper may read ahead on one connection; request lines and headers must fit into it.
const READ_BUFFER_BYTES: usize = 32 * 1024;

/// The connection that a request came by, as an extension of the request.
#[derive(Clone)]
pub struct Connection {
    /// Where the other end is.
    pub peer: SocketAddr,
    /// Closes this connection.
    pub switch: KillSwitch,
    /// Whether refusals on this connection get their data.
    pub refusal_data: RefusalData,
    /// A place that is given back when this connection ends.
    pub place: Place,
    /// What waits for the session that this connection serves, once it serves one.
    pub backlog: Arc<OnceLock<Backlog>>,
}

/// Serves `router` on `listener` until `shutdown`, then lets go of every connection.
///
/// Requests carry a [`Connection`] among their extensions. At shutdown no more connections are
/// accepted, `drain` is awaited, requests under way have until then to end, and then all streams
/// are closed, those of clients that read nothing too.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    shutdown: impl Future<Output = ()>,
    drain: impl Future<Output = ()>,
) {
    let streams = CancellationToken::new();
    let tasks = TaskTracker::new();
    let acceptor = Acceptor {
        router,
        quota: Quota::new(limits.connections, limits.connections_per_address),
        write_stall: limits.write_stall(),
        header_read: limits.header_read(),
        streams: streams.clone(),
        tasks: tasks.clone(),
    };
    tokio::select! {
        () = acceptor.run(&listener) => {}
        () = shutdown => {}
    }
    drop(listener);
    drain.await;
    streams.cancel();
    tasks.close();
    if tokio::time::timeout(CLOSE_DEADLINE, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("connections were left behind");
    }
}

struct Acceptor {
    router: Router,
    quota: Arc<Quota>,
    write_stall: Duration,
    header_read: Duration,
    streams: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, peer)) => self.accept(tcp, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn accept(&self, tcp: TcpStream, peer: SocketAddr) {
        let permit = match self.quota.acquire(AddressKey::from(peer.ip())) {
            Ok(permit) => permit,
            Err(exceeded) => {
                tracing::debug!(?exceeded, "connection refused");
                return refuse(tcp, exceeded);
            }
        };
        // Messages are small, and latency is what they are for.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "connection gone before it was served");
            return;
        }
        let switch = KillSwitch::new(&self.streams);
        let connection = Connection {
            peer,
            switch,
            refusal_data: RefusalData::default(),
            place: Place::default(),
            backlog: Arc::default(),
        };
        let stream = GuardedStream::new(tcp, &connection, self.write_stall, permit);
        let closed = connection.switch.clone();
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(connection.clone());
            let response = router.clone().oneshot(request);
            async move { Ok::<_, Infallible>(response.await.unwrap_or_else(|never| match never {})) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_read)
            .max_buf_size(READ_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.tasks.spawn(async move {
            // hyper does not look at a stream while it waits for an answer and has the next request
            // already, so it would not notice that the stream is closed.
            tokio::select! {
                served = served => if let Err(error) = served {
                    tracing::debug!(%error, "connection ended");
                },
                () = closed.closed() => {}
            }
        });
    }
}

/// Whether an accept failed for the connection at hand, and the next one may well succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

/// Answers without reading, in one write that fits into any socket's buffer, and hangs up.
fn refuse(tcp: TcpStream, exceeded: Exceeded) {
    let answer: &[u8] = match exceeded {
        Exceeded::Total => {
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
        Exceeded::Address => {
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
    };
    // A client that is already gone is none that wants an answer.
    if let Ok(mut tcp) = tcp.into_std() {
        let _ = io::Write::write(&mut tcp, answer);
        let _ = tcp.shutdown(std::net::Shutdown::Write);
    }
}
