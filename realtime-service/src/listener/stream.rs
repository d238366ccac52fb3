//! A TCP stream with a kill switch and a deadline for writes that get nowhere.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
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

use super::{
    Connection,
    refusal_data::{RefusalData, Rewriter},
};
use crate::limits::Permit;

/// Closes one stream from outside, however backlogged it is.
///
/// It outlives the HTTP request that it came with: after an upgrade it is the WebSocket's.
#[derive(Clone)]
pub struct KillSwitch(CancellationToken);

impl KillSwitch {
    /// A switch that `parent` throws together with all of its others.
    #[must_use]
    pub fn new(parent: &CancellationToken) -> Self {
        Self(parent.child_token())
    }

    /// Closes the stream: reads end, writes fail, and whoever waits for either is woken.
    pub fn close(&self) {
        self.0.cancel();
    }

    /// Resolves when the stream is closed.
    pub async fn closed(&self) {
        self.0.cancelled().await;
    }

    /// Whether the stream is closed, by this switch or because it was dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Bytes that wait for a client. It counts what is sent to it, and not the few bytes that Socket.IO
/// adds, so it is never more than there is.
#[derive(Clone, Default)]
pub struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Adds what was queued, and tells how much waits now.
    pub fn add(&self, bytes: usize) -> usize {
        self.0.fetch_add(bytes, Ordering::AcqRel) + bytes
    }

    /// Takes off what was written.
    pub fn remove(&self, bytes: usize) {
        let taken = |waiting: usize| Some(waiting.saturating_sub(bytes));
        // The closure always gives a value, so this cannot fail.
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, taken);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// Where the place of an Engine.IO session stands, until the session or its stream ends, whichever
/// is first: socketioxide keeps what belongs to a session for longer than that.
#[derive(Clone, Default)]
pub struct Place(Arc<Mutex<Option<Permit>>>);

impl Place {
    /// Takes `permit` in.
    pub fn keep(&self, permit: Permit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Gives back what it holds.
    pub fn give_back(&self) {
        let _permit = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// A TCP stream that ends when its [`KillSwitch`] is thrown, or when its peer takes nothing for
/// as long as the write stall allows.
///
/// Without the latter a client that stops reading stays for ever: its writer blocks under a lock
/// that the heartbeat needs to end the session.
pub struct GuardedStream {
    tcp: TcpStream,
    switch: KillSwitch,
    // Two, because reading and writing happen in two tasks, each with a waker of its own.
    read_killed: Pin<Box<WaitForCancellationFutureOwned>>,
    write_killed: Pin<Box<WaitForCancellationFutureOwned>>,
    write_stall: Duration,
    stalled: Pin<Box<Sleep>>,
    is_stalling: bool,
    refusal_data: RefusalData,
    rewriter: Rewriter,
    /// What was rewritten and waits to be written.
    rewritten: Vec<u8>,
    place: Place,
    backlog: Arc<OnceLock<Backlog>>,
    _permit: Permit,
}

impl GuardedStream {
    /// Guards `tcp`, which is `connection`'s; `permit` is given back when the stream ends.
    #[must_use]
    pub fn new(
        tcp: TcpStream,
        connection: &Connection,
        write_stall: Duration,
        permit: Permit,
    ) -> Self {
        let Connection {
            switch,
            refusal_data,
            place,
            backlog,
            ..
        } = connection.clone();
        Self {
            tcp,
            read_killed: Box::pin(switch.0.clone().cancelled_owned()),
            write_killed: Box::pin(switch.0.clone().cancelled_owned()),
            switch,
            write_stall,
            stalled: Box::pin(tokio::time::sleep(write_stall)),
            is_stalling: false,
            refusal_data,
            rewriter: Rewriter::default(),
            rewritten: Vec::new(),
            place,
            backlog,
            _permit: permit,
        }
    }

    /// Fails a write that has waited for too long, or whose stream was killed.
    fn poll_guard(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if !self.is_stalling {
            self.is_stalling = true;
            self.stalled
                .as_mut()
                .reset(Instant::now() + self.write_stall);
        }
        if self.stalled.as_mut().poll(context).is_ready() {
            self.switch.close();
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
        match write(Pin::new(&mut self.tcp), context) {
            Poll::Ready(result) => {
                self.is_stalling = false;
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_guard(context).map(Err),
        }
    }
}

impl GuardedStream {
    /// Whether writes go through the rewriter: while refusals get their data, and until the last
    /// byte that was held back for it is out.
    fn is_rewriting(&self) -> bool {
        self.refusal_data.dialect().is_some()
            || !self.rewritten.is_empty()
            || self.rewriter.holds_back()
    }

    /// Takes all of `bytes`, once what came before them is out.
    fn poll_rewrite(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_rewritten(context))?;
        self.rewriter
            .push(bytes, self.refusal_data.dialect(), &mut self.rewritten);
        match self.poll_write_rewritten(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is left goes out with the next write or flush.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Takes what was written off the backlog of the session that this stream serves.
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(bytes)), Some(backlog)) = (&written, self.backlog.get()) {
            backlog.remove(*bytes);
        }
        written
    }

    fn poll_write_rewritten(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rewritten.is_empty() {
            let bytes = std::mem::take(&mut self.rewritten);
            let written =
                self.poll_guarded(context, |tcp, context| tcp.poll_write(context, &bytes));
            self.rewritten = bytes;
            let written = ready!(self.count(written))?;
            self.rewritten.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        // Whoever holds the switch learns that there is nothing left to kill.
        self.switch.close();
        self.place.give_back();
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
        Pin::new(&mut this.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_rewriting() {
            return this.poll_rewrite(context, bytes);
        }
        let written = this.poll_guarded(context, |tcp, context| tcp.poll_write(context, bytes));
        this.count(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_rewriting() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return this.poll_rewrite(context, first.map_or(&[], |slice| slice));
        }
        let written = this.poll_guarded(context, |tcp, context| {
            tcp.poll_write_vectored(context, slices)
        });
        this.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_rewritten(context))?;
        // TCP itself has nothing to flush, so that is no progress either.
        Pin::new(&mut this.tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
