//! The stream of a connection above TLS, where the bytes of its session are in the clear.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::{
    Connection, GuardedStream, Place, frames::FrameCounter, head::LengthWatch,
    refusal_data::Rewriter,
};
use crate::transport::engine::{self, ClientStream, Recover, Recovered};

/// The beginning of a response that makes a connection a WebSocket.
const SWITCHING_PROTOCOLS: &[u8] = b"HTTP/1.1 101 ";

/// Maximum length of a response that is copied into one piece, because a vectored write costs more than
/// the copy.
const SMALL_WRITE_BYTES: usize = 1024;

/// A stream that adds the data of refusals, which socketioxide leaves out, and tells the session that
/// it serves which messages have left. For a WebSocket of the engine it keeps the head of the response,
/// which then leaves with the first packet.
pub struct ServedStream<S> {
    inner: S,
    connection: Arc<Connection>,
    rewriter: Rewriter,
    /// What was rewritten and waits to be written.
    rewritten: Vec<u8>,
    /// The head of the response that makes the connection a WebSocket of the engine.
    unsent: Vec<u8>,
    _place: ReleaseOnDrop,
    counter: FrameCounter,
    lengths: LengthWatch,
}

impl<S: AsyncWrite + Unpin> ServedStream<S> {
    /// Serves `connection` over `inner`.
    #[must_use]
    pub fn new(inner: S, connection: Arc<Connection>) -> Self {
        Self {
            inner,
            rewriter: Rewriter::default(),
            rewritten: Vec::new(),
            unsent: Vec::new(),
            _place: ReleaseOnDrop(connection.place.clone()),
            connection,
            counter: FrameCounter::default(),
            lengths: LengthWatch::default(),
        }
    }

    /// Whether writes go through the rewriter: on a WebSocket, and until the last byte that was held
    /// back is out.
    fn is_rewriting(&self) -> bool {
        self.connection.refusal_data.version().is_some()
            || !self.rewritten.is_empty()
            || self.rewriter.holds_back()
    }

    /// Keeps `bytes` if they are the head of the response that makes the connection a WebSocket of the
    /// engine, and returns whether they are. Nothing else is ever kept, whatever it looks like.
    fn keeps_head(&mut self, bytes: &[u8]) -> bool {
        let is_head = bytes.starts_with(SWITCHING_PROTOCOLS)
            && self.connection.keeps_head.swap(false, Ordering::AcqRel);
        if is_head {
            self.unsent.extend_from_slice(bytes);
        }
        is_head
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
            return self.count(written, bytes);
        }
        self.rewriter.push(
            bytes,
            self.connection.refusal_data.version(),
            &mut self.rewritten,
        );
        match self.poll_write_rewritten(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is left goes out with the next write or flush.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Tells the session that this stream serves which of `bytes` have left.
    fn count(&mut self, written: Poll<io::Result<usize>>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let is_observed = self.connection.observer.is_set();
        if !is_observed {
            // The next WebSocket on this connection begins with a head again.
            self.counter = FrameCounter::default();
        } else if let Poll::Ready(Ok(length)) = &written {
            let frames = self.counter.count(&bytes[..*length]);
            if frames > 0 {
                self.connection.observer.observe(frames);
            }
        }
        written
    }

    fn poll_write_rewritten(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rewritten.is_empty() {
            let bytes = std::mem::take(&mut self.rewritten);
            let written = Pin::new(&mut self.inner).poll_write(context, &bytes);
            let written = self.count(written, &bytes);
            self.rewritten = bytes;
            let written = ready!(written)?;
            self.rewritten.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Recover for ServedStream<GuardedStream> {
    fn recover(self) -> Option<Recovered> {
        let (tcp, permit) = self.inner.into_parts()?;
        Some(Recovered {
            stream: ClientStream::Plain(tcp),
            unsent: self.unsent,
            guard: Some(Box::new(permit)),
        })
    }
}

impl Recover for ServedStream<TlsStream<GuardedStream>> {
    fn recover(self) -> Option<Recovered> {
        let (stream, connection) = self.inner.into_inner();
        let (tcp, permit) = stream.into_parts()?;
        Some(Recovered {
            stream: ClientStream::Tls(tcp, Box::new(connection)),
            unsent: self.unsent,
            guard: Some(Box::new(permit)),
        })
    }
}

/// Takes the stream of a WebSocket back from hyper, with the bytes that hyper has read ahead.
pub fn recover(upgraded: Upgraded) -> Option<(Recovered, Bytes)> {
    match upgraded.downcast::<TokioIo<ServedStream<GuardedStream>>>() {
        Ok(parts) => Some((parts.io.into_inner().recover()?, parts.read_buf)),
        Err(upgraded) => engine::recover::<ServedStream<TlsStream<GuardedStream>>>(upgraded),
    }
}

/// Releases the permit of a session when the stream of its WebSocket ends.
struct ReleaseOnDrop(Place);

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ServedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(context, buffer);
        if this.lengths.read(&buffer.filled()[before..]) {
            this.connection.is_ambiguous.store(true, Ordering::Release);
        }
        read
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
        if this.keeps_head(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.count(written, bytes)
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
        if this.connection.observer.is_set() {
            // A WebSocket writes one buffer at a time.
            let first = slices.iter().find(|slice| !slice.is_empty());
            let bytes = first.map_or(&[][..], |slice| slice);
            let written = Pin::new(&mut this.inner).poll_write(context, bytes);
            return this.count(written, bytes);
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        if let Some(head) = first.filter(|head| this.keeps_head(head)) {
            return Poll::Ready(Ok(head.len()));
        }
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if length > SMALL_WRITE_BYTES {
            return Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        }
        let (mut joined, mut end) = ([0; SMALL_WRITE_BYTES], 0);
        for slice in slices {
            joined[end..end + slice.len()].copy_from_slice(slice);
            end += slice.len();
        }
        Pin::new(&mut this.inner).poll_write(context, &joined[..end])
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_rewritten(context))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
