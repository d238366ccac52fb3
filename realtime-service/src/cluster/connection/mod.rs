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
pub(super) use self::open::{greeting_error, repeats_arguments};

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
    /// Number of unwritten bytes above which further requests are refused. The unwritten bytes exceed it by one
    /// request at most.
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
    /// Number of bytes of all requests that are not written to the stream, with those that the task has taken.
    unwritten: usize,
    waiting: VecDeque<Waiting>,
    /// Number of requests at the front of `waiting` that have waited for too long.
    expired: usize,
    is_closed: bool,
    /// The first error of the stream, or the error answer that came without a request.
    cause: Option<RedisError>,
}

impl State {
    /// Notes the cause of the end of the connection, as an unrecoverable error. The first cause counts.
    fn note_cause(&mut self, cause: RedisError) {
        self.cause.get_or_insert_with(|| {
            match cause.is_unrecoverable_error() && !cause.is_timeout() {
                true => cause,
                false => {
                    let text = cause.to_string();
                    io::Error::new(io::ErrorKind::ConnectionAborted, text).into()
                }
            }
        });
    }

    /// Returns the error of a connection that has ended.
    fn closed_error(&self) -> RedisError {
        let unknown = || io::Error::from(io::ErrorKind::BrokenPipe).into();
        self.cause.clone().unwrap_or_else(unknown)
    }
}

/// A request that waits for its answer.
struct Waiting {
    /// `None` once the request has waited for too long.
    answer: Option<oneshot::Sender<RedisResult<Value>>>,
    deadline: Instant,
    /// The kind of the push messages that confirm the request. Upper and lower case are the same.
    kind: &'static str,
    /// Number of push messages of `kind` that are missing. A request that needs none has an answer of its own.
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
                return Err(state.closed_error());
            }
            if state.unwritten > self.limits.unread_bytes {
                return Err(refused_error());
            }
            let before = state.outgoing.len();
            write(&mut state.outgoing);
            state.unwritten += state.outgoing.len() - before;
            state.waiting.push_back(waiting);
        }
        self.shared.task.wake();
        let ended = |_| Err(self.shared.lock().closed_error());
        answer.await.unwrap_or_else(ended)
    }

    /// Returns the cause of the end of the connection, if it is known.
    pub(super) fn cause(&self) -> Option<RedisError> {
        self.shared.lock().cause.clone()
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

    /// Answers the request that has waited for longest. Without a request, an error is why the server is about to
    /// close the connection.
    fn answer(&self, answer: Value) {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.pop_front() else {
            match answer.extract_error() {
                Err(cause) if !repeats_arguments(&cause) => state.note_cause(cause),
                _ => {}
            }
            return;
        };
        state.expired = state.expired.saturating_sub(1);
        drop(state);
        if let Some(sender) = waiting.answer {
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

    /// Fails the requests that have waited for too long, and returns the deadline of the next one. The deadlines are in
    /// the order of the requests. However many have expired, they are passed over at once.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        while let Some(waiting) = state.waiting.get_mut(state.expired) {
            if waiting.deadline > now {
                return Some(waiting.deadline);
            }
            if let Some(sender) = waiting.answer.take() {
                // The request may have been given up.
                let _ = sender.send(Err(timeout_error()));
            }
            state.expired += 1;
        }
        None
    }
}

/// Whether a request was not sent, since the server reads too slowly.
pub(super) fn is_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Client
}

/// Whether a request has no answer: it was refused here, took too long, or the connection has ended.
pub(super) fn is_unanswered(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_timeout() || is_refused(error)
}

/// Returns the error of a request for which [`is_refused`] holds.
fn refused_error() -> RedisError {
    let text = "the server reads too slowly: cluster.pending_bytes of requests are not written";
    (ErrorKind::Client, text).into()
}

/// Returns the error of a request that the server does not answer in time.
fn timeout_error() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests;
