//! One stream to a server of Redis, over which requests are pipelined. Answers arrive in the order of the requests,
//! with push messages between them.
//!
//! A task reads and writes the stream. Requests that are made before it runs share a write, and push messages are
//! handed on without a copy.

mod driver;
mod open;
mod resp;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    time::Instant,
};

use self::driver::Driver;
pub(super) use self::open::greeting_error;

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

/// Limits of a connection.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Maximum time that the server may take to answer.
    pub(super) timeout: Duration,
    /// Maximum size of the requests that the server does not read, in bytes, without the last one.
    pub(super) unread_bytes: usize,
}

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
    /// The kind of the push messages that answer the request, in whatever case, and how many are missing. A request
    /// without any has an answer of its own.
    kind: &'static str,
    confirmations: usize,
}

impl Connection {
    /// Runs a connection over `stream`.
    pub(super) fn spawn<S>(stream: S, receiver: impl Receiver, limits: Limits) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::<Shared>::default();
        let driver = Driver::new(stream, receiver, shared.clone());
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
        self.request(write, "", 0).await
    }

    /// Sends a command as [`Self::send`] does, which is encoded already.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::send`].
    pub(super) async fn send_encoded(&self, command: &[u8]) -> RedisResult<Value> {
        let write = |outgoing: &mut Vec<u8>| outgoing.extend_from_slice(command);
        self.request(write, "", 0).await
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
        let answer = self.request(write, command, channels.len()).await?;
        answer.extract_error().map(|_| ())
    }

    async fn request(
        &self,
        write: impl FnOnce(&mut Vec<u8>),
        kind: &'static str,
        confirmations: usize,
    ) -> RedisResult<Value> {
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting {
            answer: Some(sender),
            deadline: Instant::now() + self.limits.timeout,
            kind,
            confirmations,
        };
        {
            let mut state = self.shared.lock();
            if state.is_closed {
                return Err(closed());
            }
            if state.outgoing.len() > self.limits.unread_bytes {
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
            // The request may have been given up.
            let _ = sender.send(Ok(answer));
        }
    }

    /// Counts a push message for the request that it confirms, if it does.
    fn confirm(&self, kind: &[u8]) {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.front_mut() else {
            return;
        };
        if waiting.confirmations == 0 || !kind.eq_ignore_ascii_case(waiting.kind.as_bytes()) {
            return;
        }
        waiting.confirmations -= 1;
        if waiting.confirmations == 0 {
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
