//! The delivery of queued events to one back end: at least once, in the order of each subject.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, sleep};

use super::{
    Queue, now,
    store::{BatchLimits, Due, LONGEST_HOLD, Store},
};
use crate::backends::{BackEnd, CallError, Failure, TOO_LARGE};

/// Maximum number of deliveries to one back end at a time, besides its calls.
const CONCURRENCY: usize = 16;

/// Interval at which the file is searched for events whose time has come, and for changes by commands. Time for
/// which nothing is sent after the gateway had no place for an event.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The first pause after a failed attempt, and the longest: each further attempt doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

const _: () = assert!(
    LONGEST_PAUSE.as_secs() * 12 / 10 <= LONGEST_HOLD.as_secs(),
    "the longest pause with its jitter"
);

/// The longest pause between two attempts to write an outcome to the file.
const LONGEST_WRITE_PAUSE: Duration = Duration::from_secs(60);

/// Time after which an event is given up, and the number of attempts before that: the time goes on while
/// the gateway is down.
const LONGEST_WAIT: Duration = Duration::from_secs(3 * 24 * 60 * 60);
const LEAST_ATTEMPTS: u32 = 10;

/// Fate of an event that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// It was sent so often, and is sent again at this time, in milliseconds since the Unix epoch.
    Retry(u32, u64),
    /// It was sent so often, and is a dead letter.
    Bury(u32),
}

/// The end of one attempt to send a batch.
struct Attempted {
    /// The numbers of its events.
    numbers: Vec<i64>,
    /// False when the gateway had no place for it: then nothing was sent, and nothing is in the file about it.
    had_place: bool,
}

/// Delivers events to `back_end` until it is dropped.
pub(crate) async fn deliver(queue: &Queue, back_end: &Arc<BackEnd>) {
    let mut under_way = HashSet::new();
    let mut attempts = FuturesUnordered::new();
    let mut levels_at = Instant::now();
    let mut rest_until = levels_at;
    loop {
        // From before the file is read, so that nothing stored meanwhile waits for the next poll.
        let mut stored = std::pin::pin!(queue.stored.notified());
        stored.as_mut().enable();
        if Instant::now() >= levels_at {
            levels_at = Instant::now() + POLL_INTERVAL;
            queue.write_again();
            show_levels(queue, back_end).await;
        }
        let limits = BatchLimits {
            batches: back_end.openings().min(CONCURRENCY - attempts.len()),
            events: back_end.batch(),
            bytes: back_end.batch_bytes(),
        };
        let due = match limits.batches == 0 || Instant::now() < rest_until {
            true => Ok(Vec::new()),
            false => queue.due(back_end.name(), limits, &under_way).await,
        };
        for batch in due.unwrap_or_default() {
            under_way.extend(batch.iter().map(|event| event.seq));
            attempts.push(attempt(queue, back_end, batch));
        }
        tokio::select! {
            Some(attempted) = attempts.next(), if !attempts.is_empty() => {
                let Attempted { numbers, had_place } = attempted;
                for seq in numbers {
                    under_way.remove(&seq);
                }
                if !had_place {
                    rest_until = Instant::now() + POLL_INTERVAL;
                }
            }
            () = stored => {}
            () = sleep(POLL_INTERVAL) => {}
        }
    }
}

async fn show_levels(queue: &Queue, back_end: &BackEnd) {
    if let Ok(levels) = queue.levels(back_end.name()).await {
        let age = levels
            .oldest_at
            .map_or(0, |at| now().saturating_sub(at) / 1000);
        back_end
            .metrics()
            .set_queue(levels.queued, levels.dead, age);
    }
}

/// Sends a batch once, and writes the outcome to the file, however often that fails: the events keep their places,
/// and are not sent again meanwhile.
///
/// The failure of a batch counts for the first event of each subject, which is alone the next time. So an
/// event that its back end never takes holds up no others but those of its subject.
async fn attempt(queue: &Queue, back_end: &BackEnd, batch: Vec<Due>) -> Attempted {
    let numbers: Vec<i64> = batch.iter().map(|event| event.seq).collect();
    // It was stored before `bytes` of its back end was made smaller. No batch of several events has one.
    if batch.iter().any(|event| !back_end.holds(event.body.len())) {
        let all: Vec<_> = batch
            .iter()
            .map(|event| (event.seq, Next::Bury(event.attempts)))
            .collect();
        write(queue, move |store| note(store, &all, TOO_LARGE)).await;
        return Attempted {
            numbers,
            had_place: true,
        };
    }
    let had_place = match send(back_end, &batch).await {
        Ok(()) => {
            let delivered = numbers.clone();
            let remove =
                move |store: &Store| delivered.iter().try_for_each(|seq| store.remove(*seq));
            write(queue, remove).await;
            true
        }
        Err(error) if error.was_sent => {
            let heads = batch.iter().filter(|event| event.is_head);
            let fates: Vec<_> = heads
                .map(|event| (event.seq, fate(back_end, event, &error)))
                .collect();
            write(queue, move |store| note(store, &fates, &error.reason)).await;
            true
        }
        Err(_) => false,
    };
    Attempted { numbers, had_place }
}

/// Runs `work` in transactions until one of them is durable, with growing pauses.
async fn write(
    queue: &Queue,
    work: impl Fn(&Store) -> rusqlite::Result<()> + Clone + Send + 'static,
) {
    let mut pause = POLL_INTERVAL;
    while queue.run(work.clone()).await.is_err() {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_WRITE_PAUSE);
    }
}

async fn send(back_end: &BackEnd, batch: &[Due]) -> Result<(), CallError> {
    let events = batch.iter().map(|event| (event.id.as_str(), &*event.body));
    back_end.deliver(&events.collect::<Vec<_>>()).await
}

/// Decides what becomes of an event after a failure, and logs its end.
fn fate(back_end: &BackEnd, event: &Due, error: &CallError) -> Next {
    let jitter = 0.8 + 0.4 * f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
    let next = next(event, error, now(), jitter);
    if matches!(next, Next::Bury(_)) {
        tracing::error!(backend = back_end.name(), event = %event.id, "given up: it is a dead letter");
    }
    next
}

fn note(store: &Store, fates: &[(i64, Next)], problem: &str) -> rusqlite::Result<()> {
    for (seq, next) in fates {
        match next {
            Next::Retry(attempts, at) => store.retry(*seq, (*attempts, *at), problem)?,
            Next::Bury(attempts) => store.bury(*seq, (*attempts, now()), problem)?,
        }
    }
    Ok(())
}

/// Decides what becomes of an event that was sent in vain.
fn next(event: &Due, error: &CallError, now: u64, jitter: f64) -> Next {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let attempts = event.attempts + 1;
    let is_old = now.saturating_sub(event.created_at) >= millis(LONGEST_WAIT);
    if is_old && attempts >= LEAST_ATTEMPTS {
        return Next::Bury(attempts);
    }
    let pause = FIRST_PAUSE * 2_u32.pow(event.attempts.min(12));
    let pause = pause.min(LONGEST_PAUSE).mul_f64(jitter);
    // The pause that the back end asks for, if it is longer.
    let asked = error.retry_after.filter(|_| error.failure == Failure::Busy);
    let asked = asked.unwrap_or_default().min(LONGEST_PAUSE);
    Next::Retry(attempts, now + millis(pause.max(asked)))
}

#[cfg(test)]
mod tests;
