use std::time::Duration;

use tokio::{sync::mpsc, task::JoinHandle};

use super::*;

/// Timers, and the task that runs them.
fn running_timers() -> (Arc<Timers>, JoinHandle<()>) {
    let timers = Arc::new(Timers::default());
    let for_task = timers.clone();
    (timers, tokio::spawn(async move { for_task.run().await }))
}

/// Returns what schedules an action so many seconds from now, and receives the planned and the actual second of each
/// action that runs.
fn schedule_in_seconds(
    timers: &Arc<Timers>,
) -> (
    impl Fn(u64) -> Timer + '_,
    mpsc::UnboundedReceiver<(u64, u64)>,
) {
    let (ran, order) = mpsc::unbounded_channel();
    let start = Instant::now();
    let schedule = move |seconds: u64| {
        let ran = ran.clone();
        timers.schedule(start + Duration::from_secs(seconds), move || {
            ran.send((seconds, start.elapsed().as_secs()))
                .expect("the test listens");
        })
    };
    (schedule, order)
}

#[tokio::test(start_paused = true)]
async fn actions_run_in_the_order_of_their_time_and_not_before() {
    let (timers, running) = running_timers();
    let (schedule, mut order) = schedule_in_seconds(&timers);
    let kept = [schedule(30), schedule(10), schedule(20)];
    drop(schedule(15));
    for seconds in [10, 20, 30] {
        assert_eq!(order.recv().await, Some((seconds, seconds)));
    }
    drop(kept);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn an_action_that_panics_takes_no_other_along() {
    let (timers, running) = running_timers();
    let (ran, mut order) = mpsc::unbounded_channel();
    let at = Instant::now() + Duration::from_secs(1);
    let first = timers.schedule(at, || panic!("on purpose"));
    let second = timers.schedule(at, move || ran.send(()).expect("the test listens"));
    assert_eq!(order.recv().await, Some(()));
    drop((first, second));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_entries_of_one_instant_all_run() {
    let (timers, running) = running_timers();
    let (ran, mut count) = mpsc::unbounded_channel();
    let at = Instant::now() + Duration::from_secs(900);
    let kept: Vec<_> = (0..1000)
        .map(|number| {
            let ran = ran.clone();
            timers.schedule(at, move || ran.send(number).expect("the test listens"))
        })
        .collect();
    for _ in 0..1000 {
        assert!(count.recv().await.is_some());
    }
    assert_eq!(Instant::now(), at);
    drop(kept);
    running.abort();
}

/// Schedules `count` actions for one instant, each of which counts itself.
fn schedule_many(timers: &Arc<Timers>, at: Instant, count: usize) -> (Vec<Timer>, Arc<AtomicU64>) {
    let ran = Arc::new(AtomicU64::new(0));
    let kept = (0..count).map(|_| {
        let ran = ran.clone();
        timers.schedule(at, move || {
            ran.fetch_add(1, Ordering::Relaxed);
        })
    });
    (kept.collect(), ran)
}

#[tokio::test(start_paused = true)]
async fn other_tasks_run_between_two_slices() {
    const COUNT: usize = 10_000;
    let (timers, running) = running_timers();
    let at = Instant::now() + Duration::from_secs(1);
    let (kept, ran) = schedule_many(&timers, at, COUNT);
    tokio::time::sleep_until(at).await;
    // A task of its own waits in the same queue as the slices, which the test itself does not.
    let other = tokio::spawn(async move {
        let (mut seen, mut turns) = (0, 0);
        while seen < COUNT as u64 {
            tokio::spawn(async {}).await.expect("no panic");
            let now = ran.load(Ordering::Relaxed);
            turns += u64::from(now > seen);
            seen = now;
        }
        turns
    });
    let turns = other.await.expect("a task that has its turns");
    assert_eq!(Instant::now(), at, "all of them ran at their deadline");
    assert!(turns >= 100, "{turns} turns for {COUNT} actions");
    drop(kept);
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_action_delays_its_slice_alone() {
    let (timers, running) = running_timers();
    let at = Instant::now();
    let (release, is_released) = std::sync::mpsc::channel::<()>();
    let (begin, has_begun) = tokio::sync::oneshot::channel();
    let slow = timers.schedule(at, move || {
        begin.send(()).expect("the test listens");
        let _ = is_released.recv();
    });
    has_begun.await.expect("a slow action that has begun");
    let (ran, mut order) = mpsc::unbounded_channel();
    let count = 128;
    let kept: Vec<_> = (0..count)
        .map(|number| {
            let ran = ran.clone();
            timers.schedule(Instant::now(), move || {
                ran.send(number).expect("the test listens");
            })
        })
        .collect();
    for _ in 0..count {
        let next = tokio::time::timeout(Duration::from_secs(10), order.recv()).await;
        assert!(next.is_ok(), "the slow action delays the others");
    }
    release.send(()).expect("a slow action that waits");
    drop((kept, slow));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_met_whether_it_is_earlier_or_later_than_a_cancelled_one() {
    let (timers, running) = running_timers();
    let (schedule, mut order) = schedule_in_seconds(&timers);
    let cancelled = schedule(10);
    tokio::task::yield_now().await;
    drop(cancelled);
    let kept = [schedule(20), schedule(5)];
    for seconds in [5, 20] {
        assert_eq!(order.recv().await, Some((seconds, seconds)));
    }
    drop(kept);
    running.abort();
}
