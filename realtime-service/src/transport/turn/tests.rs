//! Turns, and the tasks that write a crowd.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

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
async fn the_clocks_stand_still_in_a_turn_and_go_on_in_its_writes_and_in_the_turns_of_a_future() {
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

/// A crowd that is written by several tasks.
const CROWD: usize = CONNECTIONS_PER_TURN + 2 * CONNECTIONS_PER_TASK;

/// Waits up to ten seconds until all of a crowd is written. Blocks the thread.
fn is_written_soon(counter: &Counter) -> bool {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while counter.get() < CROWD && std::time::Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    counter.get() == CROWD
}

/// Waits in the run queue until the tasks that are ready have run once, however the writers wait.
async fn step_back() {
    let mut is_first = true;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        match mem::take(&mut is_first) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
}

/// Occupies a thread until `end` is sent to.
async fn occupy(begun: Sender<()>, end: Receiver<()>) {
    begun.send(()).expect("the test waits");
    end.recv().expect("the end");
}

#[test]
fn a_crowd_is_written_by_the_other_threads_when_its_own_is_busy() {
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).build().expect("a runtime");
    let (begun, has_begun) = mpsc::channel();
    let (release, end) = mpsc::channel();
    runtime.spawn(occupy(begun.clone(), end));
    has_begun.recv().expect("one thread is busy");
    let counter = Arc::new(Counter::default());
    let of_task = counter.clone();
    // All of this runs on the other thread.
    let busy = runtime.spawn(async move {
        scope(|| (0..CROWD).for_each(|_| flush(of_task.clone())));
        let busy = tokio::spawn(async move {
            step_back().await;
            assert_eq!(of_task.get(), 0);
            begun.send(()).expect("the test waits");
            is_written_soon(&of_task)
        });
        busy.await.expect("no panic")
    });
    has_begun.recv().expect("the other thread is busy too");
    release.send(()).expect("the task waits");
    assert!(runtime.block_on(busy).expect("no panic"));
}

fn runtime_of_one_thread() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

#[test]
fn a_crowd_is_written_when_its_tasks_are_dropped() {
    for runs in [false, true] {
        let (runtime, counter) = (runtime_of_one_thread(), Arc::new(Counter::default()));
        let entered = runtime.enter();
        scope(|| (0..CROWD).for_each(|_| flush(counter.clone())));
        drop(entered);
        if runs {
            runtime.block_on(async {
                while counter.get() < CROWD {
                    yield_to_ready().await
                }
            });
        } else {
            assert_eq!(counter.get(), 0);
        }
        drop(runtime);
        assert_eq!(counter.get(), CROWD);
    }
}
