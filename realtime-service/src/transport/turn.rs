//! Turns: periods in which the writes to a connection are collected, so that the connection is
//! written once with all packets that wait for it.
//!
//! A turn belongs to one thread. The clocks of the thread stand still in the short turns of the gateway
//! itself, and go on in the turns of [`in_turn`]. Outside of a turn, a connection is written at once.

use std::{
    cell::RefCell,
    future::poll_fn,
    marker::PhantomData,
    mem,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::Arc,
    task::Poll,
    vec,
};

use tokio::{runtime::Handle, time::Instant};

use crate::{clock, sync::thread_local};

/// Maximum number of connections that the thread which ends a turn writes itself. Tasks write more, so that
/// a message to a crowd neither delays the other connections of the thread nor stays on one core.
const CONNECTIONS_PER_TURN: usize = 256;

/// Maximum number of connections that one such task writes.
const CONNECTIONS_PER_TASK: usize = 256;

/// Number of connections that such a task writes before it yields to other tasks.
const CONNECTIONS_PER_YIELD: usize = 128;

/// Number of yields before the first write. Tasks that are ready run first, and their messages leave in the
/// same write.
const FIRST_YIELDS: usize = 2;

/// A connection with packets that wait to be written.
pub trait Flush: Send + Sync {
    /// Writes the packets that wait, as many as the connection takes now. `now` is the current
    /// time.
    fn flush_now(self: Arc<Self>, now: Instant);
}

#[derive(Default)]
struct Pending {
    /// How many turns are open on this thread, one inside the other.
    depth: usize,
    connections: Vec<Arc<dyn Flush>>,
}

thread_local! {
    static PENDING: RefCell<Pending> = RefCell::default();
}

/// Runs `work` with what is pending on this thread.
fn with_pending<T>(work: impl FnOnce(&mut Pending) -> T) -> T {
    PENDING.with(|pending| work(&mut pending.borrow_mut()))
}

/// An open turn on this thread. Dropping the outermost turn writes the connections.
///
/// A turn must not be held across an `.await`: [`in_turn`] opens one for each poll of a future.
#[must_use = "the turn ends when the guard is dropped"]
pub struct Turn {
    /// A turn is bound to its thread.
    _not_send: PhantomData<*const ()>,
}

impl Turn {
    /// Opens a turn, inside of the turn that is already open on this thread, if there is one. The
    /// outermost turn stops the clocks of the thread, so no code of an application runs in it.
    pub fn begin() -> Self {
        let turn = Self::open();
        if is_outermost() {
            clock::stop();
        }
        turn
    }

    /// Opens a turn, and leaves the clocks as they are.
    fn open() -> Self {
        with_pending(|pending| pending.depth += 1);
        Self {
            _not_send: PhantomData,
        }
    }
}

/// Whether the turn that was opened last on this thread is the outermost one.
fn is_outermost() -> bool {
    with_pending(|pending| pending.depth == 1)
}

impl Drop for Turn {
    fn drop(&mut self) {
        if is_outermost() {
            clock::go_on();
            write_pending();
        }
        with_pending(|pending| pending.depth -= 1);
    }
}

/// Runs `work` in a turn, and writes the connections afterwards.
pub fn scope<T>(work: impl FnOnce() -> T) -> T {
    let _turn = Turn::begin();
    work()
}

/// Runs `future` with a turn around each poll. The clocks go on in these turns, because a handler of an
/// application may block its thread for any time.
pub async fn in_turn<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _turn = Turn::open();
        future.as_mut().poll(context)
    })
    .await
}

/// Notes that `connection` is to be written when the turn of this thread ends; outside of a turn,
/// writes the connection at once.
///
/// The caller sees to it that a connection which is noted is not noted again before it is written.
pub(crate) fn flush(connection: Arc<dyn Flush>) {
    let immediately = with_pending(|pending| match pending.depth {
        0 => Some(connection),
        _ => {
            pending.connections.push(connection);
            None
        }
    });
    if let Some(connection) = immediately {
        connection.flush_now(Instant::now());
    }
}

/// Writes a connection. A panic in the write concerns that connection alone: the turn ends, and the
/// others are written.
fn write(connection: Arc<dyn Flush>, now: Instant) {
    let written = panic::catch_unwind(AssertUnwindSafe(|| connection.flush_now(now)));
    if written.is_err() {
        tracing::error!("a write to a connection panicked");
    }
}

/// Writes the connections that were noted. The turn is still open meanwhile, so a connection that is
/// noted by a write is written too.
fn write_pending() {
    loop {
        let mut connections = with_pending(|pending| mem::take(&mut pending.connections));
        if connections.is_empty() {
            return;
        }
        if connections.len() > CONNECTIONS_PER_TURN {
            connections = spawn_writers(connections);
        }
        let now = Instant::now();
        for connection in connections.drain(..) {
            write(connection, now);
        }
        if connections.capacity() <= CONNECTIONS_PER_TURN {
            with_pending(|pending| {
                if pending.connections.is_empty() {
                    pending.connections = connections;
                }
            });
        }
    }
}

/// Spawns tasks that write `connections`; returns the connections when there is no runtime.
fn spawn_writers(mut connections: Vec<Arc<dyn Flush>>) -> Vec<Arc<dyn Flush>> {
    let Ok(runtime) = Handle::try_current() else {
        return connections;
    };
    while !connections.is_empty() {
        let start = connections.len().saturating_sub(CONNECTIONS_PER_TASK);
        let batch = connections.split_off(start);
        let mut batch = Batch(batch.into_iter());
        runtime.spawn(async move {
            for _ in 0..FIRST_YIELDS {
                yield_to_ready().await;
            }
            while batch.write_some() {
                yield_to_ready().await;
            }
        });
    }
    Vec::new()
}

/// Lets the tasks run that are ready. The waiting task stays in the run queue, from which any thread may
/// take it. A task in tokio's `yield_now` waits for the thread that it yielded on, whatever runs there.
pub(in crate::transport) async fn yield_to_ready() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The connections that one task writes. Dropping the batch writes those that are left, for example when
/// the runtime ends: a connection that is noted and not written would never be written again.
struct Batch(vec::IntoIter<Arc<dyn Flush>>);

impl Batch {
    /// Writes the next [`CONNECTIONS_PER_YIELD`] connections. Returns whether any are left.
    fn write_some(&mut self) -> bool {
        let now = Instant::now();
        for connection in self.0.by_ref().take(CONNECTIONS_PER_YIELD) {
            write(connection, now);
        }
        !self.0.as_slice().is_empty()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        while self.write_some() {}
    }
}

#[cfg(test)]
mod tests;
