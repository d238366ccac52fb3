//! A TCP stream with a kill switch and a deadline for writes that get nowhere.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    limits::{AddressKey, Permit},
    metrics::Cause,
};

/// Closes one stream from outside, however backlogged it is.
///
/// It outlives the HTTP request that it came with: after an upgrade it is the WebSocket's.
#[derive(Clone)]
pub struct KillSwitch {
    token: CancellationToken,
    /// Why the stream ended, when it was not this switch that ended it.
    cause: Arc<OnceLock<Cause>>,
    created_at: Instant,
    /// Since when a write waits for the peer, in milliseconds after `created_at` and one more; 0
    /// while none does.
    blocked_since: Arc<AtomicU64>,
}

impl KillSwitch {
    /// A switch that `parent` throws together with all of its others.
    #[must_use]
    pub fn new(parent: &CancellationToken) -> Self {
        Self {
            token: parent.child_token(),
            cause: Arc::default(),
            created_at: Instant::now(),
            blocked_since: Arc::default(),
        }
    }

    /// Closes the stream: reads end, writes fail, and whoever waits for either is woken.
    pub fn close(&self) {
        self.token.cancel();
    }

    /// Resolves when the stream is closed.
    pub async fn closed(&self) {
        self.token.cancelled().await;
    }

    /// Whether the stream is closed, by this switch or because it was dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Whether a write waits for the peer to take something.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked_since.load(Ordering::Acquire) > 0
    }

    /// How long a write has waited for the peer to take something.
    #[must_use]
    pub fn blocked_for(&self, now: Instant) -> Option<Duration> {
        let since = self.blocked_since.load(Ordering::Acquire).checked_sub(1)?;
        let since = self.created_at + Duration::from_millis(since);
        Some(now.saturating_duration_since(since))
    }

    /// Notes that a write waits, and returns whether none did before.
    fn block(&self, now: Instant) -> bool {
        let millis = now.saturating_duration_since(self.created_at).as_millis();
        let since = u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1;
        let swapped =
            self.blocked_since
                .compare_exchange(0, since, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok()
    }

    fn unblock(&self) {
        self.blocked_since.store(0, Ordering::Release);
    }

    /// Why the stream ended by itself, once it has.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cause.get().copied()
    }

    /// Closes a stream that ends for `cause`. The first cause counts.
    fn ended(&self, cause: Cause) {
        let _ = self.cause.set(cause);
        self.close();
    }
}

/// A TCP stream that ends when its [`KillSwitch`] is thrown, or when its peer takes nothing for
/// as long as the write stall allows.
///
/// Without the latter a client that stops reading stays for ever: its writer blocks under a lock
/// that the heartbeat needs to end the session. It stands below TLS: there a write that waits is a
/// peer that takes nothing, while TLS takes some bytes in whether they go out or not.
pub struct GuardedStream {
    /// Taken out when the engine takes the connection over.
    tcp: Option<TcpStream>,
    switch: KillSwitch,
    // Two, because reading and writing happen in two tasks, each with a waker of its own.
    read_killed: Pin<Box<WaitForCancellationFutureOwned>>,
    write_killed: Pin<Box<WaitForCancellationFutureOwned>>,
    write_stall: Duration,
    stalled: Pin<Box<Sleep>>,
    permit: Option<Permit<AddressKey>>,
}

impl GuardedStream {
    /// Guards `tcp`, which `switch` closes; `permit` is given back when the stream ends.
    #[must_use]
    pub fn new(
        tcp: TcpStream,
        switch: KillSwitch,
        write_stall: Duration,
        permit: Permit<AddressKey>,
    ) -> Self {
        Self {
            tcp: Some(tcp),
            read_killed: Box::pin(switch.token.clone().cancelled_owned()),
            write_killed: Box::pin(switch.token.clone().cancelled_owned()),
            switch,
            write_stall,
            stalled: Box::pin(tokio::time::sleep(write_stall)),
            permit: Some(permit),
        }
    }

    /// Takes the TCP stream out of the guard, and the permit that is to be released with it; `None`
    /// when that was done before. The switch ends nothing any more.
    pub(super) fn into_parts(mut self) -> Option<(TcpStream, Permit<AddressKey>)> {
        self.tcp.take().zip(self.permit.take())
    }

    /// Fails a write that has waited for too long, or whose stream was killed.
    fn poll_guard(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let now = Instant::now();
        if self.switch.block(now) {
            self.stalled.as_mut().reset(now + self.write_stall);
        }
        if self.stalled.as_mut().poll(context).is_ready() {
            self.switch.ended(Cause::Stalled);
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        ready!(self.write_killed.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::ConnectionAborted.into())
    }

    /// Runs one kind of write under the guard.
    fn poll_guarded<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.switch.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let tcp = self.tcp.as_mut().ok_or(io::ErrorKind::NotConnected);
        match write(Pin::new(tcp?), context) {
            Poll::Ready(result) => {
                self.switch.unblock();
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_guard(context).map(Err),
        }
    }
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        if self.switch.is_blocked() {
            // Else the system would keep megabytes for a peer that takes none of them, long after
            // the stream's end; and that peer, should it read again, would read them.
            if let Some(tcp) = &self.tcp {
                let _ = tcp.set_zero_linger();
            }
        }
        // Whoever holds the switch learns that there is nothing left to kill.
        self.switch.ended(if self.switch.is_closed() {
            Cause::Drained
        } else {
            Cause::Client
        });
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_killed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match this.tcp.as_mut() {
            Some(tcp) => Pin::new(tcp).poll_read(context, buffer),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_guarded(context, |tcp, context| tcp.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_guarded(context, |tcp, context| {
            tcp.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP itself has nothing to flush, so that is no progress either.
        match self.get_mut().tcp.as_mut() {
            Some(tcp) => Pin::new(tcp).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().tcp.as_mut() {
            Some(tcp) => Pin::new(tcp).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}
