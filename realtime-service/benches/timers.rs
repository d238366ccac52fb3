//! Lateness of 100,000 deadlines within one second, and of 100,000 deadlines of one instant, while a
//! second task of the same runtime measures how long it waits for its turn.
//!
//! Prints the median, the 99th percentile and the maximum of the lateness. Exits with 1 when one of
//! the first kind is more than 200 ms late. `WORK_US` sets the CPU time of one action, 0 by default.

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use realtime_service::timers::{Timer, Timers};
use tokio::time::Instant;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

const DEADLINES: u32 = 100_000;

/// The bound on the lateness.
const BOUND: Duration = Duration::from_millis(200);

/// The time to schedule all deadlines before the first of them is due.
const PREPARATION: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let work = std::env::var("WORK_US").map_or(Ok(0), |text| text.parse())?;
    let work = Duration::from_micros(work);
    let spread = measure(
        "within one second",
        Duration::from_secs(1) / DEADLINES,
        work,
    )
    .await;
    measure("of one instant", Duration::ZERO, work).await;
    Ok(match spread <= BOUND {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Schedules all deadlines, `step` apart, and returns the maximum of their lateness.
async fn measure(name: &str, step: Duration, work: Duration) -> Duration {
    let timers = Arc::<Timers>::default();
    let runner = timers.clone();
    let running = tokio::spawn(async move { runner.run().await });
    let late = Arc::new(Mutex::new(Vec::with_capacity(DEADLINES as usize)));
    let first = Instant::now() + PREPARATION;
    let kept: Vec<Timer> = (0..DEADLINES)
        .map(|number| {
            let (at, late) = (first + step * number, late.clone());
            timers.schedule(at, move || {
                let begun = Instant::now();
                while begun.elapsed() < work {
                    std::hint::spin_loop();
                }
                let mut late = late.lock().unwrap_or_else(PoisonError::into_inner);
                late.push(at.elapsed());
            })
        })
        .collect();
    let is_done = Arc::new(AtomicBool::new(false));
    let turns = tokio::spawn(longest_turn(first, is_done.clone()));
    while late.lock().unwrap_or_else(PoisonError::into_inner).len() < DEADLINES as usize {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_done.store(true, Ordering::Release);
    let turn = turns.await.unwrap_or_default();
    running.abort();
    drop(kept);
    let mut late = std::mem::take(&mut *late.lock().unwrap_or_else(PoisonError::into_inner));
    late.sort_unstable();
    let (median, high) = (late[late.len() / 2], late[late.len() * 99 / 100]);
    let maximum = late.last().copied().unwrap_or_default();
    println!("{DEADLINES} deadlines {name}, {work:?} of work each");
    println!(
        "late, median: {median:.1?}, p99: {high:.1?}, maximum: {maximum:.1?} (bound {BOUND:?})"
    );
    println!("longest wait of another task for its turn: {turn:.1?}");
    maximum
}

/// Returns the longest time that a task which is always ready waits for its turn.
async fn longest_turn(from: Instant, is_done: Arc<AtomicBool>) -> Duration {
    tokio::time::sleep_until(from).await;
    let mut longest = Duration::ZERO;
    while !is_done.load(Ordering::Acquire) {
        let asked = Instant::now();
        tokio::task::yield_now().await;
        longest = longest.max(asked.elapsed());
    }
    longest
}
