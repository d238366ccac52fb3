//! What a session's bytes pass on their way out, in the clear: above TLS, where there is TLS.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwapOption;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Connection,
    refusal_data::{RefusalData, Rewriter},
};
use crate::limits::{AddressKey, Permit};

/// Bytes that wait for a client. It counts what is sent to it, and not the few bytes that Socket.IO
/// adds, so it is never more than there is.
#[derive(Clone, Default)]
pub struct Backlog(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// What follows when there is nothing left.
    when_flushed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Backlog {
    /// Adds what was queued, and tells how much waits now.
    pub fn add(&self, bytes: usize) -> usize {
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes
    }

    /// Takes off what was written.
    pub fn remove(&self, bytes: usize) {
        let taken = |waiting: usize| Some(waiting.saturating_sub(bytes));
        // The closure always gives a value, so this cannot fail.
        let _ = self
            .0
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, taken);
    }

    /// How much waits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Adds the `bytes` of the last packet, before it is queued. Once it has left by a WebSocket,
    /// `action` follows.
    pub fn add_last(&self, bytes: usize, action: impl Fn() + Send + Sync + 'static) {
        self.add(bytes);
        // There is one end, and so one last packet.
        let _ = self.0.when_flushed.set(Box::new(action));
    }

    /// Notes that all that was written has left.
    fn flushed(&self) {
        if let Some(action) = self.0.when_flushed.get()
            && self.is_empty()
        {
            action();
        }
    }
}

/// Where the place of an Engine.IO session stands, until the session or its stream ends, whichever
/// is first: socketioxide keeps what belongs to a session for longer than that.
#[derive(Clone, Default)]
pub struct Place(Arc<Mutex<Option<Permit<AddressKey>>>>);

impl Place {
    /// Takes `permit` in.
    pub fn keep(&self, permit: Permit<AddressKey>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Gives back what it holds.
    pub fn give_back(&self) {
        let _permit = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// A stream that adds to refusals what socketioxide leaves out, and takes what was written off the
/// backlog of the session that it serves.
pub struct ServedStream<S> {
    inner: S,
    refusal_data: RefusalData,
    rewriter: Rewriter,
    /// What was rewritten and waits to be written.
    rewritten: Vec<u8>,
    place: Place,
    backlog: Arc<ArcSwapOption<Backlog>>,
}

impl<S: AsyncWrite + Unpin> ServedStream<S> {
    /// Serves `connection` over `inner`.
    #[must_use]
    pub fn new(inner: S, connection: &Connection) -> Self {
        Self {
            inner,
            refusal_data: connection.refusal_data.clone(),
            rewriter: Rewriter::default(),
            rewritten: Vec::new(),
            place: connection.place.clone(),
            backlog: connection.backlog.clone(),
        }
    }

    /// Whether writes go through the rewriter: on a WebSocket, and until the last byte that was held
    /// back is out.
    fn is_rewriting(&self) -> bool {
        self.refusal_data.dialect().is_some()
            || !self.rewritten.is_empty()
            || self.rewriter.holds_back()
    }

    /// Writes those of `bytes` that need no look, or takes all of them, once what came before them
    /// is out.
    fn poll_rewrite(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_rewritten(context))?;
        let untouched = self.rewriter.untouched(bytes);
        if untouched > 0 {
            let written = Pin::new(&mut self.inner).poll_write(context, &bytes[..untouched]);
            if let Poll::Ready(Ok(written)) = written {
                self.rewriter.passed(bytes, written);
            }
            return self.count(written);
        }
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
        if let (Poll::Ready(Ok(bytes)), Some(backlog)) = (&written, &*self.backlog.load()) {
            backlog.remove(*bytes);
        }
        written
    }

    fn poll_write_rewritten(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rewritten.is_empty() {
            let bytes = std::mem::take(&mut self.rewritten);
            let written = Pin::new(&mut self.inner).poll_write(context, &bytes);
            self.rewritten = bytes;
            let written = ready!(self.count(written))?;
            self.rewritten.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Drop for ServedStream<S> {
    fn drop(&mut self) {
        self.place.give_back();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ServedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ServedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_rewriting() {
            return this.poll_rewrite(context, bytes);
        }
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
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
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_rewritten(context))?;
        ready!(Pin::new(&mut this.inner).poll_flush(context))?;
        if let Some(backlog) = this.backlog.load_full() {
            backlog.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::listener::KillSwitch;

    /// A stream for `backlog` with room for so many bytes, and its other end.
    fn serving(backlog: &Backlog, room: usize) -> (ServedStream<impl AsyncWrite>, impl AsyncRead) {
        let (near, far) = duplex(room);
        let connection = Connection {
            peer: ([127, 0, 0, 1], 1).into(),
            trusted_proxies: Arc::default(),
            switch: KillSwitch::new(&CancellationToken::new()),
            refusal_data: RefusalData::default(),
            place: Place::default(),
            backlog: Arc::new(ArcSwapOption::from_pointee(backlog.clone())),
        };
        (ServedStream::new(near, &connection), far)
    }

    /// A last packet of two bytes, and how often its action has followed.
    fn add_last(backlog: &Backlog) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        backlog.add_last(2, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        count
    }

    #[tokio::test]
    async fn a_last_packet_has_left_once_it_is_flushed_and_not_with_an_earlier_one() {
        let backlog = Backlog::default();
        let (mut stream, _far) = serving(&backlog, 100);
        stream.flush().await.expect("flushed");
        let ended = add_last(&backlog);
        stream.flush().await.expect("flushed");
        assert_eq!(ended.load(Ordering::Relaxed), 0, "nothing has left yet");
        stream.write_all(b"41").await.expect("written");
        assert_eq!(ended.load(Ordering::Relaxed), 0, "it may be in a buffer");
        stream.flush().await.expect("flushed");
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_the_client_does_not_take_has_not_left() {
        let backlog = Backlog::default();
        let (mut stream, mut far) = serving(&backlog, 1);
        let ended = add_last(&backlog);
        let leaving = async {
            stream.write_all(b"41").await.expect("written");
            stream.flush().await.expect("flushed");
        };
        tokio::select! {
            biased;
            () = leaving => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(ended.load(Ordering::Relaxed), 0);
        let mut taken = [0; 1];
        far.read_exact(&mut taken).await.expect("a byte");
        stream.write_all(b"1").await.expect("written");
        stream.flush().await.expect("flushed");
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }
}
