//! The delivery of queued events to one back end: at least once, in the order of each subject.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, sleep};

use super::{
    NotStored, Queue, now,
    store::{BatchLimits, Due, Store},
};
use crate::backends::{BackEnd, CallError, Failure};

/// Maximum number of deliveries to one back end at a time, besides its calls.
const CONCURRENCY: usize = 16;

/// Interval at which the file is searched for events whose time has come, and for changes by commands.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The first pause after a failed attempt, and the longest: each further attempt doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Time after which an event is given up, and the number of attempts before that: the time goes on while
/// the gateway is down.
const LONGEST_WAIT: Duration = Duration::from_secs(3 * 24 * 60 * 60);
const LEAST_ATTEMPTS: u32 = 10;

/// Fate of an event that was not delivered.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It was sent so often, and is sent again at this time, in milliseconds since the Unix epoch.
    Retry(u32, u64),
    /// It is a dead letter.
    Bury,
}

/// Delivers events to `back_end` until it is dropped.
pub(crate) async fn deliver(queue: &Queue, back_end: &Arc<BackEnd>) {
    let mut under_way = HashSet::new();
    let mut attempts = FuturesUnordered::new();
    let mut levels_at = Instant::now();
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
            batches: CONCURRENCY - attempts.len(),
            events: back_end.batch(),
            bytes: back_end.batch_bytes(),
        };
        let due = match limits.batches == 0 || back_end.is_open() {
            true => Ok(Vec::new()),
            false => queue.due(back_end.name(), limits, &under_way).await,
        };
        for batch in due.unwrap_or_default() {
            under_way.extend(batch.iter().map(|event| event.seq));
            attempts.push(attempt(queue, back_end, batch));
        }
        tokio::select! {
            Some(sent) = attempts.next(), if !attempts.is_empty() => {
                for seq in sent {
                    under_way.remove(&seq);
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

/// Sends a batch once, and notes the outcome. Returns the numbers of its events.
///
/// The failure of a batch counts for the first event of each subject, which is alone the next time. So an
/// event that its back end never takes holds up no others but those of its subject.
async fn attempt(queue: &Queue, back_end: &BackEnd, batch: Vec<Due>) -> Vec<i64> {
    let numbers: Vec<i64> = batch.iter().map(|event| event.seq).collect();
    let noted: Result<(), NotStored> = match send(back_end, &batch).await {
        Ok(()) => {
            let delivered = numbers.clone();
            let remove =
                move |store: &Store| delivered.iter().try_for_each(|seq| store.remove(*seq));
            queue.run(remove).await
        }
        Err(error) => {
            let heads = batch.iter().filter(|event| event.is_head);
            let fates: Vec<_> = heads
                .map(|event| (event.seq, fate(back_end, event, &error)))
                .collect();
            queue.run(move |store| note(store, &fates, &error)).await
        }
    };
    if noted.is_err() {
        // The events are sent again, and not at once.
        sleep(POLL_INTERVAL).await;
    }
    numbers
}

async fn send(back_end: &BackEnd, batch: &[Due]) -> Result<(), CallError> {
    let events = batch.iter().map(|event| (event.id.as_str(), &*event.body));
    back_end.deliver(&events.collect::<Vec<_>>()).await
}

/// Decides what becomes of an event after a failure, and logs its end.
fn fate(back_end: &BackEnd, event: &Due, error: &CallError) -> Next {
    let jitter = 0.8 + 0.4 * f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
    let next = next(event, error, now(), jitter);
    if next == Next::Bury {
        tracing::error!(backend = back_end.name(), event = %event.id, "given up: it is a dead letter");
    }
    next
}

fn note(store: &Store, fates: &[(i64, Next)], error: &CallError) -> rusqlite::Result<()> {
    for (seq, next) in fates {
        match next {
            Next::Retry(attempts, at) => store.retry(*seq, (*attempts, *at), &error.reason)?,
            Next::Bury => store.bury(*seq, now(), &error.reason)?,
        }
    }
    Ok(())
}

/// Decides what becomes of an event after a failure.
fn next(event: &Due, error: &CallError, now: u64, jitter: f64) -> Next {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if !error.was_sent {
        let pause = error.retry_after.unwrap_or(POLL_INTERVAL);
        return Next::Retry(event.attempts, now + millis(pause));
    }
    let attempts = event.attempts + 1;
    let is_old = now.saturating_sub(event.created_at) >= millis(LONGEST_WAIT);
    if is_old && attempts >= LEAST_ATTEMPTS {
        return Next::Bury;
    }
    let pause = FIRST_PAUSE * 2_u32.pow(event.attempts.min(12));
    let pause = pause.min(LONGEST_PAUSE).mul_f64(jitter);
    // The pause that the back end asks for, if it is longer.
    let asked = error.retry_after.filter(|_| error.failure == Failure::Busy);
    Next::Retry(attempts, now + millis(pause.max(asked.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_after_three_days_an_event_is_given_up() {
        let day = 24 * 60 * 60 * 1000;
        let event = |attempts| Due {
            seq: 1,
            id: "a".to_owned(),
            body: Vec::new(),
            created_at: 0,
            attempts,
            is_head: true,
        };
        let failed = CallError::temporary(Failure::Failed, "no");
        let refused = CallError::permanent("422");
        for (attempts, error, jitter, expected) in [
            (0, &failed, 1.0, Next::Retry(1, 1_001)),
            (0, &failed, 0.8, Next::Retry(1, 801)),
            (3, &refused, 1.0, Next::Retry(4, 8_001)),
            (40, &failed, 1.0, Next::Retry(41, 3_600_001)),
        ] {
            assert_eq!(next(&event(attempts), error, 1, jitter), expected);
        }
        // A pause that the back end asks for makes no wait shorter.
        for (attempts, secs, expected) in [(3, 60, 60_001), (3, 0, 8_001), (4, 15, 16_001)] {
            let busy = CallError::postponed("429", Duration::from_secs(secs));
            let retry = Next::Retry(attempts + 1, expected);
            assert_eq!(next(&event(attempts), &busy, 1, 1.0), retry);
        }
        // An event that was not sent has no attempt more, and is not given up.
        let unsent = CallError::cut_off(Duration::from_secs(7));
        assert_eq!(next(&event(3), &unsent, 1, 1.0), Next::Retry(3, 7_001));
        let retry = Next::Retry(40, 3 * day + 7_000);
        assert_eq!(next(&event(40), &unsent, 3 * day, 1.0), retry);
        assert!(matches!(
            next(&event(40), &failed, 3 * day - 1, 1.0),
            Next::Retry(..)
        ));
        assert_eq!(next(&event(40), &failed, 3 * day, 1.0), Next::Bury);
        // The gateway was down for three days.
        let retry = Next::Retry(9, 3 * day + 256_000);
        assert_eq!(next(&event(8), &failed, 3 * day, 1.0), retry);
        assert_eq!(next(&event(9), &failed, 3 * day, 1.0), Next::Bury);
    }
}
