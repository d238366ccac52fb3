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
};

use tokio::{runtime::Handle, time::Instant};

use crate::{clock, sync::thread_local};

/// How many connections the thread that ends a turn writes itself. Tasks write more than that, so that
/// a message to a crowd neither delays the other connections of the thread nor stays on one core.
const CONNECTIONS_PER_TURN: usize = 256;

/// How many connections one such task writes.
const CONNECTIONS_PER_TASK: usize = 256;

/// How many connections such a task writes before it yields to other tasks.
const CONNECTIONS_PER_YIELD: usize = 128;

/// How often such a task yields before its first write: the tasks that the first yield wakes run before the
/// second one ends. The messages that have arrived meanwhile leave in the same writes.
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
        runtime.spawn(async move {
            for _ in 0..FIRST_YIELDS {
                tokio::task::yield_now().await;
            }
            let mut batch = batch.into_iter();
            while !batch.as_slice().is_empty() {
                let now = Instant::now();
                for connection in batch.by_ref().take(CONNECTIONS_PER_YIELD) {
                    write(connection, now);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            OnceLock,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Flush for Counter {
        fn flush_now(self: Arc<Self>, _: Instant) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counter {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_connection_is_written_when_the_outermost_turn_ends() {
        let counter = Arc::new(Counter::default());
        scope(|| {
            scope(|| flush(counter.clone()));
            assert_eq!(counter.get(), 0);
        });
        assert_eq!(counter.get(), 1);
        flush(counter.clone());
        assert_eq!(counter.get(), 2, "outside of a turn a write is immediate");
    }

    struct Broken;

    impl Flush for Broken {
        fn flush_now(self: Arc<Self>, _: Instant) {
            panic!("a write that panics");
        }
    }

    #[test]
    fn a_write_that_panics_holds_up_no_other_and_no_later_turn() {
        let counter = Arc::new(Counter::default());
        for written in 1..=2 {
            scope(|| {
                flush(Arc::new(Broken));
                flush(counter.clone());
            });
            assert_eq!(counter.get(), written);
        }
    }

    #[tokio::test]
    async fn each_poll_of_a_future_is_a_turn() {
        let counter = Arc::new(Counter::default());
        let of_future = counter.clone();
        in_turn(async move {
            flush(of_future.clone());
            assert_eq!(of_future.get(), 0);
            tokio::task::yield_now().await;
            assert_eq!(of_future.get(), 1);
        })
        .await;
    }

    const JUMP: Duration = Duration::from_secs(60);

    /// Sets the wall clock ahead, and returns by how much the clocks of this thread have moved.
    fn time_that_passes() -> Duration {
        let before = clock::now().wall;
        clock::for_test::jump(JUMP);
        let passed = clock::now().wall.duration_since(before);
        passed.expect("a jump ahead")
    }

    /// A write that takes time, as one that runs an application's disconnect handler may.
    #[derive(Default)]
    struct Slow(OnceLock<Duration>);

    impl Flush for Slow {
        fn flush_now(self: Arc<Self>, _: Instant) {
            self.0.get_or_init(time_that_passes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_clocks_stand_still_in_a_turn_and_go_on_in_its_writes_and_in_the_turns_of_a_future()
    {
        let slow = Arc::new(Slow::default());
        let within = scope(|| {
            flush(slow.clone());
            time_that_passes()
        });
        assert_eq!(within, Duration::ZERO);
        assert!(slow.0.get().is_some_and(|time| *time >= JUMP));
        assert!(in_turn(async { time_that_passes() }).await >= JUMP);
        // A turn of the gateway's own inside of it ends before the application's code goes on.
        let within = in_turn(async {
            scope(|| ());
            time_that_passes()
        });
        assert!(within.await >= JUMP);
    }

    #[tokio::test]
    async fn a_crowd_is_written_by_tasks_after_the_tasks_that_can_run() {
        let counter = Arc::new(Counter::default());
        let crowd = 2 * CONNECTIONS_PER_TASK + 5;
        let (after, so_far) = (counter.clone(), Arc::new(OnceLock::new()));
        let noted = so_far.clone();
        scope(|| (0..crowd).for_each(|_| flush(counter.clone())));
        tokio::spawn(async move { noted.set(after.get()) });
        assert_eq!(counter.get(), 0);
        while counter.get() < crowd {
            tokio::task::yield_now().await;
        }
        assert_eq!(counter.get(), crowd);
        assert_eq!(
            so_far.get(),
            Some(&0),
            "a message of that task would leave with the others"
        );
    }
}
