//! The accept loop: how many connections there may be, how long a TLS handshake, headers and a body may
//! take, and the switch that ends each connection; with TLS or without.
//!
//! `axum::serve` has no deadline for headers and no way to close a connection from outside, so the
//! loop is our own, over hyper.

mod body;
mod connection;
mod frames;
mod guarded;
mod head;
mod head_timer;
mod kill_switch;
mod place;
mod proxies;
pub mod refusal_data;
mod served;
mod service;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

pub(super) use self::frames::is_message;
pub use self::{
    body::BodyTimeout,
    connection::Connection,
    frames::Observer,
    guarded::GuardedStream,
    kill_switch::{KillSwitch, KillSwitches},
    place::Place,
    proxies::Proxies,
    served::{ServedStream, recover},
    service::HttpService,
};
use self::{head_timer::HeadTimer, refusal_data::RefusalData};
use crate::{
    config::Limits,
    limits::{AddressKey, Exceeded, Quota},
    metrics::{Limit, Metrics},
};

/// How long the loop rests when the system has no file descriptor left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections may take to notice that their streams are closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What hyper may read ahead on one connection; request lines and headers must fit into it.
const READ_BUFFER_BYTES: usize = 32 * 1024;

/// On which terms connections are accepted.
#[derive(Clone)]
pub struct Terms {
    quota: Arc<Quota<AddressKey>>,
    write_stall: Duration,
    header_read: Duration,
    body_read: Duration,
    metrics: Arc<Metrics>,
    tls: Option<TlsAcceptor>,
    proxies: Arc<Proxies>,
}

impl Terms {
    /// The deadlines of `limits`, without TLS and without a proxy. Each connection takes a place of
    /// `quota`.
    #[must_use]
    pub fn new(limits: &Limits, quota: Arc<Quota<AddressKey>>, metrics: Arc<Metrics>) -> Self {
        Self {
            quota,
            write_stall: limits.write_stall(),
            header_read: limits.header_read(),
            body_read: limits.body_read(),
            metrics,
            tls: None,
            proxies: Arc::default(),
        }
    }

    /// With TLS by `acceptor`, if there is one.
    #[must_use]
    pub fn with_tls(self, acceptor: Option<TlsAcceptor>) -> Self {
        Self {
            tls: acceptor,
            ..self
        }
    }

    /// With proxies that are believed whom they speak for. Their connections are those of many
    /// clients, and count in all alone.
    #[must_use]
    pub fn with_proxies(self, proxies: Proxies) -> Self {
        let proxies = Arc::new(proxies);
        Self { proxies, ..self }
    }
}

/// Serves `service` on `listener` until `shutdown`, then lets go of every connection.
///
/// At shutdown no more connections are accepted, and all streams are closed, those of requests under way
/// and of clients that read nothing too.
pub async fn serve(
    listener: TcpListener,
    service: impl HttpService,
    terms: Terms,
    shutdown: impl Future<Output = ()>,
) {
    // Messages are small, and latency is what they are for. Accepted connections inherit it.
    if let Err(error) = SockRef::from(&listener).set_tcp_nodelay(true) {
        tracing::warn!(%error, "small messages may be delayed");
    }
    let streams = Arc::<KillSwitches>::default();
    let tasks = TaskTracker::new();
    let acceptor = Acceptor {
        service,
        terms,
        streams: streams.clone(),
        tasks: tasks.clone(),
    };
    // On a worker of the runtime, where the connections are served too.
    let mut accepting = JoinSet::new();
    accepting.spawn(async move { acceptor.run(&listener).await });
    tokio::select! {
        _ = accepting.join_next() => {}
        () = shutdown => {}
    }
    accepting.shutdown().await;
    streams.close_all();
    tasks.close();
    if tokio::time::timeout(CLOSE_DEADLINE, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("connections were left behind");
    }
}

struct Acceptor<S> {
    service: S,
    terms: Terms,
    streams: Arc<KillSwitches>,
    tasks: TaskTracker,
}

impl<S: HttpService> Acceptor<S> {
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
        let terms = &self.terms;
        let is_proxy = terms.proxies.contain(peer.ip());
        let owner = (!is_proxy).then(|| AddressKey::from(peer.ip()));
        let permit = match terms.quota.acquire(owner) {
            Ok(permit) => permit,
            Err(exceeded) => {
                terms.metrics.limited(match exceeded {
                    Exceeded::Total => Limit::Connections,
                    Exceeded::Share => Limit::ConnectionsPerAddress,
                });
                tracing::debug!(?exceeded, "connection refused");
                if terms.tls.is_none() {
                    refuse(tcp, exceeded);
                }
                return;
            }
        };
        terms.metrics.connection_accepted();
        let switch = KillSwitch::default();
        let connection = Connection::new(peer, terms.proxies.clone(), switch.clone());
        let registration = self.streams.register(&switch);
        let stream = GuardedStream::new(tcp, switch, registration, terms.write_stall, permit);
        let (service, terms) = (self.service.clone(), terms.clone());
        self.tasks.spawn(async move {
            match terms.tls.clone() {
                None => serve_connection(stream, service, connection, &terms).await,
                Some(tls) => serve_tls(tls, stream, service, connection, &terms).await,
            }
        });
    }
}

/// Serves a connection once its TLS handshake is done, for which it has as long as for headers.
async fn serve_tls(
    tls: TlsAcceptor,
    stream: GuardedStream,
    service: impl HttpService,
    connection: Connection,
    terms: &Terms,
) {
    match tokio::time::timeout(terms.header_read, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_connection(stream, service, connection, terms).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
        Err(_) => terms.metrics.limited(Limit::TlsHandshake),
    }
}

/// Serves the requests of one connection until it ends.
async fn serve_connection<S>(
    stream: S,
    service: impl HttpService,
    connection: Connection,
    terms: &Terms,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(connection);
    let serving = connection.clone();
    let stream = ServedStream::new(stream, connection.clone());
    let (body_read, metrics) = (terms.body_read, terms.metrics.clone());
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let has_both = serving.is_ambiguous.swap(false, Ordering::AcqRel);
        let checked = head::check(parts.version, &parts.headers, has_both);
        let (body, lateness) = body::with_deadline(body, &parts.headers, body_read);
        let request = hyper::Request::from_parts(parts, body);
        let response = checked.map(|()| service.answer(request, &serving));
        let lateness = lateness.map(|lateness| (lateness, metrics.clone()));
        async move {
            let response = match response {
                Ok(response) => response.await,
                Err(error) => error.into_response(),
            };
            match lateness {
                Some((lateness, metrics)) if lateness.is_late() => {
                    metrics.limited(Limit::BodyRead);
                    Ok::<_, Infallible>(body::timeout_response())
                }
                _ => Ok(response),
            }
        }
    });
    let served = http1::Builder::new()
        .timer(HeadTimer::default())
        .header_read_timeout(terms.header_read)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // hyper does not look at a stream while it waits for an answer and has the next request
    // already, so it would not notice that the stream is closed.
    tokio::select! {
        biased;
        served = served => if let Err(error) = served {
            if error.is_timeout() {
                terms.metrics.limited(Limit::HeaderRead);
            }
            tracing::debug!(%error, "connection ended");
        },
        () = connection.switch.closed() => {}
    }
    if let Some(upgrade) = connection.take_upgrade() {
        drop(connection);
        upgrade.await;
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
        Exceeded::Share => {
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
    };
    // A client that is already gone is none that wants an answer.
    if let Ok(mut tcp) = tcp.into_std() {
        let _ = io::Write::write(&mut tcp, answer);
        let _ = tcp.shutdown(std::net::Shutdown::Write);
    }
}

#[cfg(test)]
mod tests;
