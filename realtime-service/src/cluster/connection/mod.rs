//! One stream to a server of Redis, over which requests are pipelined. Answers arrive in the order of the requests,
//! with push messages between them.
//!
//! A task reads and writes the stream. Requests that are made before it runs share a write, and push messages are
//! handed on where they lie in the buffer.

mod open;
mod resp;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value, aio::ConnectionLike,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::{bytes::BytesMut, io::poll_read_buf};

use self::resp::{Frame, Scan};

/// The largest buffer that an idle connection keeps, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// Minimum free space of the buffer for a read, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Takes the parts of a push message, the kind first. It must not block: the connection waits for it.
pub(super) trait Receiver: Send + Sync + Unpin + 'static {
    /// Takes a push message.
    fn receive(&self, parts: &[&[u8]]);

    /// Learns that the connection has ended.
    fn end(&self);
}

/// A connection. Clones share it; it ends with the last one.
#[derive(Clone)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    limits: Limits,
    _task: Arc<Task>,
}

/// Maximum time that the server may take to answer, and maximum size of the requests that it does not read, in bytes.
pub(super) type Limits = (Duration, usize);

/// The task of a connection, which is aborted when the value is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the task when there is something to write.
    task: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// Requests that the task has not taken, encoded.
    outgoing: Vec<u8>,
    waiting: VecDeque<Waiting>,
    is_closed: bool,
}

/// A request that waits for its answer.
struct Waiting {
    /// `None` once the request has waited for too long.
    answer: Option<oneshot::Sender<RedisResult<Value>>>,
    deadline: Instant,
    /// The kind and the number of the push messages that answer the request; 0 for an answer of its own.
    confirmations: (&'static str, usize),
}

impl Connection {
    /// Runs a connection over `stream`.
    pub(super) fn spawn<S>(stream: S, receiver: impl Receiver, limits: Limits) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::<Shared>::default();
        let driver = Driver {
            stream,
            receiver,
            shared: shared.clone(),
            incoming: BytesMut::new(),
            scan: Scan::default(),
            outgoing: Vec::new(),
            written: 0,
            timer: None,
        };
        let task = tokio::spawn(driver);
        Self {
            shared,
            limits,
            _task: Arc::new(Task(task.abort_handle())),
        }
    }

    /// Sends a command and awaits its answer, which may be an error of the server. A request whose future is dropped
    /// may be carried out.
    ///
    /// # Errors
    ///
    /// When the connection ends, or no answer arrives in time.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let write = |outgoing: &mut Vec<u8>| command.write_packed_command(outgoing);
        self.request(write, ("", 0)).await
    }

    /// Sends a command as [`Self::send`] does, which is encoded already.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::send`].
    pub(super) async fn send_encoded(&self, command: &[u8]) -> RedisResult<Value> {
        let write = |outgoing: &mut Vec<u8>| outgoing.extend_from_slice(command);
        self.request(write, ("", 0)).await
    }

    /// Subscribes to channels, or ends their subscriptions, by `command`, and waits until the server has confirmed
    /// all of them.
    ///
    /// # Errors
    ///
    /// When the server refuses, the connection ends, or no answer arrives in time.
    pub(super) async fn change_channels(
        &self,
        command: &'static str,
        channels: &[Arc<str>],
    ) -> RedisResult<()> {
        let mut request = redis::cmd(command);
        for channel in channels {
            request.arg(&**channel);
        }
        let write = |outgoing: &mut Vec<u8>| request.write_packed_command(outgoing);
        let answer = self.request(write, (command, channels.len())).await?;
        answer.extract_error().map(|_| ())
    }

    async fn request(
        &self,
        write: impl FnOnce(&mut Vec<u8>),
        confirmations: (&'static str, usize),
    ) -> RedisResult<Value> {
        let (sender, answer) = oneshot::channel();
        let (timeout, maximum_bytes) = self.limits;
        let waiting = Waiting {
            answer: Some(sender),
            deadline: Instant::now() + timeout,
            confirmations,
        };
        {
            let mut state = self.shared.lock();
            if state.is_closed {
                return Err(closed());
            }
            if state.outgoing.len() > maximum_bytes {
                return Err(late());
            }
            write(&mut state.outgoing);
            state.waiting.push_back(waiting);
        }
        self.shared.task.wake();
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.send(command))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let unsupported = (ErrorKind::Client, "requests are pipelined one by one");
        Box::pin(async move { Err(RedisError::from(unsupported)) })
    }

    fn get_db(&self) -> i64 {
        0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the request that has waited for longest.
    fn answer(&self, answer: Value) {
        let waiting = self.lock().waiting.pop_front();
        if let Some(sender) = waiting.and_then(|waiting| waiting.answer) {
            // Whoever asked may have given up.
            let _ = sender.send(Ok(answer));
        }
    }

    /// Counts a push message for the request that it confirms, if it does.
    fn confirm(&self, kind: &[u8]) {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.front_mut() else {
            return;
        };
        let (command, count) = &mut waiting.confirmations;
        if *count == 0 || !kind.eq_ignore_ascii_case(command.as_bytes()) {
            return;
        }
        *count -= 1;
        if *count == 0 {
            drop(state);
            self.answer(Value::Okay);
        }
    }

    /// Fails the requests that have waited for too long, and returns the deadline of the next one.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut waiting = state.waiting.iter_mut();
        waiting.find_map(|waiting| {
            waiting.answer.as_ref()?;
            if waiting.deadline > now {
                return Some(waiting.deadline);
            }
            let _ = waiting.answer.take()?.send(Err(late()));
            None
        })
    }
}

/// The future that reads and writes the stream, until it ends.
struct Driver<S, R: Receiver> {
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
        tokio_util::bytes::Buf::advance(&mut self.incoming, start);
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

/// The error of a request that the server does not read or answer in time.
fn late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// The error of a connection that has ended.
fn closed() -> RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}

#[cfg(test)]
mod tests;
