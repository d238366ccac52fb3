//! The task of a connection: it reads and writes the stream, and watches the deadlines of the requests.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use redis::RedisResult;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep_until},
};
use tokio_util::{
    bytes::{Buf as _, BytesMut},
    io::poll_read_buf,
};

use super::{
    Receiver, Shared,
    resp::{self, Frame, Scan},
};

/// The largest buffer that an idle connection keeps, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// Minimum free space of the buffer for a read, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// The future that reads and writes the stream, until it ends.
pub(super) struct Driver<S, R: Receiver> {
    stream: S,
    receiver: R,
    shared: Arc<Shared>,
    incoming: BytesMut,
    scan: Scan,
    /// Requests that are written, of which `written` bytes are.
    outgoing: Vec<u8>,
    written: usize,
    /// Ends at the deadline of a request, or before one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S, R: Receiver> Driver<S, R> {
    pub(super) fn new(stream: S, receiver: R, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            receiver,
            shared,
            incoming: BytesMut::new(),
            scan: Scan::default(),
            outgoing: Vec::new(),
            written: 0,
            timer: None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Receiver> Future for Driver<S, R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        driver.shared.task.register(context.waker());
        let read = driver.poll_read(context);
        let written = driver.poll_write(context);
        driver.poll_deadlines(context);
        match (read, written) {
            (Poll::Ready(_), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Receiver> Driver<S, R> {
    /// Reads until the stream has nothing more, and is ready when the stream has ended.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<RedisResult<()>> {
        loop {
            if self.incoming.is_empty() && self.incoming.capacity() > KEPT_BYTES {
                self.incoming = BytesMut::new();
            }
            self.incoming.reserve(READ_BYTES);
            let stream = Pin::new(&mut self.stream);
            if ready!(poll_read_buf(stream, context, &mut self.incoming))? == 0 {
                return Poll::Ready(Ok(()));
            }
            self.take_frames()?;
        }
    }

    fn take_frames(&mut self) -> RedisResult<()> {
        let mut start = 0;
        while start < self.incoming.len() {
            let bytes = &self.incoming[start..];
            let Some(length) = self.scan.length(bytes)? else {
                break;
            };
            match resp::decode(&bytes[..length])? {
                Frame::Answer(answer) => self.shared.answer(answer),
                Frame::Push(parts) => {
                    self.receiver.receive(&parts);
                    if let Some(kind) = parts.first().filter(|kind| is_confirmation(kind)) {
                        self.shared.confirm(kind);
                    }
                }
            }
            start += length;
        }
        self.incoming.advance(start);
        Ok(())
    }

    /// Writes all requests.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.outgoing.len() {
                self.outgoing.clear();
                self.outgoing.shrink_to(KEPT_BYTES);
                self.written = 0;
                std::mem::swap(&mut self.outgoing, &mut self.shared.lock().outgoing);
                if self.outgoing.is_empty() {
                    return Pin::new(&mut self.stream).poll_flush(context);
                }
            }
            let rest = &self.outgoing[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
    }

    /// Sets the timer for the first deadline. All requests have the same time to wait, so that a timer that is set
    /// ends before the deadlines of later ones.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) {
        loop {
            match &mut self.timer {
                Some(timer) => {
                    if timer.as_mut().poll(context).is_pending() {
                        return;
                    }
                    self.timer = None;
                }
                None => match self.shared.expire() {
                    Some(deadline) => self.timer = Some(Box::pin(sleep_until(deadline))),
                    None => return,
                },
            }
        }
    }
}

impl<S, R: Receiver> Drop for Driver<S, R> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.receiver.end();
        drop(waiting);
    }
}

/// Whether push messages of a kind confirm a request.
fn is_confirmation(kind: &[u8]) -> bool {
    kind.ends_with(b"subscribe")
}
