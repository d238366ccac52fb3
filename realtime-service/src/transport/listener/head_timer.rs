//! The deadline of request heads, one after the other on one connection.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use hyper::rt::{Sleep, Timer};
use tokio::time::{self, Instant};

/// The timer of one connection for hyper, which asks for a deadline at each head.
///
/// Arming a timer and disarming it again costs a poll a tenth of its time. So the timer stays armed when a
/// head has come, and is armed anew only when it fires before the deadline of a later head.
#[derive(Clone, Default)]
pub(super) struct HeadTimer(Arc<Mutex<Option<Pin<Box<time::Sleep>>>>>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadDeadline {
            timer: self.clone(),
            deadline: deadline.into(),
        })
    }

    fn now(&self) -> StdInstant {
        Instant::now().into()
    }
}

/// The deadline of one head. No deadline is earlier than those before it.
struct HeadDeadline {
    timer: HeadTimer,
    deadline: Instant,
}

impl Future for HeadDeadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = armed.get_or_insert_with(|| Box::pin(time::sleep_until(self.deadline)));
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(self.deadline);
        }
    }
}

impl Sleep for HeadDeadline {}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_own_deadline() {
        let timer = HeadTimer::default();
        // The first head comes after 20 s, and the second one never.
        let first = timer.sleep(LIMIT);
        let time = Duration::from_secs(20);
        let in_time = time::timeout(time, first).await;
        assert!(in_time.is_err(), "not before its time");
        let start = Instant::now();
        timer.sleep(LIMIT).await;
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
        timer.sleep(LIMIT).await;
        assert_eq!(start.elapsed().as_secs(), 2 * LIMIT.as_secs());
    }
}
