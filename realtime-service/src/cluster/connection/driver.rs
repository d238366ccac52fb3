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
    time::{Instant, Sleep, sleep_until},
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

/// Maximum number of reads before requests are written again. It is far below the number of operations after which
/// tokio makes a task yield, so that writes and timers are not refused.
const MAXIMUM_READS: usize = 16;

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
        let written = driver.poll_write(context);
        let read = driver.poll_read(context);
        driver.poll_deadlines(context);
        let cause = match (read, written) {
            // The server's own cause is in its bytes: a write fails after the server has closed the connection.
            (Poll::Ready(Err(cause)), _) => cause,
            (_, Poll::Ready(Err(cause))) => cause.into(),
            _ => return Poll::Pending,
        };
        driver.shared.lock().note_cause(cause);
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Receiver> Driver<S, R> {
    /// Reads what has arrived, in at most [`MAXIMUM_READS`] reads. Ready only with the cause of the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<RedisResult<()>> {
        for _ in 0..MAXIMUM_READS {
            if self.incoming.is_empty() && self.incoming.capacity() > KEPT_BYTES {
                self.incoming = BytesMut::new();
            }
            self.incoming.reserve(READ_BYTES);
            let stream = Pin::new(&mut self.stream);
            if ready!(poll_read_buf(stream, context, &mut self.incoming))? == 0 {
                let text = "the server has closed the connection";
                let end = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                return Poll::Ready(Err(end.into()));
            }
            self.take_frames()?;
        }
        context.waker().wake_by_ref();
        Poll::Pending
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

    /// Writes all requests. Ready when they are written and flushed.
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
                count => {
                    self.written += count;
                    self.shared.lock().unwritten -= count;
                }
            }
        }
    }

    /// Sets the timer for the first deadline. All requests have the same time to wait, so that a timer that is set
    /// ends before the deadlines of later ones. The clock decides: a timer is not ready while tokio makes the task
    /// yield.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) {
        loop {
            match &mut self.timer {
                Some(timer) => {
                    let is_early = timer.deadline() > Instant::now();
                    if is_early && timer.as_mut().poll(context).is_pending() {
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
